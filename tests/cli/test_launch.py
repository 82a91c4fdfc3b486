"""What a person types, and what comes back: one line per fault, exit code 1, nothing left behind."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from helpers.configs import ROOT, TINY
from helpers.pictures import FOLDER, write_folder

from vgg_nll import run_folder
from vgg_nll.training import checkpoint

Command = Callable[..., int]


def train_py(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python train.py <arguments>` as a process of its own, in this folder."""
    line = [sys.executable, str(ROOT / "train.py"), *arguments]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, env=os.environ | environment)


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["--help"], 0, "every_steps: 500"),
        (["--cfg", "job", "optimizer.lr=7"], 0, "lr: 7"),
        (["-sc", "query=bash"], 0, "loss=argmax_prediction"),
        (["trainer.epoch=3"], 1, "(did you mean trainer.epochs?)"),
        (["loss=argmx", "hydra.run.dir=new"], 1, "(did you mean argmax?)"),
        (["seed=3"], 99, ""),
        (["-cd", ".", "seed=3"], 99, ""),
        (["hydra.mode=MULTIRUN", "seed=0,1"], 99, ""),
        (["resume=runs/a", "optimizer.momentum=0.5"], 99, ""),
    ],
)
def test_answers_without_pytorch(tmp_path: Path, arguments: list[str], code: int, expected: str) -> None:
    """In a second, where loading PyTorch takes several: here that ends with code 99."""
    for name in ("torch", "torchvision", "matplotlib", "tensorboard"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(99)")
    typed = {"COMP_LINE": "python train.py loss=ar", "COMP_POINT": "23"}  # for the completion
    done = train_py(tmp_path, *arguments, PYTHONPATH=str(tmp_path), **typed)
    assert done.returncode == code, done.stderr
    assert expected in done.stdout + done.stderr
    assert {path.suffix for path in tmp_path.iterdir()} == {".py"}  # no folder of a run that did not begin


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["loss=argmx"], ["error: loss=argmx: there is no such loss; there are all_logit, argmax, argmax_prediction, "]),
        (["loss=argmx"], ["(did you mean argmax?)"]),
        (["model=resnet"], ["error: model=resnet: there is no such model; there are vgg16, vgg16_bn"]),
        (["data=mnist"], ["error: data=mnist: there is no such data; there are cifar10, cifar100, digits, "]),
        (["trainer.epoch=3"], ["error: trainer.epoch: there is no such key (did you mean trainer.epochs?)"]),
        (["optimiser.lr=1"], ["error: optimiser.lr: there is no such key (did you mean optimizer.lr?)"]),
        (["los=argmax"], ["error: los: there is no such key (did you mean loss?)"]),
        (["data=synthetic", "data.num_class=3"], ["(did you mean data.num_classes?)"]),
        (["trainer.batch_size=0"], ["error: trainer.batch_size=0: must be a whole number, at least 1"]),
        (
            ["trainer.batch_size=0", "optimizer.lr=-1", "trainer.epochs=abc"],
            [
                "error: trainer.batch_size=0: ",
                "error: optimizer.lr=-1: ",
                "error: trainer.epochs=abc: must be a number, more than 0",
            ],
        ),
        (["resume=nowhere"], ["error: resume=nowhere: there is no such folder"]),
        (["resume=."], ["error: resume=.: holds no run to go on with (no checkpoints/last.pt, or no .hydra/)"]),
        (["resume="], ["error: resume=: is empty; it takes a run folder"]),
        (["-m", "resume=x", "seed=0,1"], ["error: resume=x: goes with one run; leave out -m"]),
        (["data=image_folder"], ["error: data.root=???: is required"]),
        (
            ["data=image_folder", "data.root=nowhere"],
            ["error: data.root=nowhere: there is no such folder; expected nowhere/train/"],
        ),
        (["trainer.batch_size=5000"], ["error: trainer.batch_size=5000 is more than the 1258 training images: lower it"]),
        (["+loss.gamma=2"], ["error: loss: ", "gamma"]),
        (["loss"], ["error: ", "loss"]),
        (["hydra.run.dir=/proc/x/y"], ["error: /proc/x", "hydra.run.dir=<folder> takes another run folder"]),
    ],
)
def test_bad_input(command: Command, capfd: pytest.CaptureFixture, tmp_path: Path, arguments: list, expected: list) -> None:
    assert command(*arguments) == 1
    error = capfd.readouterr().err
    assert all(words in error for words in expected), error
    assert all(line.startswith("error: ") for line in error.splitlines()), error
    assert len(error.splitlines()) == sum(words.startswith("error: ") for words in expected) or len(error.splitlines()) == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "something was left behind"


