"""Files that are written whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO


def atomic_write(path: Path, content: str | bytes | Callable[[IO[bytes]], None], *, previous: Path | None = None) -> None:
    """Writes a file in one step: a reader, or a crash, sees the old file or the new one, never a part of either.

    The bytes go to a neighbour, `.<name>.<process>.tmp`, are flushed to the disk, and get the name last.

    Args:
        content: the text, the bytes, or a function that writes them to an open file.
        previous: keeps the old file under this name. A crash between the two renames leaves that one alone.

    Raises OSError, with the old file in place, if the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            path.replace(previous)
        unfinished.replace(path)
        _flush_names(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Removes the parts of files that a killed process has left behind."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def _flush_names(folder: Path) -> None:
    """Makes a rename survive a power failure, if the system can flush a folder."""
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
