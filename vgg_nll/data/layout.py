"""What a folder of pictures must look like, and which files are some. Loads nothing slow: what is wrong is refused at once."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from vgg_nll.errors import DataError

EXPECTED_TREE = "expected {root}/train/<class>/*.png|jpg, {root}/val/<class>/..., and optionally {root}/test/<class>/..."
PICTURES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's


def check_root(root: Path) -> None:
    """Raises DataError if there is no such folder."""
    if not root.is_dir():
        raise DataError(f"data.root={root}: there is no such folder; {EXPECTED_TREE.format(root=root)}")


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """Returns the files among `paths` as they are, and every picture in and below the folders among them.

    Raises DataError if there is no such file or folder, or no picture in a folder.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            below = sorted(_below(path))
            if not below:
                raise DataError(f"{path}: holds no pictures ({', '.join(PICTURES)})")
            found += below
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"{path}: there is no such file or folder")
    return found


def _below(folder: Path) -> Iterator[Path]:
    """Yields pictures in and below a folder, also behind links, as in training; each folder once."""
    seen = set()
    for name, folders, files in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(name))
        folders[:] = [inner for inner in folders if os.path.realpath(Path(name) / inner) not in seen]
        yield from (Path(name) / file for file in files if file.lower().endswith(PICTURES))
