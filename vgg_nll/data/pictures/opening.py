"""Files of pictures, opened by Pillow: without its warnings, and with limits of our own."""

import contextlib
import importlib
import io
import logging
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from vgg_nll.data.pictures.colour import cicp_of
from vgg_nll.data.pictures.walk import has_heif

MAX_TEXT = 1 << 28  # bytes of text in a PNG, or of its profile: the memory holds them
LIMITS: tuple[tuple[Any, str, Any], ...] = (
    (Image, "MAX_IMAGE_PIXELS", None),  # data.max_megapixels counts the pixels that are decoded
    (PngImagePlugin, "MAX_TEXT_CHUNK", MAX_TEXT),
    (PngImagePlugin, "MAX_TEXT_MEMORY", MAX_TEXT),
)
BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # of HEIF files
_state = threading.Lock()
_inside: list[contextlib.ExitStack] = []
_depth = [0]


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keeps Pillow's warnings to itself, and lifts its limits, for as long as one thread at least is inside."""
    with _state:
        _depth[0] += 1
        if _depth[0] == 1:
            _inside.append(_lifted())
    try:
        yield
    finally:
        with _state:
            _depth[0] -= 1
            if _depth[0] == 0:
                _inside.pop().close()


def _lifted() -> contextlib.ExitStack:
    stack = contextlib.ExitStack()
    stack.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", module=r"PIL\b")
    logger = logging.getLogger("PIL")  # it writes what is wrong with a TIFF; the reason is in our line
    stack.callback(setattr, logger, "disabled", logger.disabled)
    stack.callback(logger.setLevel, logger.level)
    logger.setLevel(logging.CRITICAL + 1)
    for module, name, value in LIMITS:
        stack.callback(setattr, module, name, getattr(module, name))
        setattr(module, name, value)
    return stack


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
