"""Files that hold a training state: written whole or not at all, read without running code from them.

Knows files and dicts only; what the dict means is the business of `state`.
"""

import os
import pickle
from pathlib import Path
from typing import Any

import torch

FORMAT_VERSION = 1
LAST, BEST = "last.pt", "best.pt"


class CheckpointError(ValueError):
    """A checkpoint that is not there, not whole, or not ours."""


def save(path: Path, content: dict[str, Any]) -> None:
    """Writes `content` (tensors, numbers, strings, dicts and lists of them) to `path` in one step.

    The bytes go to a neighbour, are flushed to the disk, and take the name last: a reader, or a crash, sees the old
    file or the new one. Raises OSError, with the old file in place, where the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            torch.save({"format_version": FORMAT_VERSION, **content}, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """The dict that `save` wrote, its tensors on the CPU. Unpickles tensors and plain values only.

    Raises:
        CheckpointError: the file is missing, damaged, not a checkpoint of this project, or of a newer format.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged, or not a checkpoint ({type(error).__name__})") from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if version is None:
        raise CheckpointError(f"{path}: not a checkpoint of this project")
    if version > FORMAT_VERSION:
        raise CheckpointError(f"{path}: written by a newer version (format {version}; this one reads {FORMAT_VERSION})")
    return content
