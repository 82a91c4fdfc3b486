"""`resume=<run folder>`: its own config with what is typed on top; another run is refused; nothing of the folder runs."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.configs import TINY
from helpers.pictures import FOLDER, write_folder
from helpers.runs import edit_config, interrupt, outcome

from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.cli import error_messages, launch, resume
from vgg_nll.config import compose
from vgg_nll.inference import trained_model
from vgg_nll.run_folder import paths
from vgg_nll.run_folder.record import RunRecord

Command = Callable[..., int]
QUICK = (*TINY, "tracking=none")
NUMBER = re.compile(r"^( *\w+: )(\d[\d.e-]*)", re.MULTILINE)  # of a YAML file
ODD_NAMES = ("a\\", "a\\'b", "${oc.env:HOME}", "numpy.savetxt", "\\${x}", "a{b}[c")
DAMAGES = (None, b"", b"\x80\xff\x00", b"- a: [", b"a: b: c", b"7", b'{"a": 1}', b"# run a, checksum b\na: 1")


@pytest.mark.slow
def test_run_then_resume(command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command(*QUICK, "loss=all_logit", "trainer.steps=2", "hydra.run.dir=first") == 0
    assert (tmp_path / "first/DONE").exists()
    assert "untrained loss" in (tmp_path / "first/train.log").read_text()
    assert checkpoint_file.load(tmp_path / "first/checkpoints/last.pt")["step"] == 2
    before = (tmp_path / "first/.hydra/config.yaml").read_text()
    capfd.readouterr()
    overrides = ("model=vgg16_bn", "data.num_classes=3", "loss=argmax", "trainer.batch_size=2", "optimizer=sgd")
    for override in (*overrides, "augment=mixup", "trainer.ema_decay=0.5"):
        assert command("resume=first", override) == 1
        error = capfd.readouterr().err
        assert re.fullmatch(r"error: resume=first: was made with .*; drop the override, start a new run, or .*\n", error), error
    assert command("resume=first", "trainer.steps=abc") == 1
    assert "error: trainer.steps=abc: must be" in capfd.readouterr().err
    assert (tmp_path / "first/.hydra/config.yaml").read_text() == before
    capfd.readouterr()
    assert command("--cfg", "job", "resume=first", "trainer.steps=4") == 0
    assert "AllLogitNLL" in capfd.readouterr().out  # its own overrides with the given ones; nothing is trained
    assert command("resume=first", "trainer.steps=4") == 0
    assert checkpoint_file.load(tmp_path / "first/checkpoints/last.pt")["step"] == 4
    assert "resumed first at step 2" in capfd.readouterr().out
    assert re.search("steps: 4|steps=4", (tmp_path / "first/.hydra/config.yaml").read_text())
    assert "- trainer.steps=4\n" in (tmp_path / "first/.hydra/overrides.yaml").read_text()


@pytest.mark.slow
def test_only_the_best_weights_are_kept(command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """After the end: they can be evaluated and fine-tuned, and the messages say why nothing can be continued."""
    saves = "checkpoint.every_steps=1"  # so that there is a previous.pt
    assert command(*QUICK, "trainer.steps=2", "hydra.run.dir=run", saves, "checkpoint.keep=best") == 0
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["best.pt"]
    assert trained_model.load(tmp_path / "run", device="cpu").class_names
    capfd.readouterr()
    assert command("resume=run") == 0
    assert "run is finished (trainer.steps=2): nothing was changed" in capfd.readouterr().out
    assert command("resume=run", "trainer.steps=3") == 1
    words = "no checkpoints/last.pt (checkpoint.keep=best removed it); model.weights=run/checkpoints/best.pt starts a new run"
    assert words in capfd.readouterr().err
    assert command(*QUICK, "hydra.run.dir=run") == 1
    assert "holds a finished run already, of which the best weights were kept" in capfd.readouterr().err
    assert command(*QUICK, "trainer.steps=1", "hydra.run.dir=new", "model.weights=run/checkpoints/best.pt") == 0


@pytest.mark.slow
def test_a_finished_run_says_so_and_stays_as_it_is(command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command(*QUICK, "trainer.steps=2", "hydra.run.dir=run") == 0

    def snapshot() -> dict[str, tuple[bytes, int]]:
        files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
        return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    before = snapshot()
    for arguments in ([], ["trainer.steps=2"], ["trainer.steps=1"]):
        assert command("resume=run", *arguments) == 0
        assert "run is finished (trainer.steps=" in capfd.readouterr().out
        assert snapshot() == before


@pytest.mark.slow
def test_resume_strict(command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With another loss or batch size a run continues, with a warning, and the folder says so; with another model, never."""
    assert command(*QUICK, "loss=argmax", "trainer.steps=1", "hydra.run.dir=run") == 0
    assert command("resume=run", "resume_strict=false", "model=vgg16_bn", "trainer.steps=2") == 1
    assert "error: resume=run: the weights are of another model" in capfd.readouterr().err
    assert command("resume=run", "resume_strict=false", "loss=all_logit", "trainer.batch_size=2", "trainer.steps=3") == 0
    error = capfd.readouterr().err
    assert "warning: continues as another run: it was made with" in error
    assert "trainer.batch_size=4 (now 2)" in error
    assert checkpoint_file.load(tmp_path / "run/checkpoints/last.pt")["step"] == 3
    assert command("resume=run", "trainer.steps=4") == 0  # the new settings are its own now
    assert command("resume=run", "trainer.steps=5", "loss=argmax") == 1
    assert "loss._target_=vgg_nll.losses.AllLogitNLL" in capfd.readouterr().err


