"""The folder of a run: the names in it, the lock on it, and what is removed if no run began."""

import errno
import functools
import itertools
import logging
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from vgg_nll.errors import CheckpointError, ConfigError
from vgg_nll.escapes import printable

log = logging.getLogger(__name__)
HYDRA = ".hydra"
CONFIG, OVERRIDES = f"{HYDRA}/config.yaml", f"{HYDRA}/overrides.yaml"  # copies for people
RUN = "run.json"  # what the run is: its record
LOG = "train.log"
LOCK = ".lock"
EVENT_FILES = "events.out.tfevents.*"  # TensorBoard's
CHECKPOINTS = "checkpoints"
LAST, PREVIOUS, BEST = f"{CHECKPOINTS}/last.pt", f"{CHECKPOINTS}/previous.pt", f"{CHECKPOINTS}/best.pt"
DAMAGED = f"{CHECKPOINTS}/damaged.pt"  # a last.pt that could not be read
METRICS = "metrics.json"
METRICS_TABLE = "metrics.csv"  # a row per validation
BAD_IMAGES = "bad_images.csv"  # files of the data set that could not be used
PREDICTIONS = "predictions.csv"  # of every image of the tested split
OUTPUTS = "outputs.npz"  # logits of every image of the validation and the tested split
TEMPERATURE = "temperature.json"
EVALUATION = "evaluation"  # a folder for each evaluation, with these files, PREDICTIONS and OUTPUTS
EVALUATION_METRICS, ERRORS, CONFUSIONS = "evaluation.json", "most_confident_errors.csv", "confusions.csv"
THRESHOLDS, SUSPICIOUS_LABELS, MISTAKES = "thresholds.csv", "suspicious_labels.csv", "mistakes.html"
EXPORT = "export"  # files for other programs
EXPORTS = {"onnx": "model.onnx", "torch_export": "model.pt2", "safetensors": "model.safetensors"}  # by format, in it
PROFILE_TRACE, PROFILE_OPERATORS = "profile/trace.json", "profile/operators.txt"
DONE, FAILED = "DONE", "FAILED"
PRUNED = "PRUNED"  # in a sweep: stopped since others are better
PROJECTOR = "projector_config.pbtxt"  # TensorBoard's; the pictures lie in folders that are named by their steps
OURS = (
    *(HYDRA, RUN, LOG, LOCK, CHECKPOINTS, METRICS, METRICS_TABLE, BAD_IMAGES, PREDICTIONS, OUTPUTS, TEMPERATURE, EVALUATION),
    *("profile", EXPORT, DONE, FAILED, PRUNED, PROJECTOR),
)
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)  # some network file systems
LOCK_SECONDS = 10  # the worker processes of a killed run hold its lock for some seconds


def has_checkpoint(folder: Path) -> bool:
    """Returns whether a run folder holds a state to resume from, valid or not."""
    return any((folder / name).is_file() for name in (LAST, PREVIOUS))


def check_holds_run(folder: Path) -> None:
    """Raises CheckpointError if a folder is not that of a run, with the run that was probably meant: around it, or inside."""
    if (folder / RUN).is_file():
        return
    around = [parent for parent in list(folder.parents)[:2] if (parent / RUN).is_file()]
    inside = sorted(path.parent for path in folder.glob(f"*/{RUN}"))
    meant = f"; its run folder is {around[0]}" if around else f"; it holds runs, the first is {inside[0]}" if inside else ""
    raise CheckpointError(f"{folder}: holds no run (there is no {RUN}){meant}")


def check_folders(folders: Iterable[Path]) -> None:
    """Raises CheckpointError if one of them is not a folder."""
    for folder in folders:
        if not folder.is_dir():
            raise CheckpointError(f"{folder}: {'is not a folder' if folder.exists() else 'there is no such folder'}")


