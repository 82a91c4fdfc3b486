"""Files that hold a training state: written whole or not at all, read without running code from them.

Knows files and dicts only; what the dict means is the business of `state`.
"""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from vgg_nll.errors import CheckpointError

FORMAT_VERSION = 2  # 1 had the moments of convolutions as [O, I, 3, 3]; `state` turns them
LAST, PREVIOUS, BEST, DAMAGED = "last.pt", "previous.pt", "best.pt", "damaged.pt"


def save(path: Path, content: dict[str, Any], previous: Path | None = None) -> None:
    """Writes `content` (tensors, numbers, strings, dicts and lists of them) to `path` in one step.

    The bytes go to a neighbour, are flushed to the disk, and take the name last: a reader, or a crash, sees the old
    file or the new one. The old one is kept as `previous`, where that is given: a crash between the two renames leaves it
    alone. Raises OSError, with the old file in place, where the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            try:
                torch.save({"format_version": FORMAT_VERSION, **content}, file)
            except RuntimeError as error:  # what PyTorch makes of a write that failed
                raise OSError(f"{path}: could not be written whole; is the disk full?") from error
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            path.replace(previous)
        unfinished.replace(path)
        _flush_names(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """A text file in one step, as `save` writes its own."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        _flush_names(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """The dict that `save` wrote, its tensors on the CPU. Unpickles tensors and plain values only.

    Every byte is held against the checksums (CRC-32) that stand in the file.

    Raises:
        CheckpointError: the file is missing, damaged, not a checkpoint of this project, or of a newer format.
    """
    content = load_tensors(path)
    version = content.get("format_version") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise CheckpointError(f"{path}: not a checkpoint of this project")
    if version > FORMAT_VERSION:
        raise CheckpointError(f"{path}: written by a newer version (format {version}; this one reads {FORMAT_VERSION})")
    return content


def load_tensors(path: Path) -> Any:
    """What `torch.save` wrote, be it ours or another's, if it consists of tensors and plain values; raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such checkpoint")
    try:
        if zipfile.is_zipfile(path):  # files of old versions of PyTorch are not, and have no checksums
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()
            if broken is not None:
                raise CheckpointError(f"{path}: damaged: {broken} does not have the bytes that were written")
        return torch.load(path, map_location="cpu", weights_only=True)
    except (CheckpointError, MemoryError):
        raise
    except PermissionError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: damaged, or holds more than tensors and plain values, which is not loaded") from error
    except Exception as error:  # a damaged archive can break its reader in any way
        raise CheckpointError(f"{path}: damaged, or not a checkpoint ({type(error).__name__})") from error


def load_newest(folder: Path) -> tuple[dict[str, Any], str]:
    """The newest sound state in a folder of checkpoints, and what is wrong with the file that should have held it ("").

    That is `last.pt`; `previous.pt` where that is missing or damaged. Raises CheckpointError where neither can be read.
    """
    try:
        return load(folder / LAST), ""
    except CheckpointError as error:
        try:
            return load(folder / PREVIOUS), str(error)
        except CheckpointError as older:
            raise CheckpointError(f"{error}; {older}" if (folder / PREVIOUS).exists() else str(error)) from error


def exists(folder: Path) -> bool:
    """Whether a folder of checkpoints holds a state to go on with, sound or not."""
    return any((folder / name).is_file() for name in (LAST, PREVIOUS))


def remove_unfinished(folder: Path) -> None:
    """Removes what a killed process has left of a file that it was writing."""
    for path in folder.glob(".*.pt.*.tmp"):
        path.unlink(missing_ok=True)


def _flush_names(folder: Path) -> None:
    """Makes a rename last through a power failure, where the system lets a folder be flushed."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        return
    finally:
        os.close(handle)