@pytest.mark.slow
def test_a_target_that_is_typed_is_allowed(
    command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in the folder alone is refused before it is imported."""
    (tmp_path / "mine.py").write_text(
        "import pathlib\nfrom vgg_nll.losses import ArgmaxNLL\npathlib.Path('ran').touch()\nclass Mine(ArgmaxNLL): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert command(*QUICK, "trainer.steps=1", "loss._target_=mine.Mine", "hydra.run.dir=run") == 0
    assert (tmp_path / "ran").exists()
    (tmp_path / "ran").unlink()
    sys.modules.pop("mine")
    capfd.readouterr()
    assert command("resume=run", "trainer.steps=2") == 1
    assert capfd.readouterr().err == (
        "error: resume=run: run/run.json: loss._target_=mine.Mine: no file in configs/ names this here; type it to allow it\n"
    )
    assert not (tmp_path / "ran").exists()
    assert command("resume=run", "trainer.steps=2", "loss._target_=mine.Mine") == 0
    assert checkpoint_file.load(tmp_path / "run/checkpoints/last.pt")["step"] == 2


@pytest.mark.slow
def test_configs_that_changed_in_between_change_nothing(
    command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run keeps the config it had, all of it: here every number of every file in configs/ is another one later."""
    arguments = (*QUICK, "trainer.steps=4", "trainer.validate_every_epochs=0.5")
    assert command(*arguments, "hydra.run.dir=whole") == 0
    with monkeypatch.context() as patch:
        interrupt(patch, 2, "_step")
        assert command(*arguments, "hydra.run.dir=parts") == 143
    changed = Path(shutil.copytree(compose.CONFIGS, tmp_path / "configs"))
    for path in changed.rglob("*.yaml"):
        path.write_text(NUMBER.sub(lambda found: f"{found[1]}{float(found[2]) * 2 + 1:g}", path.read_text()))
    for module in (compose, resume, launch, error_messages):
        monkeypatch.setattr(module, "CONFIGS", changed)
    assert command("--cfg", "job") == 0
    assert "seed: 1\n" in capfd.readouterr().out
    assert command("resume=parts") == 0
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")
    whole, parts = (RunRecord.open(tmp_path / name) for name in ("whole", "parts"))
    assert whole.config == parts.config


@pytest.mark.slow
def test_odd_folder_names(command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Backslashes, quotes, dollars: what is typed after `resume=` is a path, and nothing else."""
    assert command(*QUICK, "trainer.steps=1", "hydra.run.dir=run") == 0
    for steps, name in enumerate(ODD_NAMES, 2):
        before = {path.name for path in tmp_path.iterdir()}
        (folder,) = (path for path in tmp_path.iterdir() if path.is_dir() and (path / "DONE").exists())
        folder.rename(tmp_path / name)
        assert command(f"resume={name}", f"trainer.steps={steps}") == 0, (name, capfd.readouterr().err)
        assert checkpoint_file.load(tmp_path / name / "checkpoints/last.pt")["step"] == steps
        assert {path.name for path in tmp_path.iterdir()} == before - {folder.name} | {name}


@pytest.mark.slow
def test_one_process_at_a_time(command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command(*QUICK, "trainer.steps=1", "hydra.run.dir=run") == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "LOCK_SECONDS", 0)
        with paths.lock_run_folder(tmp_path / "run"):
            assert command("resume=run", "trainer.steps=2") == 1
    assert "run: another process is training there; wait until it ends, or stop it" in capfd.readouterr().err
    assert command("resume=run", "trainer.steps=2") == 0


@pytest.mark.slow
def test_a_refused_start_leaves_the_log_of_the_run_that_is_there(command: Command, tmp_path: Path) -> None:
    """Which has not begun yet: it has the lock, and the log that Hydra opened for it."""
    (tmp_path / "run").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "LOCK_SECONDS", 0)
        with paths.lock_run_folder(tmp_path / "run"):
            assert command(*QUICK, "trainer.steps=1", "hydra.run.dir=run") == 1
            assert {path.name for path in (tmp_path / "run").iterdir()} == {".lock", "train.log"}


@pytest.mark.slow
def test_a_record_that_is_lost(command: Command, capfd: pytest.CaptureFixture[str], finished: Path, tmp_path: Path) -> None:
    """The messages do not lead in a circle."""
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    (run / "run.json").unlink()
    assert command(*QUICK, "trainer.steps=1", "hydra.run.dir=run") == 1
    error = capfd.readouterr().err
    assert "run.json, is gone; model.weights=" in error and "resume=" not in error
    assert command("resume=run") == 1
    assert "run: holds no run (there is no run.json)" in capfd.readouterr().err
    weights = f"model.weights={run}/checkpoints/best.pt"
    assert command(*QUICK, "trainer.steps=1", "hydra.run.dir=new", weights) == 0


@pytest.mark.slow
def test_a_length_that_is_no_number(
    command: Command, capfd: pytest.CaptureFixture[str], finished: Path, tmp_path: Path
) -> None:
    """Its group is chosen again, so it is not checked."""
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    edit_config(run, **{"trainer.epochs": "x"})
    assert command("resume=run", "trainer=default", "trainer.batch_size=4", "trainer.epochs=1") == 1
    assert "has done 12 steps already, more than the 6 of this config" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("content", DAMAGES)
def test_damaged_files(
    command: Command,
    capfd: pytest.CaptureFixture[str],
    finished: Path,
    tmp_path: Path,
    content: bytes | None,
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    (run / "run.json").unlink() if content is None else (run / "run.json").write_bytes(content)
    assert command("resume=run", "trainer.epochs=3") == 1
    error = capfd.readouterr().err
    assert error.startswith("error: resume=run: ")
    assert ("run: holds no run (there is no run.json)" if content is None else "run/run.json: is damaged") in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_resume_with_another_optimizer(command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Other settings are taken; another kind of optimizer has no moments to continue with, and leaves the run as it is."""
    sgd = ("optimizer=sgd", "optimizer.momentum=0.5", "optimizer.nesterov=false")
    assert command(*QUICK, *sgd, "trainer.steps=1", "hydra.run.dir=run") == 0
    before = (tmp_path / "run/.hydra/overrides.yaml").read_text()
    assert command("resume=run", "trainer.steps=2", "optimizer=adamw", "resume_strict=false") == 1
    assert "error: resume=run: the optimizer is of another kind than the checkpoint's" in capfd.readouterr().err
    assert (tmp_path / "run/.hydra/overrides.yaml").read_text() == before
    assert (tmp_path / "run/DONE").exists()
    assert command("resume=run", "trainer.steps=2", "optimizer.weight_decay=0.25", "resume_strict=false") == 0
    groups = checkpoint_file.load(tmp_path / "run/checkpoints/last.pt")["optimizer"]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.25, 0.0]


@pytest.mark.slow
def test_fewer_steps_than_were_done(command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command(*QUICK, "trainer.steps=3", "hydra.run.dir=run") == 0
    (tmp_path / "run/DONE").unlink()
    assert command("resume=run", "trainer.steps=2") == 1
    assert "has done 3 steps already, more than the 2 of this config" in capfd.readouterr().err
    assert "steps: 3\n" in (tmp_path / "run/.hydra/config.yaml").read_text()


@pytest.mark.slow
def test_a_finished_run_whose_numbers_are_damaged(command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It is evaluated again."""
    assert command(*QUICK, "trainer.steps=2", "hydra.run.dir=run") == 0
    metrics = tmp_path / "run/metrics.json"
    before = json.loads(metrics.read_text())
    metrics.write_text(metrics.read_text().replace('"accuracy": 0', '"accuracy": 1', 1))
    capfd.readouterr()
    assert command("resume=run") == 0
    assert "metrics.json: is damaged: its checksum does not fit; the run is evaluated again" in capfd.readouterr().err
    assert json.loads(metrics.read_text())["test"] == before["test"]


@pytest.mark.slow
def test_a_finished_run_whose_tables_are_damaged(command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It is evaluated again, which writes both tables as they were."""
    assert command(*QUICK, "trainer.steps=2", "hydra.run.dir=run") == 0
    tables = [tmp_path / "run" / name for name in ("metrics.csv", "predictions.csv")]
    before = [path.read_bytes() for path in tables]
    for path in tables:
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))  # which is no damage
    capfd.readouterr()
    assert command("resume=run") == 0
    assert "run is finished (trainer.steps=2): nothing was changed" in capfd.readouterr().out
    tables[0].unlink()
    tables[1].write_bytes(before[1][:-9])
    assert command("resume=run") == 0
    assert capfd.readouterr().err.splitlines()[:2] == [
        "warning: run/metrics.csv: is missing; copy it again, or resume=run writes it again; the run is evaluated again",
        "warning: run/predictions.csv: is damaged, or of another run: its checksum in metrics.json does not fit; copy it "
        "again, or resume=run writes it again; the run is evaluated again",
    ]
    assert [path.read_bytes() for path in tables] == before


def rename(root: Path) -> None:
    for split in ("train", "val", "test"):
        (root / split / "one").rename(root / split / "zebra")


def add_a_class(root: Path) -> None:
    for split in ("train", "val", "test"):
        shutil.copytree(root / split / "one", root / split / "more")


def reorder(root: Path) -> None:
    """The same names and numbers, other pictures: a file gets another name."""
    (root / "train/one/0.png").rename(root / "train/one/z.png")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (rename, "classes one -> zebra"),
        (lambda root: (root / "train/one/0.png").unlink(), "train 24 -> 23 images"),
        (lambda root: shutil.copy(root / "val/one/0.png", root / "val/one/x.png"), "val 24 -> 25 images"),
        (add_a_class, "classes none -> more; test 24 -> 32 images; train 24 -> 32 images; val 24 -> 32 images"),
        (reorder, "other images of the same number"),
    ],
)
def test_data_that_has_changed(
    command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path, change: Callable[[Path], object], words: str
) -> None:
    write_folder(tmp_path / "data")
    options = ("data.root=data", "data.num_workers=0", "model.width=0.0625", "device=cpu", "tracking=none")
    assert command(*FOLDER, *options, "trainer.steps=1", "hydra.run.dir=run") == 0
    change(tmp_path / "data")
    before = (tmp_path / "run/run.json").read_bytes()
    capfd.readouterr()
    assert command("resume=run", "trainer.steps=2") == 1
    error = capfd.readouterr().err
    assert error == (
        f"error: resume=run: its data has changed: {words}; restore it, start a new run, or take it as it is with "
        "resume_strict=false\n"
    )
    assert (tmp_path / "run/run.json").read_bytes() == before
    code = command("resume=run", "trainer.steps=2", "resume_strict=false")
    if "classes none" in words:  # the network has no output for one more
        assert code == 1
    else:
        assert code == 0
        assert f"warning: continues with other data: {words}" in capfd.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 4 bytes")]
)
def test_too_little_memory_is_not_damage(
    command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is given up for it: last.pt stays, and no older state takes its place."""
    assert command(*QUICK, "trainer.steps=2", "hydra.run.dir=run") == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run/checkpoints").iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr("torch.load", lambda *_, **__: (_ for _ in ()).throw(error))
        capfd.readouterr()
        assert command("resume=run", "trainer.steps=3") == 1
    assert capfd.readouterr().err.startswith("error: out of memory: ")
    assert {path: path.read_bytes() for path in (tmp_path / "run/checkpoints").iterdir()} == before


@pytest.mark.slow
def test_a_run_whose_checkpoints_were_never_written(
    command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails; and what can be done then is said by every way on."""
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_file, "save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        assert command(*QUICK, "trainer.steps=2", "hydra.run.dir=run") == 1
    assert "no checkpoint could be written: disk full" in capfd.readouterr().err
    assert command("resume=run") == 1
    assert "there is no checkpoints/last.pt (its checkpoints were never written: start it again)" in capfd.readouterr().err
    assert command(*QUICK, "trainer.steps=2", "hydra.run.dir=run") == 1
    assert "holds the results of a run without checkpoints: remove it, or start in another folder" in capfd.readouterr().err
    shutil.rmtree(tmp_path / "run")
    assert command(*QUICK, "trainer.steps=2", "hydra.run.dir=run") == 0
