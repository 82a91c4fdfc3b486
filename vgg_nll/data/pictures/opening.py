"""Files of pictures, opened by Pillow: without its warnings, and with limits of our own."""

import importlib
import io
import logging
import os
import re
import stat
import threading
import warnings
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from vgg_nll.data.pictures.colour import cicp_of
from vgg_nll.data.pictures.walk import has_heif

MAX_TEXT = 1 << 28  # bytes of text in a PNG, or of its profile: the memory holds them
# What is set while pictures are read. Loggers tell what is wrong with a TIFF; the reason is in our line. Setting their level
# would make Python forget the levels of all others, which takes longer than to read a header.
LIMITS: tuple[tuple[Any, str, Any], ...] = (
    (Image, "MAX_IMAGE_PIXELS", None),  # data.max_megapixels counts the pixels that are decoded
    (PngImagePlugin, "MAX_TEXT_CHUNK", MAX_TEXT),
    (PngImagePlugin, "MAX_TEXT_MEMORY", MAX_TEXT),
    (logging.getLogger("PIL.TiffImagePlugin"), "disabled", True),
)
JPEG = b"\xff\xd8\xff"  # the first bytes of one
BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # of HEIF files
PILLOWS = ("ignore", None, Warning, re.compile(r"PIL\b"), 0)  # a filter of warnings, as `warnings` keeps them
_state = threading.Lock()
_before: list[tuple[list[Any], list[Any]]] = []
_depth = 0


class quietly:
    """Keeps Pillow's warnings to itself, and lifts its limits, for as long as one thread at least is inside.

    It takes 3 microseconds of the 1,000 for a picture; `warnings.catch_warnings` alone would take 4.
    """

    def __enter__(self) -> None:
        global _depth
        with _state:
            _depth += 1
            if _depth == 1:
                filters: list[Any] = warnings.filters  # type: ignore[assignment]
                filters.insert(0, PILLOWS)
                _before.append((filters, [getattr(owner, name) for owner, name, _ in LIMITS]))
                for owner, name, value in LIMITS:
                    setattr(owner, name, value)

    def __exit__(self, *_: object) -> None:
        global _depth
        with _state:
            _depth -= 1
            if _depth == 0:
                filters, values = _before.pop()
                if PILLOWS in filters:
                    filters.remove(PILLOWS)
                for (owner, name, _), value in zip(LIMITS, values, strict=True):
                    setattr(owner, name, value)


def read_bytes(path: Path) -> bytes:
    """Reads a file. Raises OSError if it is none, or cannot be read.

    It is opened without a look at its name before: that would be two more system calls for each of a million pictures.
    """
    with open(path, "rb", buffering=0, opener=_without_waiting) as file:  # Path.open takes no opener
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("not a file")
        return file.readall()


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe would block


def open_picture(content: bytes) -> Image.Image:
    """Opens a picture: reads the header alone. For use inside `quietly`; raises whatever Pillow does."""
    if content[:3] == JPEG:  # at once, without a try of other formats
        return Image.open(io.BytesIO(content), formats=("JPEG",))
    if content[4:8] == b"ftyp" and content[8:12] in BRANDS:
        register_heif()
    picture = Image.open(io.BytesIO(content))
    if picture.format == "PNG":
        cicp = cicp_of(content)
        if cicp:
            picture.info["cicp"] = cicp
    return picture


def register_heif() -> None:
    """Teaches Pillow to read HEIC, if pillow-heif is installed."""
    if "HEIF" not in Image.OPEN and has_heif():
        importlib.import_module("pillow_heif").register_heif_opener()
