"""Every kind of file in a folder of pictures that is of no use, or looks like it."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (40, 40)) -> bytes:
    """Returns a picture of noise as the bytes of a file."""
    content = io.BytesIO()
    noise = RNG.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(content, kind)
    return content.getvalue()


def bomb(width: int, height: int) -> bytes:
    """Returns a PNG that announces so many pixels, in a hundred bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def tiff_of(values: np.ndarray) -> bytes:
    """Returns a TIFF of these numbers."""
    content = io.BytesIO()
    Image.fromarray(values).save(content, "TIFF")
    return content.getvalue()


def transparent() -> bytes:
    """Returns a PNG that shows nothing."""
    content = io.BytesIO()
    Image.new("RGBA", (40, 40), (9, 9, 9, 0)).save(content, "PNG")
    return content.getvalue()


CUT = {kind: encoded(kind)[:700] for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF")}
# Name -> what is in the file, and words of the reason. Pictures by their names: they count as damaged.
DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty.png": (b"", "cannot be read: empty, 0 bytes"),
    "text.png": (b"this is no picture", "not a picture"),
    "page.jpg": (b"<!DOCTYPE html><html>404</html>", "not a picture"),
    "cut.png": (CUT["PNG"], "truncated"),
    "cut.jpg": (CUT["JPEG"], "truncated"),
    "cut.bmp": (CUT["BMP"], "truncated"),
    "cut.webp": (CUT["WEBP"], "cannot be read as a picture"),
    "cut.tif": (CUT["TIFF"], "cannot be read as a picture"),
    "head.png": (encoded("PNG")[:20], "cannot be read as a picture"),
    "bomb.png": (bomb(30000, 30000), "pixels, which would fill the memory"),
    "narrow.png": (encoded("PNG", size=(2, 900)), "2x900 pixels are too narrow"),
    "zeros.jpg": (bytes(1000), "not a picture"),
    "integers.tif": (tiff_of(np.arange(1600, dtype=np.int32).reshape(40, 40)), "32-bit integers"),
    "nan.tif": (tiff_of(np.full((40, 40), np.nan, np.float32)), "NaN or infinite"),
    "range.tif": (tiff_of(np.full((40, 40), -3, np.float32)), "floats from -3 to -3"),
    "photo.heic": (b"x", ".heic: is not read as a picture"),  # without pillow-heif
    "camera.NEF": (b"x", ".NEF: is not read as a picture"),
    "clear.png": (transparent(), "every pixel is transparent"),
    "svg.jpeg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
}
# Not pictures by their names: left out, and listed.
OTHERS: dict[str, tuple[bytes, str]] = {
    "notes.txt": (b"x", r".txt: is not read as a picture"),
    "movie.mp4": (b"x", r".mp4: is not read as a picture"),
    "raw.npy": (b"x", r".npy: is not read as a picture"),
    "no_suffix": (encoded("PNG"), "no suffix: is not read as a picture"),
    "half.png.part": (encoded("PNG"), r".part: is not read as a picture"),
    ".DS_Store": (b"x", "is hidden"),
    "._mac.png": (b"x", "is hidden"),
    "Thumbs.db": (b"x", "of an operating system"),
    "desktop.ini": (b"x", "of an operating system"),
}


def broken_link(folder: Path) -> Path:
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    return folder / "gone.png"


def link_out(folder: Path) -> Path:
    outside = folder.parents[2] / "outside.png"
    outside.write_bytes(encoded("PNG"))
    (folder / "out.png").symlink_to(outside)
    return folder / "out.png"


def folder_out(folder: Path) -> Path:
    outside = folder.parents[2] / "outside"
    outside.mkdir(exist_ok=True)  # of another test of this process, too
    (outside / "x.png").write_bytes(encoded("PNG"))
    (folder / "folder_out").symlink_to(outside)
    return folder / "folder_out"


def link_to_itself(folder: Path) -> Path:
    (folder / "again").symlink_to(folder)
    return folder / "again"


def ring(folder: Path) -> Path:
    (folder / "ring.png").symlink_to(folder / "ring.png")
    return folder / "ring.png"


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.png")
    return folder / "pipe.png"


def system_folder(folder: Path) -> Path:
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints/x.png").write_bytes(encoded("PNG"))
    return folder / ".ipynb_checkpoints"


def beside(folder: Path) -> Path:
    (folder.parent / "beside.png").write_bytes(encoded("PNG"))
    return folder.parent / "beside.png"


def mac_folder(folder: Path) -> Path:
    (folder.parent / "__MACOSX").mkdir()
    (folder.parent / "__MACOSX/x.png").write_bytes(encoded("PNG"))
    return folder.parent / "__MACOSX"


# Functions that make something else than a file of bytes, and words of the reason.
DAMAGED_LINKS: dict[Callable[[Path], Path], str] = {
    broken_link: "cannot be read: a link to a file that is gone",
    link_out: "is a link that leads out of data.root",
    folder_out: "is a link that leads out of data.root",
    ring: "cannot be read: Too many levels of symbolic links",
    pipe: "cannot be read: a pipe, not a file",
}
OTHER_LINKS: dict[Callable[[Path], Path], str] = {
    link_to_itself: "is a link to a folder that is listed already",
    system_folder: "is hidden",
    beside: "lies beside the class folders",
    mac_folder: "of an operating system",
}


def write_bad_files(folder: Path) -> dict[str, tuple[str, bool]]:
    """Writes one of each kind into (or beside) the class folder `root/<split>/<class>`.

    Returns path -> (words of the reason, whether it counts as damaged).
    """
    expected = {}
    for files, is_damaged in ((DAMAGED, True), (OTHERS, False)):
        for name, (content, words) in files.items():
            (folder / name).write_bytes(content)
            expected[str(folder / name)] = (words, is_damaged)
    for links, is_damaged in ((DAMAGED_LINKS, True), (OTHER_LINKS, False)):
        for make, words in links.items():
            expected[str(make(folder))] = (words, is_damaged)
    return expected
