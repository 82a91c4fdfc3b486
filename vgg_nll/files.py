"""Files that are written whole or not at all, and read without trust."""

import csv
import io
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from vgg_nll.escapes import csv_cell, printable


def atomic_write(path: Path, content: str | bytes | Callable[[IO[bytes]], None], *, previous: Path | None = None) -> None:
    """Writes a file in one step: a reader, or a crash, sees the old file or the new one, never a part of either.

    The bytes go to a neighbour, `.<name>.<process>.tmp`, are flushed to the disk, and get the name last. The folder must be
    there: one that was removed is not made again.

    Args:
        content: the text, the bytes, or a function that writes them to an open file.
        previous: keeps the old file under this name. There is a file `path` at every moment, if the file system has hard links.

    Raises OSError with the path, and with the old file in place, if the disk refuses.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with naming_the_file(path):
        unfinished.unlink(missing_ok=True)
        try:
            with unfinished.open("xb") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            if previous is not None and path.exists():
                _keep(path, previous)
            unfinished.replace(path)
            _flush_names(path.parent)
        finally:
            unfinished.unlink(missing_ok=True)


@contextmanager
def naming_the_file(path: Path) -> Iterator[None]:
    """Gives an OSError of the block the path, if it has none: that of a full disk has none."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a table in one step. Errors: as `atomic_write`.

    Control characters in text are escaped, and so is what a spreadsheet would take for a formula.
    """

    def write(file: IO[bytes]) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        table = csv.writer(text, lineterminator="\n")
        table.writerow(head)
        table.writerows([csv_cell(printable(cell)) if isinstance(cell, str) else cell for cell in row] for row in rows)
        text.flush()
        text.detach()

    atomic_write(path, write)


def expanded(text: str) -> Path:
    """Returns a path with the home folder in the place of `~`; a name that only begins with `~` stays."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # there is no such user
        return Path(text)


def is_name_of_weights(text: str) -> bool:
    """Returns whether `model.weights` is a name of pretrained weights, in capitals, and no path."""
    return re.fullmatch(r"[A-Z0-9_]+", text) is not None


def read_regular_file(path: Path, max_bytes: int) -> bytes:
    """Reads a file that somebody else may have put there.

    Raises ValueError for anything but a regular file (a link, a pipe, a device: some block for ever), and for one that is
    larger than `max_bytes`; OSError if it cannot be read.
    """
    if path.is_symlink():
        raise ValueError("is a link")
    # without O_NONBLOCK, a pipe would wait here for a writer
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("is not a regular file")
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"is larger than {max_bytes:,} bytes")
    return content


def remove_unfinished(folder: Path) -> None:
    """Removes the parts of files that a killed process has left behind."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def _keep(path: Path, previous: Path) -> None:
    """Gives a file a second name, in the place of what had it; a file system without hard links renames it."""
    link = previous.with_name(f".{previous.name}.{os.getpid()}.tmp")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:
        path.replace(previous)
    else:
        link.replace(previous)
    finally:
        with suppress(OSError):
            link.unlink(missing_ok=True)


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
