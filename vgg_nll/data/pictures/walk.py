"""What a folder of pictures must look like, and which files are some. Loads nothing slow: what is wrong is refused at once."""

import functools
import importlib.util
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from vgg_nll.errors import DataError
from vgg_nll.files import expanded

EXPECTED_TREE = (
    "expected {root}/train/<class>/*.png|jpg, {root}/val/<class>/..., and optionally {root}/test/<class>/...; or "
    "{root}/<class>/*.png|jpg, which data.val_fraction and data.test_fraction split"
)
PICTURES = (
    *(".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"),  # torchvision's
    *(".jfif", ".jpe", ".gif", ".avif"),  # a GIF gives its first picture
)
HEIF = (".heic", ".heif", ".hif")  # the photographs of telephones
NEEDS_HEIF = "is not read as a picture without pillow-heif; pip install pillow-heif, or convert it to JPEG"
UNKNOWN_PICTURES = (  # by their names; nothing here reads them
    *(".jxl", ".jp2", ".j2k", ".jpx", ".ico", ".psd", ".tga", ".svg", ".exr", ".hdr", ".pcx", ".dcm", ".xcf"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".raw"),  # of cameras
)
OF_SYSTEMS = ("__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir")  # macOS, Windows, Synology; names with a dot, too
ELSEWHERE = "is a link to another part of data.root, which would count twice"
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst")
LEADS_OUT = "is a link that leads out of data.root (data.follow_links=true follows it)"
KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


class Found(NamedTuple):
    """A file of a class folder, and why it is not a picture to train on ("": it is one, as far as its name and size say)."""

    path: str
    bytes: int
    reason: str = ""
    is_bad: bool = False  # it should be a picture: its name says so


def check_root(root: Path) -> None:
    """Raises DataError if there is no such folder."""
    if root.is_file():
        is_archive = root.suffix.lower() in ARCHIVES
        raise DataError(f"data.root={root}: is a file{'; unpack it, and name the folder' if is_archive else ', not a folder'}")
    if not root.is_dir():
        raise DataError(f"data.root={root}: there is no such folder; {EXPECTED_TREE.format(root=root)}")


def find_table(root: Path, labels: str) -> Path:
    """Returns the file of `data.labels`: one in the root, or a path.

    Raises DataError if there is none.
    """
    tables = root / labels, expanded(labels).absolute()
    found = next((table for table in tables if table.is_file()), None)
    if found is None:
        raise DataError(f"data.labels={labels}: there is no such file, in data.root={root} or here")
    return found


def is_of_system(name: str) -> bool:
    """Returns whether a file or folder is hidden, or one that an operating system leaves behind."""
    return name.startswith(".") or name in OF_SYSTEMS


def class_folders(folder: Path) -> list[str]:
    """Returns the names of the folders in a folder, sorted, without those of operating systems."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if _is_folder(entry) and not is_of_system(entry.name))


def beside_the_classes(folder: Path) -> Iterator[Found]:
    """Yields the files that lie beside the class folders, and the folders of operating systems."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if is_of_system(entry.name):
                yield Found(entry.path, 0, "is hidden, or of an operating system")
            elif not _is_folder(entry):
                yield Found(entry.path, 0, "lies beside the class folders, in none of them")


