"""Checkpoints that are damaged, missing or of something else: a resumed run takes the newest sound one, or changes nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.runs import interrupt, outcome, train

from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.errors import CheckpointError
from vgg_nll.training.signals import Interrupted

Damage = Callable[[Path], object]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip(path: Path) -> None:
    """Flips one bit, in the middle of the weights."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    torch.save({"state_dict": {"w": torch.zeros(3)}, "epoch": 3}, path)


def newer(path: Path) -> None:
    torch.save({"format_version": checkpoint_file.FORMAT_VERSION + 1}, path)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [truncate, flip, empty, foreign, newer, Path.unlink])
def test_a_bad_last_checkpoint_gives_way_to_the_one_before(
    light: tuple[str, ...],
    stopped: Path,
    undisturbed: tuple[object, ...],
    damage: Damage,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    last = stopped / "checkpoints/last.pt"
    damage(last)
    content = last.read_bytes() if last.exists() else None
    train(stopped, *light, f"resume={stopped}")
    kept = stopped / "checkpoints/damaged.pt"  # for a look at it
    assert (kept.read_bytes() if kept.exists() else None) == content
    assert "last.pt" in caplog.text
    assert "the state saved before it takes its place" in caplog.text
    assert f"resumed {stopped} at step 3" in caplog.text
    assert outcome(stopped) == undisturbed


def test_if_none_is_sound_nothing_is_changed(light: tuple[str, ...], stopped: Path) -> None:
    for name in ("last.pt", "previous.pt"):
        flip(stopped / "checkpoints" / name)
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match=r"resume=.*last.pt: damaged: .*previous.pt: damaged: .*"):
        train(stopped, *light, f"resume={stopped}")
    assert before == {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flip, foreign, Path.unlink])
def test_a_bad_best_checkpoint_is_replaced(
    light: tuple[str, ...], stopped: Path, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    damage(stopped / "checkpoints/best.pt")
    train(stopped, *light, f"resume={stopped}")
    assert "the best step is chosen anew" in caplog.text
    assert checkpoint_file.load(stopped / "checkpoints/best.pt")["step"] == 6


def test_killed_between_last_and_best(light: tuple[str, ...], stopped: Path, undisturbed: tuple[object, ...]) -> None:
    """last.pt is of the best step, best.pt still of another: it is made from last.pt."""
    checkpoints = stopped / "checkpoints"
    (checkpoints / "previous.pt").replace(checkpoints / "last.pt")
    checkpoint_file.save(checkpoints / "best.pt", {"model": {}, "step": 1})
    unfinished = checkpoints / ".best.pt.12345.tmp"
    unfinished.touch()
    train(stopped, *light, f"resume={stopped}")
    assert outcome(stopped) == undisturbed
    assert not unfinished.exists()


def test_a_damaged_file_never_takes_the_place_of_a_sound_one(light: tuple[str, ...], stopped: Path) -> None:
    """Killed while it writes the first checkpoint after going back to previous.pt: that one is still there."""
    flip(stopped / "checkpoints/last.pt")
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, 4, "_step")
        original = Path.replace

        def replace(self: Path, target: Path) -> Path:
            if target.name == "last.pt":
                raise KeyboardInterrupt  # stands for the kill
            return original(self, target)

        patch.setattr(Path, "replace", replace)
        with pytest.raises((KeyboardInterrupt, Interrupted)):
            train(stopped, *light, f"resume={stopped}")
    assert checkpoint_file.load_newest(stopped)[0]["step"] == 3