def test_cuda_where_there_is_none(command: Command, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert command("device=cuda") == 1
    assert "error: device=cuda: PyTorch sees 0 CUDA devices here; use device=cpu or device=auto" in capfd.readouterr().err


def test_a_config_that_is_no_yaml(command: Command, capfd: pytest.CaptureFixture, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text("# @package _global_\ntrainer: [1, 2\n")
    assert command("--config-dir", str(tmp_path), "experiment=mine") == 1
    error = capfd.readouterr().err
    assert re.fullmatch(r"error: a config is no YAML: .* in .*experiment/mine\.yaml.*, line \d+, column \d+\n", error), error


def test_full_error_shows_the_traceback(tmp_path: Path) -> None:
    """As a process of its own, from another working directory; without the variable there is none (test_bad_input)."""
    done = train_py(tmp_path, "trainer.batch_size=0", HYDRA_FULL_ERROR="1")
    assert "Traceback" in done.stderr
    assert "ConfigError" in done.stderr
    assert done.returncode == 1


def test_an_interrupt_while_pytorch_loads_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)")
    for options in ((), ("-m", "seed=0,1")):
        assert train_py(tmp_path, *TINY, *options, PYTHONPATH=str(tmp_path)).returncode == -signal.SIGINT
    assert {path.name for path in tmp_path.iterdir()} <= {"torch.py", "__pycache__"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("inside", ["our code", "a library that makes an error of it"])
def test_a_signal_before_the_first_step_leaves_nothing(
    command: Command, number: int, inside: str, capfd: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(number)

    def make_data(*_: object) -> None:
        try:
            signal.raise_signal(number)
        except BaseException as end:
            raise end if inside == "our code" else ImportError("initialization failed") from end

    monkeypatch.setattr("vgg_nll.run.build.make_data", make_data)
    assert command(*TINY, "hydra.run.dir=run") == 128 + number
    assert capfd.readouterr().err == f"stopped by {signal.Signals(number).name}: before the first step\n"
    assert not (tmp_path / "run").exists()
    assert signal.getsignal(number) is before


def test_run_then_resume(command: Command, capfd: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert command(*TINY, "loss=all_logit", "trainer.steps=2", "hydra.run.dir=first") == 0
    assert (tmp_path / "first/DONE").exists()
    assert "untrained loss" in (tmp_path / "first/train.log").read_text()
    assert checkpoint.load(tmp_path / "first/checkpoints/last.pt")["step"] == 2
    before = (tmp_path / "first/.hydra/config.yaml").read_text()
    capfd.readouterr()
    for override in ("model=vgg16_bn", "data.num_classes=3", "loss=argmax", "trainer.batch_size=2", "optimizer=sgd"):
        assert command("resume=first", override) == 1
        error = capfd.readouterr().err
        assert re.fullmatch(r"error: resume=first: was made with .*; drop the override, start a new run, or .*\n", error), error
    assert command("resume=first", "trainer.steps=abc") == 1
    assert "error: trainer.steps=abc: must be" in capfd.readouterr().err
    assert (tmp_path / "first/.hydra/config.yaml").read_text() == before
    lines = before.splitlines(keepends=True)  # as a version wrote it that did not know all settings
    (tmp_path / "first/.hydra/config.yaml").write_text("".join(line for line in lines if "cutout_pixels" not in line))
    capfd.readouterr()
    assert command("--cfg", "job", "resume=first", "trainer.steps=4") == 0
    assert "AllLogitNLL" in capfd.readouterr().out  # its own overrides with the given ones, and nothing trained
    assert command("resume=first", "trainer.steps=4") == 0
    assert checkpoint.load(tmp_path / "first/checkpoints/last.pt")["step"] == 4
    assert "resumed first at step 2" in capfd.readouterr().out
    assert re.search("steps: 4|steps=4", (tmp_path / "first/.hydra/config.yaml").read_text())
    assert "- trainer.steps=4\n" in (tmp_path / "first/.hydra/overrides.yaml").read_text()


def test_a_finished_run_says_so_and_stays_as_it_is(command: Command, capfd: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert command(*TINY, "trainer.steps=2", "hydra.run.dir=run") == 0

    def look() -> dict[str, tuple[bytes, int]]:
        files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
        return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    before = look()
    for arguments in ([], ["trainer.steps=2"], ["trainer.steps=1"]):
        assert command("resume=run", *arguments) == 0
        assert "run is finished (trainer.steps=" in capfd.readouterr().out
        assert look() == before


def test_resume_strict(command: Command, capfd: pytest.CaptureFixture, tmp_path: Path) -> None:
    """Another loss and batch size go on with a warning; another model never does; and the folder then says what it was."""
    assert command(*TINY, "loss=argmax", "trainer.steps=1", "hydra.run.dir=run") == 0
    assert command("resume=run", "resume_strict=false", "model=vgg16_bn", "trainer.steps=2") == 1
    assert "error: resume=run: the weights are of another model" in capfd.readouterr().err
    assert command("resume=run", "resume_strict=false", "loss=all_logit", "trainer.batch_size=2", "trainer.steps=3") == 0
    error = capfd.readouterr().err
    assert "warning: goes on with another run than it was" in error
    assert "trainer.batch_size=4 (now 2)" in error
    assert checkpoint.load(tmp_path / "run/checkpoints/last.pt")["step"] == 3
    assert command("resume=run", "trainer.steps=4") == 0  # of its own accord, it is the new run now
    assert command("resume=run", "trainer.steps=5", "loss=argmax") == 1
    assert "loss._target_=vgg_nll.losses.AllLogitNLL" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("loss._target_=EVIL", "asks to run EVIL, which no file in configs/ names"),
        ("+loss.helper={_target_: EVIL}", "asks to run EVIL"),
        ("+loss.helpers=[{inner: [{_target_: EVIL}]}]", "asks to run EVIL"),
        ("+hydra.callbacks.evil._target_=EVIL", "which no run writes there"),
        ("hydra/launcher=evil", "which no run writes there"),
        ("--config-dir=evil", "which no run writes there"),
        ("~hydra.sweeper", "which no run writes there"),
    ],
)
def test_a_run_folder_of_somebody_else_runs_nothing(
    line: str, words: str, command: Command, capfd: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `_target_` of the folder's own is refused before it is imported; the same, typed by the person, is theirs to allow."""
    (tmp_path / "evil.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\ndef run(**_): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    saved = tmp_path / "theirs/.hydra"
    saved.mkdir(parents=True)
    checkpoint.save(tmp_path / "theirs/checkpoints/last.pt", {"step": 1})
    (saved / "overrides.yaml").write_text(f"- seed=0\n- '{line.replace('EVIL', 'evil.run')}'\n")
    (saved / "config.yaml").write_text("seed: 0\n")
    assert command("resume=theirs") == 1
    error = capfd.readouterr().err
    assert words.replace("EVIL", "evil.run") in error
    assert error.count("\n") == 1
    assert not (tmp_path / "ran").exists()
    if line.startswith("loss"):
        assert command("resume=theirs", "loss._target_=evil.run") == 1  # for another reason: it is another run
        assert "was made with" in capfd.readouterr().err


def test_sweep(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two losses, two seeds: four folders named by their overrides, each with a finished run, and four objectives."""
    from hydra.core.plugins import Plugins

    Plugins.instance()  # imports the plugins anew, when it is first asked for
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    returned, launch = [], BasicSweeper.sweep

    def sweep(self: BasicSweeper, arguments: list[str]) -> object:
        results = launch(self, arguments)
        returned.extend(job.return_value for batch in results for job in batch)
        return results

    monkeypatch.setattr(BasicSweeper, "sweep", sweep)
    assert command("-m", *TINY, "trainer.steps=1", "loss=argmax,all_logit", "seed=0,1", "hydra.sweep.dir=sweep") == 0
    names = sorted(path.parent.name for path in tmp_path.glob("sweep/*/DONE"))
    assert len(names) == 4
    assert all(
        f"loss={loss}" in name and f"seed={seed}" in name
        for name, (loss, seed) in zip(names, [("all_logit", 0), ("all_logit", 1), ("argmax", 0), ("argmax", 1)], strict=True)
    )
    assert len(returned) == 4
    assert all(0 <= objective <= 1 for objective in returned)
    # a job of the sweep can be resumed by its folder, whose name has '=' and ',' in it
    assert command(f"resume=sweep/{names[0]}", "trainer.steps=2") == 0
    assert checkpoint.load(tmp_path / "sweep" / names[0] / "checkpoints/last.pt")["step"] == 2
    # and the same sweep again does not write over its runs
    assert command("-m", *TINY, "trainer.steps=1", "loss=argmax", "seed=0", "hydra.sweep.dir=sweep") == 1
    assert checkpoint.load(tmp_path / "sweep" / names[2] / "checkpoints/last.pt")["step"] == 1


def test_a_sweep_with_many_overrides_has_folders_that_fit(command: Command, tmp_path: Path) -> None:
    many = [f"data.{name}={value}" for name, value in (("noise", 0.3), ("split_seed", 0), ("shift_pixels", 1))]
    many += ["optimizer.betas=[0.9,0.999]", "optimizer.weight_decay=0.05", "schedule.warmup_epochs=0.1", "trainer.clip_norm=1"]
    assert command("-m", *TINY, *many, "trainer.steps=1", "seed=0,1", "hydra.sweep.dir=sweep") == 0
    names = {path.parent.name for path in tmp_path.glob("sweep/*/DONE")}
    assert len(names) == 2
    assert all(200 < len(name) < 255 for name in names)


def test_a_sweep_over_folders_keeps_its_jobs_apart(command: Command, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_folder(tmp_path / "pictures" / name)
    folders = [f"data.root={','.join(str(tmp_path / 'pictures' / name) for name in ('a', 'b'))}", "data.num_workers=0"]
    assert command("-m", *FOLDER, *folders, "trainer.steps=1", "hydra.sweep.dir=sweep") == 0
    assert len(list((tmp_path / "sweep").rglob("DONE"))) == 2


def test_a_bad_job_does_not_end_a_sweep(command: Command, capfd: pytest.CaptureFixture, tmp_path: Path) -> None:
    tiny = [argument for argument in TINY if not argument.startswith("trainer.batch_size")]
    assert command("-m", *tiny, "trainer.steps=1", "trainer.batch_size=0,-1,4") == 1
    error = capfd.readouterr().err
    for size in (0, -1):
        assert error.count(f"error: trainer.batch_size={size}: must be a whole number, at least 1") == 1
    assert "Traceback" not in error
    assert len(list(tmp_path.rglob("DONE"))) == 1


def test_what_an_earlier_start_left_stays_there(command: Command, tmp_path: Path) -> None:
    """A run killed before its first save has a log, curves and a config; a faulty start after it takes none of them."""
    (tmp_path / "run/.hydra").mkdir(parents=True)
    for name in ("train.log", "events.out.tfevents.1", ".hydra/config.yaml"):
        (tmp_path / "run" / name).write_text("of the other one")
    assert command(*TINY, "data.num_classes=1", "hydra.run.dir=run") == 1
    for name in ("train.log", "events.out.tfevents.1", ".hydra/config.yaml"):
        assert (tmp_path / "run" / name).read_text().startswith("of the other one")


@pytest.mark.parametrize("left", ["checkpoints", "metrics.json"])
def test_a_refused_start_changes_nothing(command: Command, capfd: pytest.CaptureFixture, tmp_path: Path, left: str) -> None:
    """Also where the folder's name is only known to Hydra, and where only the numbers of a run are left."""
    assert command(*TINY, "trainer.steps=1", "hydra.run.dir=${name}", "name=run") == 0
    if left == "metrics.json":
        shutil.rmtree(tmp_path / "run/checkpoints")
        (tmp_path / "run/DONE").unlink()
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    for more in ((), ("data.num_classes=1",)):
        assert command(*TINY, "seed=5", "loss=all_logit", "hydra.run.dir=${name}", "name=run", *more) == 1
        assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    assert "holds a run already" in capfd.readouterr().err


def test_one_process_at_a_time(command: Command, capfd: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert command(*TINY, "trainer.steps=1", "hydra.run.dir=run") == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vgg_nll.run_folder.time.sleep", lambda _: None)
        with run_folder.lock_run_folder(tmp_path / "run"):
            assert command("resume=run", "trainer.steps=2") == 1
    assert "run: another process is training there; wait for its end, or stop it" in capfd.readouterr().err
    assert command("resume=run", "trainer.steps=2") == 0


@pytest.mark.parametrize("name", ["config.yaml", "overrides.yaml"])
@pytest.mark.parametrize("content", [None, b"", b"\x80\xff\x00", b"- a: [", b"a: b: c", b"7"])
def test_damaged_hydra_files(
    command: Command, capfd: pytest.CaptureFixture, tmp_path: Path, name: str, content: bytes | None
) -> None:
    saved = tmp_path / "run/.hydra"
    saved.mkdir(parents=True)
    checkpoint.save(tmp_path / "run/checkpoints/last.pt", {"step": 1})
    (saved / "overrides.yaml").write_text("- seed=0\n")
    (saved / "config.yaml").write_text("seed: 0\n")
    (saved / name).unlink() if content is None else (saved / name).write_bytes(content)
    assert command("resume=run") == 1
    error = capfd.readouterr().err
    assert error.startswith("error: resume=run: ")
    assert name in error or "holds no run" in error
    assert error.count("\n") == 1


def test_resume_with_another_optimizer(command: Command, capfd: pytest.CaptureFixture, tmp_path: Path) -> None:
    """Its settings are taken; another kind of optimizer has no moments to go on with, and leaves the run as it is."""
    sgd = ("optimizer=sgd", "optimizer.momentum=0.5", "optimizer.nesterov=false")
    assert command(*TINY, *sgd, "trainer.steps=1", "hydra.run.dir=run") == 0
    before = (tmp_path / "run/.hydra/overrides.yaml").read_text()
    assert command("resume=run", "trainer.steps=2", "optimizer=adamw", "resume_strict=false") == 1
    assert "error: resume=run: the optimizer is of another kind than the checkpoint's" in capfd.readouterr().err
    assert (tmp_path / "run/.hydra/overrides.yaml").read_text() == before
    assert (tmp_path / "run/DONE").exists()
    assert command("resume=run", "trainer.steps=2", "optimizer.weight_decay=0.25", "resume_strict=false") == 0
    groups = checkpoint.load(tmp_path / "run/checkpoints/last.pt")["optimizer"]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.25, 0.0]


def test_fewer_steps_than_were_done(command: Command, capfd: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert command(*TINY, "trainer.steps=3", "hydra.run.dir=run") == 0
    (tmp_path / "run/DONE").unlink()
    assert command("resume=run", "trainer.steps=2") == 1
    assert "has done 3 steps already, more than the 2 it is asked for" in capfd.readouterr().err
    assert "trainer.steps=3" in (tmp_path / "run/.hydra/overrides.yaml").read_text()


def test_what_was_there_stays_there(command: Command, capfd: pytest.CaptureFixture, tmp_path: Path) -> None:
    """A bad setting takes back only what the run put into the folder; a folder with a run in it is left alone."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert command("hydra.run.dir=mine", "trainer.batch_size=0") == 1
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    checkpoint.save(tmp_path / "mine/checkpoints/last.pt", {"step": 1})
    assert command("hydra.run.dir=mine", *TINY) == 1
    assert "error: hydra.run.dir=mine: holds a run already; resume=mine goes on with it" in capfd.readouterr().err
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"thesis.txt", "checkpoints"}


@pytest.mark.parametrize("key", ["run.dir", "sweep.dir"])
def test_two_runs_in_one_second_have_two_folders(key: str) -> None:
    """The default folder is a time, down to the microsecond."""
    text = (ROOT / "configs/hydra/runs.yaml").read_text()
    (form,) = re.findall(rf"^{key.split('.')[0]}:\n  dir: .*\$\{{now:([^}}]+)\}}", text, re.MULTILINE)
    one = datetime(2026, 1, 1, 12, 0, 0, 1)
    assert one.strftime(form) != one.replace(microsecond=2).strftime(form)
