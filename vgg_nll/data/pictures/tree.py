"""Folders of folders: whether it is plain which of them are classes, and what to type if it is not."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from vgg_nll.data.pictures import walk
from vgg_nll.errors import DataError

SPLITS = ("train", "val", "test")
BESIDE = "lies in a folder beside train/, val/ and test/"
MAX_SHOWN = 4  # names in a message


def check_beside_train(root: Path, names: Sequence[str]) -> None:
    """Raises DataError if folders with pictures stand beside train/, which has neither val/ nor test/ beside it.

    Then train may be a class, like the others.
    """
    if "train" not in names or {"val", "test"} & set(names):
        return
    others = [name for name in names if name != "train" and any(map(_is_picture, _files(root / name)))]
    if others:
        raise DataError(
            f"data.root={root}: train/ stands beside folders with pictures that are no splits ({_listed(others)}); move those "
            "into train/, or rename train/, if it is a class"
        )


def beside_the_splits(folder: Path) -> Iterator[walk.Found]:
    """Yields the pictures in and below a folder that is none of the splits; the folder itself if it has none."""
    pictures = [path for path in _files(folder) if _is_picture(path)]
    yield from (walk.Found(path, 0, BESIDE) for path in pictures or [str(folder)])


def check_not_nested(root: Path, train: Path, names: Sequence[str]) -> None:
    """Raises DataError if no class folder has pictures of its own, and every one has folders with pictures.

    Those may be the classes (animals/cat), or parts of one (cat/2024); or all may be splits (seg_train/seg_train/forest).
    """
    levels = [level for name in names if (level := class_level(train / name)) is not None]
    if len(levels) < len(names):
        return
    classes = [walk.class_folders(level) for level in levels]
    trees = [f"{level.relative_to(root)}/{{{_listed(found)}}}" for level, found in zip(levels, classes, strict=True)]
    first = max(range(len(levels)), key=lambda k: ("train" in names[k].lower(), len(classes[k])))
    are_splits = all(found == classes[0] for found in classes) and len(classes) > 1
    example = classes[0][0]
    raise DataError(
        f"data.root={root}: the folders {_listed(names)} have no pictures of their own; those below have: {_listed(trees)}; "
        f"data.root={levels[first]} makes classes of {_listed(classes[first])}, data.nested=true of {_listed(names)}"
        + (f"; if these are splits of one data set, make train/{example}, test/{example}, ... of them" * are_splits)
    )


def class_level(folder: Path) -> Path | None:
    """Returns the first folder, at or below this one, whose folders have pictures of their own.

    None if this one has pictures itself, or there are none.
    """
    if _has_pictures(folder):
        return None
    inner = [folder / name for name in walk.class_folders(folder)]
    if any(map(_has_pictures, inner)):
        return folder
    return next((level for part in inner if (level := class_level(part)) is not None), None)


def _has_pictures(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(_is_picture(entry.name) for entry in entries)


def _files(folder: Path) -> Iterator[str]:
    for place, _, names in os.walk(folder):
        yield from (os.path.join(place, name) for name in sorted(names))  # noqa: PTH118 - a Path for each takes longer


def _is_picture(name: str) -> bool:
    return name.lower().endswith(walk.PICTURES)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_SHOWN]) + (", ..." if len(names) > MAX_SHOWN else "")