def remove_states(folder: Path, *, but_last: bool) -> None:
    """Removes the checkpoints of a finished run but the best weights and, if asked, the last state, from which it continues;
    a damaged one then stays, too, for a look at it."""
    for name in (PREVIOUS,) if but_last else (LAST, PREVIOUS, DAMAGED):
        (folder / name).unlink(missing_ok=True)


def holds_run(folder: Path) -> bool:
    """Returns whether a folder holds a run that another run must not overwrite."""
    return has_checkpoint(folder) or any((folder / name).exists() for name in (DONE, METRICS))


def how_to_continue(folder: Path) -> str:
    """Returns what a person can do with a folder that holds a run, for a message."""
    if not (folder / RUN).exists():
        there = next((folder / name for name in (BEST, LAST, PREVIOUS) if (folder / name).is_file()), None)
        weights = f"model.weights={there} starts a new run from its weights, " if there else ""
        return f"holds results of a run whose record, {RUN}, is gone; {weights}hydra.run.dir=<folder> takes another folder"
    if has_checkpoint(folder):
        return f"holds a run already; resume={folder} continues it, hydra.run.dir=<folder> starts another"
    if (folder / BEST).is_file():
        return "holds a finished run already, of which the best weights were kept; hydra.run.dir=<folder> starts another"
    return "holds the results of a run without checkpoints: remove it, or start in another folder with hydra.run.dir=<folder>"


def refuse_links(folder: Path) -> None:
    """Raises CheckpointError if a link, a pipe or a device has the place of a run's file: a write would follow it, a read wait.

    Files of other names are the user's own.
    """
    ours = [path for path in folder.iterdir() if path.name in OURS or path.name.isdigit() or path.match(EVENT_FILES)]
    below = [Path(place) / name for top in ours for place, *names in os.walk(top) for name in itertools.chain(*names)]
    for path in (*ours, *below):
        kind = path.lstat().st_mode
        if not (stat.S_ISDIR(kind) or stat.S_ISREG(kind)):
            what = "a link" if stat.S_ISLNK(kind) else "not a file"
            raise CheckpointError(f"{path}: is {what}, where a run has a file of its own; remove it")


def is_whole(folder: Path) -> bool:
    """Returns whether the folder of a run in progress is still there: not removed, not renamed."""
    return (folder / LOCK).exists()


@contextmanager
def lock_run_folder(folder: Path) -> Iterator[None]:
    """Holds the folder until the block or the process ends. If no run began in it, the file of the lock goes with the block.

    Raises ConfigError if another process holds it.
    """
    with try_lock(folder / LOCK, LOCK_SECONDS) as is_free:
        if not is_free:
            raise ConfigError(f"{folder}: another process is training there; wait until it ends, or stop it")
        try:
            yield
        finally:
            if not ((folder / RUN).exists() or holds_run(folder)):
                (folder / LOCK).unlink(missing_ok=True)


@contextmanager
def try_lock(path: Path, seconds: float = 0.0) -> Iterator[bool]:
    """Returns whether this process holds a lock file for the block: not if another one still holds it after so many seconds.

    A lock ends with its process, however that ends. If the file system has no locks, every process gets one, with a warning.
    """
    lock = FileLock(path, timeout=seconds)
    try:
        lock.acquire(poll_interval=0.05)
    except Timeout:
        yield False
        return
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        path.touch()  # it also says that the folder is in use
        _warn_of_no_locks(path.parent, path.name, error.strerror)
        yield True
        return
    try:
        yield True
    finally:
        lock.release()


@functools.cache  # a sweep has a lock for each job
def _warn_of_no_locks(folder: Path, name: str, why: str) -> None:
    text = (
        f"{folder / name}: this file system has no locks ({why}): two processes are not kept apart there; start one at a time"
    )
    log.warning(printable(f"warning: {text}"))


def is_running(folder: Path) -> bool:
    """Returns whether a process trains in a run folder."""
    path = folder / LOCK
    if not path.exists():
        return False
    with try_lock(path) as is_free:
        return not is_free
