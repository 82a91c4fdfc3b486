"""The folder of a run: whose it is, and what is taken back where no run began."""

import os
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path

from vgg_nll.errors import ConfigError
from vgg_nll.tracking.event_files import event_files
from vgg_nll.training import checkpoint

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def holds_run(folder: Path) -> bool:
    """Whether a folder holds a run that another must not be written over."""
    return checkpoint.exists(folder / "checkpoints") or any((folder / name).exists() for name in ("DONE", "metrics.json"))


@contextmanager
def lock_run_folder(folder: Path) -> Iterator[None]:
    """Holds the folder for this process, till it ends in whatever way. Raises ConfigError where another one holds it."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        for patience in range(20, -1, -1):  # the workers of a killed process take some seconds to notice
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if patience == 0:
                    raise ConfigError(f"{folder}: another process is training there; wait for its end, or stop it") from error
                time.sleep(0.5)
        yield
    finally:
        os.close(handle)


def remove_new_files(folder: Path, before: Set[Path]) -> None:
    """Takes back what this process has put into a folder in which no run began: nothing else, and no folder of the user's."""
    for path in set(event_files(folder)) - before:
        path.unlink()
    if folder / ".hydra" not in before:  # Hydra opened the log before the run began
        (folder / "train.log").unlink(missing_ok=True)
    with suppress(OSError):  # not empty: it was there before
        folder.rmdir()