def walk(folder: Path, root: Path, follow_links: bool) -> Iterator[Found]:
    """Yields every file in and below a class folder, sorted within each folder; each folder once, however it is linked.

    Args:
        root: links out of it are not followed, unless `follow_links`.
    """
    real_root = os.path.realpath(root)
    real_folder = os.path.realpath(folder)
    seen: set[str] = set()

    def leads_out(path: str) -> bool:
        return not follow_links and not is_inside(os.path.realpath(path), real_root)

    def below(inner: str) -> Iterator[Found]:
        seen.add(os.path.realpath(inner))
        with os.scandir(inner) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
        folders = []
        for entry in entries:
            if is_of_system(entry.name):
                yield Found(entry.path, 0, "is hidden, or of an operating system")
            elif entry.is_symlink() and leads_out(entry.path) and os.path.exists(entry.path):  # noqa: PTH110 - faster
                yield Found(entry.path, 0, LEADS_OUT, True)
            elif entry.is_symlink() and _is_folder(entry) and _is_elsewhere(entry.path, real_root, real_folder):
                yield Found(entry.path, 0, ELSEWHERE)
            elif _is_folder(entry):
                folders.append(entry.path)
            else:
                yield look(entry.path)
        for path in folders:
            if os.path.realpath(path) in seen:
                yield Found(path, 0, "is a link to a folder that is listed already")
            else:
                yield from enter(path)

    def enter(path: str) -> Iterator[Found]:
        if os.access(path, os.R_OK | os.X_OK):
            yield from below(path)
        else:
            yield Found(path, 0, "is a folder without permission to read it", True)

    if leads_out(str(folder)):
        yield Found(str(folder), 0, LEADS_OUT, True)
    else:
        yield from enter(str(folder))


def is_inside(real: str, folder: str) -> bool:
    """Returns whether a path is a folder, or lies below it; both without links."""
    return real == folder or real.startswith(folder.rstrip(os.sep) + os.sep)


def _is_elsewhere(path: str, real_root: str, real_folder: str) -> bool:
    """Returns whether a link leads to a folder of the root that is not of this class, or that holds this class."""
    real = os.path.realpath(path)
    return (is_inside(real, real_root) and not is_inside(real, real_folder)) or is_inside(real_folder, real + os.sep)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def look(path: str) -> Found:
    """Returns what a file is, by its name and its size."""
    suffix = os.path.splitext(path)[1]  # noqa: PTH122 - a Path for each of a million files takes seconds
    if is_heif(suffix) and not has_heif():
        return Found(path, 0, f"{suffix}: {NEEDS_HEIF}", True)
    if suffix.lower() not in PICTURES and not is_heif(suffix):
        reason = f"{suffix or 'no suffix'}: is not read as a picture; convert it to PNG or JPEG, if it is one"
        return Found(path, 0, reason, suffix.lower() in UNKNOWN_PICTURES)
    size, why = usable_bytes(path)
    return Found(path, size, f"cannot be read: {why}" if why else "", bool(why))


def is_heif(suffix: str) -> bool:
    """Returns whether a file is a HEIC by its name."""
    return suffix.lower() in HEIF


@functools.cache
def has_heif() -> bool:
    """Returns whether pillow-heif is installed. Loads nothing."""
    return importlib.util.find_spec("pillow_heif") is not None


def usable_bytes(path: str | Path) -> tuple[int, str]:
    """Returns the size of a file, and why it cannot be read ("": it can). A pipe would block; an empty file gives no error."""
    try:
        status = os.stat(path)  # noqa: PTH116 - as above
    except FileNotFoundError:
        return 0, "a link to a file that is gone" if os.path.islink(path) else "there is no such file"  # noqa: PTH114
    except OSError as error:
        return 0, error.strerror or str(error)
    if not stat.S_ISREG(status.st_mode):
        return 0, f"{KINDS.get(stat.S_IFMT(status.st_mode), 'a folder')}, not a file"
    if status.st_size == 0:
        return 0, "empty, 0 bytes"
    return status.st_size, "" if os.access(path, os.R_OK) else "Permission denied"


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """Returns the files among `paths` as they are, and every picture in and below the folders among them.

    Raises DataError if there is no such file or folder, or no picture in a folder.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            # also behind links, as in training; each folder once; damaged ones, too
            files = walk(path, path, follow_links=True)
            below = sorted(Path(file.path) for file in files if not file.reason or file.is_bad)
            if not below:
                raise DataError(f"{path}: holds no pictures ({', '.join(PICTURES)})")
            found += below
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"{path}: there is no such file or folder")
    return found
