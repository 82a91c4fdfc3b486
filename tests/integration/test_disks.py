"""Disks that refuse: the run continues, warns, and is not done until its weights are saved."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.configs import TINY
from helpers.runs import outcome, train
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import SummaryWriter

from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.errors import CheckpointError


@pytest.mark.slow
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("unexpected pos 64 vs 0")])
def test_a_disk_that_refuses_for_a_while(
    light: tuple[str, ...],
    tmp_path: Path,
    undisturbed: tuple[object, ...],
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Writes 2 to 4 fail, the best among them; the run continues, warns each time, and gives the undisturbed result."""
    calls, original = [], torch.save

    def save(*args: Any) -> None:
        calls.append(1)
        if 2 <= len(calls) <= 4:
            raise error
        original(*args)

    monkeypatch.setattr(torch, "save", save)
    train(tmp_path, *light, "checkpoint.every_steps=1")
    assert caplog.text.count("was not saved, training continues") == 3
    assert outcome(tmp_path) == undisturbed
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_a_disk_that_never_takes_anything(
    light: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The run continues to its end, tests the best weights, which are in memory, and fails then."""
    caplog.set_level("INFO")

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(torch, "save", refuse)
    with pytest.raises(CheckpointError, match=r"no checkpoint could be written: .*Permission denied"):
        train(tmp_path, *light, "trainer.steps=2")
    assert "best of validation: step 2" in caplog.text
    assert "CheckpointError" in (tmp_path / "FAILED").read_text()
    assert not (tmp_path / "DONE").exists()


@pytest.mark.slow
def test_a_disk_that_fills_up(
    light: tuple[str, ...],
    tmp_path: Path,
    undisturbed: tuple[object, ...],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first checkpoint is written, no other is: the run ends with its numbers, but is not done; resumed, it is."""
    calls, original = [], torch.save

    def save(*args: Any) -> None:
        calls.append(1)
        if len(calls) > 2:  # last.pt and best.pt of step 3
            raise OSError(errno.ENOSPC, "No space left on device")
        original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save)
        train(tmp_path, *light)
    assert "not all weights are on the disk; resume=" in caplog.text
    assert not (tmp_path / "DONE").exists()
    assert checkpoint_file.load(tmp_path / "checkpoints/last.pt")["step"] == 3
    train(tmp_path, *light, f"resume={tmp_path}")
    assert (tmp_path / "DONE").exists()
    assert outcome(tmp_path) == undisturbed


@pytest.mark.usefixtures("no_figures")
def test_an_event_file_that_cannot_be_read(light: tuple[str, ...], stopped: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (stopped / "events.out.tfevents.2").open("wb") as file:  # a sound record, which holds no event
        RecordWriter(file).write(b"\xff" * 20)
    train(stopped, *light, "tracking=tensorboard", f"resume={stopped}")
    assert (stopped / "DONE").exists()
    assert "no more curves from here on" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("method", ["__init__", "add_scalar", "add_figure", "close"])
def test_a_tracker_that_fails(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk gone")

    monkeypatch.setattr(SummaryWriter, method, fail)
    train(tmp_path, *TINY, "trainer.steps=2")
    assert (tmp_path / "DONE").exists()
    assert caplog.text.count("no more curves from here on, training continues: tracking failed (disk gone)") == 1
