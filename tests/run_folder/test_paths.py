"""The folder of a run: what holds a run, one process at a time, and nothing of the user's is removed."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from filelock import FileLock

from vgg_nll.errors import CheckpointError, ConfigError
from vgg_nll.run_folder import paths
from vgg_nll.run_folder.paths import has_checkpoint, holds_run, lock_run_folder


@pytest.mark.parametrize(
    ("name", "resumable", "held"),
    [
        ("checkpoints/last.pt", True, True),
        ("checkpoints/previous.pt", True, True),
        ("checkpoints/best.pt", False, False),
        ("checkpoints/damaged.pt", False, False),
        ("DONE", False, True),
        ("metrics.json", False, True),
        ("FAILED", False, False),  # before the first checkpoint there is nothing to lose
        ("run.json", False, False),
    ],
)
def test_what_holds_a_run(tmp_path: Path, name: str, resumable: bool, held: bool) -> None:
    assert not has_checkpoint(tmp_path) and not holds_run(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    assert (has_checkpoint(tmp_path), holds_run(tmp_path)) == (resumable, held)


@contextmanager
def held_by_another_process(folder: Path) -> Iterator[int]:
    """Yields the id of a child process that holds the lock of `folder` until SIGTERM, which ends it at once."""
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with lock_run_folder(folder):
                os.write(tell, b"x")
                signal.pause()
        finally:
            os._exit(1)
    try:
        assert os.read(ready, 1) == b"x"
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(tell)


def test_a_second_process_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "LOCK_SECONDS", 0)
    with held_by_another_process(tmp_path):
        with pytest.raises(ConfigError) as refused, lock_run_folder(tmp_path):
            pytest.fail("two processes hold one folder")
        assert str(refused.value) == f"{tmp_path}: another process is training there; wait until it ends, or stop it"
        other = tmp_path / "other"
        other.mkdir()
        with lock_run_folder(other):
            pass
    with lock_run_folder(tmp_path):  # the killed process holds it no longer
        pass


def test_the_lock_of_a_process_that_ends_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers of a killed run end some moments after it."""
    waits: list[float] = []
    with held_by_another_process(tmp_path) as child:
        sleep = time.sleep

        def end_the_other(seconds: float) -> None:
            waits.append(seconds)
            os.kill(child, signal.SIGKILL)
            sleep(seconds / 10)

        monkeypatch.setattr(time, "sleep", end_the_other)
        with lock_run_folder(tmp_path):
            assert waits
        monkeypatch.undo()


@pytest.mark.parametrize("error", [None, KeyError("inside")], ids=["the end", "an error"])
def test_the_block_releases_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
    made: list[FileLock] = []  # keeps the locks, which are released, too, when nothing holds them

    def make(path: Path, timeout: float) -> FileLock:
        made.append(FileLock(path, timeout=0))
        return made[-1]

    monkeypatch.setattr(paths, "FileLock", make)
    with suppress(KeyError), lock_run_folder(tmp_path):
        assert made[0].is_locked
        if error is not None:
            raise error
    assert not made[0].is_locked
    with lock_run_folder(tmp_path):
        pass


@pytest.mark.parametrize("left", [None, "run.json", "DONE", "checkpoints/previous.pt"])
def test_the_lock_goes_if_no_run_began(tmp_path: Path, left: str | None) -> None:
    """It stays if a run began there, now or before."""
    before = {"notes.txt", "train.log"}
    for name in (*before, *([left] if left else [])):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with lock_run_folder(tmp_path):
        pass
    kept = before | {".lock", str(left).partition("/")[0]} if left else before
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_links_of_the_users_own_stay(tmp_path: Path) -> None:
    """Only in the place of a run's file are they refused: there, a write would follow them."""
    (tmp_path / "best picture").symlink_to(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/5").symlink_to(tmp_path)
    paths.refuse_links(tmp_path)
    for name in ("checkpoints/x", "5", "events.out.tfevents.1", "projector_config.pbtxt", "train.log"):
        (tmp_path / name).symlink_to(tmp_path / "nowhere")
        with pytest.raises(CheckpointError, match=rf"{name}: is a link, where a run has a file of its own; remove it"):
            paths.refuse_links(tmp_path)
        (tmp_path / name).unlink()
