"""`resume=<run folder>`: its own overrides with the given ones on top; another run is refused; nothing foreign runs."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.configs import TINY

from vgg_nll import run_folder
from vgg_nll.training import checkpoint

Command = Callable[..., int]
QUICK = (*TINY, "tracking=none")


def test_run_then_resume(command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command(*QUICK, "loss=all_logit", "trainer.steps=2", "hydra.run.dir=first") == 0
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
    capfd.readouterr()
    assert command("--cfg", "job", "resume=first", "trainer.steps=4") == 0
    assert "AllLogitNLL" in capfd.readouterr().out  # its own overrides with the given ones; nothing is trained
    assert command("resume=first", "trainer.steps=4") == 0
    assert checkpoint.load(tmp_path / "first/checkpoints/last.pt")["step"] == 4
    assert "resumed first at step 2" in capfd.readouterr().out
    assert re.search("steps: 4|steps=4", (tmp_path / "first/.hydra/config.yaml").read_text())
    assert "- trainer.steps=4\n" in (tmp_path / "first/.hydra/overrides.yaml").read_text()


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


def test_resume_strict(command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With another loss or batch size a run continues, with a warning, and the folder says so; with another model, never."""
    assert command(*QUICK, "loss=argmax", "trainer.steps=1", "hydra.run.dir=run") == 0
    assert command("resume=run", "resume_strict=false", "model=vgg16_bn", "trainer.steps=2") == 1
    assert "error: resume=run: the weights are of another model" in capfd.readouterr().err
    assert command("resume=run", "resume_strict=false", "loss=all_logit", "trainer.batch_size=2", "trainer.steps=3") == 0
    error = capfd.readouterr().err
    assert "warning: continues as another run: it was made with" in error
    assert "trainer.batch_size=4 (now 2)" in error
    assert checkpoint.load(tmp_path / "run/checkpoints/last.pt")["step"] == 3
    assert command("resume=run", "trainer.steps=4") == 0  # the new settings are its own now
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
    line: str, words: str, command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `_target_` in the folder is refused before it is imported; typed on the command line, it is allowed."""
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
        assert command("resume=theirs", "loss._target_=evil.run") == 1  # for another reason: the run would be another one
        assert "was made with" in capfd.readouterr().err


def test_one_process_at_a_time(command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command(*QUICK, "trainer.steps=1", "hydra.run.dir=run") == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_folder, "LOCK_SECONDS", 0)
        with run_folder.lock_run_folder(tmp_path / "run"):
            assert command("resume=run", "trainer.steps=2") == 1
    assert "run: another process is training there; wait until it ends, or stop it" in capfd.readouterr().err
    assert command("resume=run", "trainer.steps=2") == 0


@pytest.mark.parametrize("name", ["config.yaml", "overrides.yaml"])
@pytest.mark.parametrize("content", [None, b"", b"\x80\xff\x00", b"- a: [", b"a: b: c", b"7"])
def test_damaged_hydra_files(
    command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path, name: str, content: bytes | None
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
    groups = checkpoint.load(tmp_path / "run/checkpoints/last.pt")["optimizer"]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.25, 0.0]


def test_fewer_steps_than_were_done(command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command(*QUICK, "trainer.steps=3", "hydra.run.dir=run") == 0
    (tmp_path / "run/DONE").unlink()
    assert command("resume=run", "trainer.steps=2") == 1
    assert "has done 3 steps already, more than the 2 of this config" in capfd.readouterr().err
    assert "trainer.steps=3" in (tmp_path / "run/.hydra/overrides.yaml").read_text()
