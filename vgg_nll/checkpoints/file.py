"""Checkpoints: written whole or not at all, read without running code from them, and one mapping of errors.

Knows files and dicts only; what the dict means is the business of `state`.
"""

import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from vgg_nll import hardware
from vgg_nll.errors import CheckpointError
from vgg_nll.files import atomic_write
from vgg_nll.run_folder import paths

FORMAT_VERSION = 1


def save(path: Path, content: dict[str, Any], previous: Path | None = None) -> None:
    """Writes `content` (tensors, numbers, strings, dicts and lists of them) to `path` in one step.

    The old file is kept as `previous`, if that is given. Raises OSError, with the old file in place, if the disk refuses.
    """

    def write(file: IO[bytes]) -> None:
        try:
            torch.save({"format_version": FORMAT_VERSION, **content}, file)
        except RuntimeError as error:  # PyTorch's error for a write that failed
            raise OSError(f"{path}: could not be written whole; is the disk full?") from error

    atomic_write(path, write, previous=previous)


def load(path: Path, run_id: str | None = None) -> dict[str, Any]:
    """Returns the dict that `save` wrote, its tensors on the CPU.

    Args:
        run_id: of the run that it must be of; None for any.

    Raises CheckpointError if the file is missing, damaged, not a checkpoint of this project, of a newer format, or of another
    run.
    """
    content = load_tensors(path)
    version = content.get("format_version") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise CheckpointError(f"{path}: not a checkpoint of this project")
    if version > FORMAT_VERSION:
        raise CheckpointError(f"{path}: written by a newer version (format {version}; this one reads {FORMAT_VERSION})")
    if run_id is not None and content.get("run") != run_id:
        raise CheckpointError(f"{path}: is of another run")
    return content


def load_newest(run: Path, run_id: str | None = None) -> tuple[dict[str, Any], str]:
    """Returns the newest valid state of a run folder, and what is wrong with the file that should have held it ("").

    That is `last.pt`; `previous.pt` if the former is missing or damaged. Raises CheckpointError if neither can be read.
    """
    try:
        return load(run / paths.LAST, run_id), ""
    except CheckpointError as error:
        previous = run / paths.PREVIOUS
        try:
            return load(previous, run_id), str(error)
        except CheckpointError as older:
            raise CheckpointError(f"{error}; {older}" if previous.exists() else str(error)) from error


@contextmanager
def errors_as_one(what: str) -> Iterator[None]:
    """Raises one CheckpointError, which begins with `what`, for a checkpoint that cannot be read or does not fit."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{what}: {error}") from error
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:  # a valid file of something else
        if hardware.is_out_of_memory(error):
            raise
        raise CheckpointError(f"{what}: {' '.join(str(error).split())}") from error


def load_tensors(path: Path) -> Any:
    """Returns what `torch.save` wrote, ours or another's, if it consists of tensors and plain values.

    Every byte is compared with the checksums (CRC-32) in the file.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such checkpoint")
    if not path.is_file():  # a pipe would block
        raise CheckpointError(f"{path}: is not a file")
    try:
        if zipfile.is_zipfile(path):  # files of PyTorch before 1.6 are not, and have no checksums
            with zipfile.ZipFile(path) as archive:
                if any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist()):  # it could fill the memory
                    raise CheckpointError(f"{path}: is compressed, which PyTorch's files are not")
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
        if hardware.is_out_of_memory(error):
            raise
        raise CheckpointError(f"{path}: damaged, or not a checkpoint ({type(error).__name__})") from error
