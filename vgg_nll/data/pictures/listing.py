"""Lists a folder of pictures: which file is of which class and split. Opens files only if their content decides the split."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vgg_nll.data.bad_files import LEFT_OUT, BadImage
from vgg_nll.data.interface import digest_of
from vgg_nll.data.pictures import spelling, tree, walk
from vgg_nll.data.pictures.duplicates import split_by_content
from vgg_nll.data.pictures.samples import Sample, Samples
from vgg_nll.errors import DataError
from vgg_nll.files import expanded
from vgg_nll.model import imagenet_classes

log = logging.getLogger(__name__)
SPLITS = ("train", "val", "test")
MEANT = {
    "train": ("training",),
    "val": ("valid", "validation", "validate", "dev", "eval"),
    "test": ("testing", "tests"),
}
MAX_NAMES = 5  # in a message


@dataclass(frozen=True)
class Listing:
    """The pictures of a folder, by split, and its other files."""

    root: Path
    samples: dict[str, Samples]
    class_names: tuple[str, ...]
    bad: list[BadImage]
    by_content: bool  # whether the content of pictures decided their split
    by_table: bool = False  # whether a table has the classes, and the paths do not

    def digest(self, *, with_sizes: bool = False) -> str:
        """Returns a hash of the names of all files, below the root, and of their classes if the names do not hold them.

        With the sizes of the files, if asked, which records of runs do not hold.
        """
        start, names = len(str(self.root)), self.class_names
        return digest_of(
            os.fsencode(f"{split}{path[start:]}\0" + f"{names[label]}\0" * self.by_table + f"{size}\0" * with_sizes)
            for split, files in sorted(self.samples.items())
            for path, label, size in files
        )


def list_pictures(
    *,
    root: str | Path,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
    follow_links: bool = False,
    nested: bool = True,
) -> Listing:
    """Lists `root/train/<class>/`, `root/val/` and `root/test/`; or `root/<class>/`, split by content.

    Without `root/val`, `val_fraction` of the training pictures validate. The classes are those of the training pictures.

    Args:
        val_fraction, test_fraction, split_seed: of pictures that are not in folders val/ and test/; 0 for no test.
        follow_links: also links that lead out of the root.
        nested: folders in class folders are parts of the class, even if no class folder has pictures of its own.

    Raises DataError if folders are missing, empty, or probably misnamed, or if there are fewer than two classes.
    """
    root = expanded(str(root)).absolute()
    walk.check_root(root)
    names = walk.class_folders(root)
    _check_names(root, names)
    has_splits = "train" in names
    folders = {name: root / name for name in SPLITS if name in names} if has_splits else {"train": root}
    class_names = _class_names(root, folders["train"])
    if not nested:
        tree.check_not_nested(root, folders["train"], class_names)
    tree.check_beside_train(root, names)
    samples, bad = {}, []
    for split, folder in folders.items():
        what = f"data.root={root}: two class folders in {folder.name}/ have names that look equal"
        spelling.check_look_alikes(walk.class_folders(folder), what, "move the pictures into one of them, or rename one")
        spelling.check_classes(root, folders["train"], folder, class_names)
        samples[split], left_out = _list_split(root, folder, split if has_splits else "", class_names, follow_links)
        bad += left_out
    if has_splits:
        bad += [_row(file, "", "") for file in walk.beside_the_classes(root)]
        bad += [_row(file, "", "") for name in names if name not in SPLITS for file in tree.beside_the_splits(root / name)]
    shares = {"val": val_fraction, "test": 0.0 if has_splits else test_fraction}
    return make_listing(root, samples, class_names, bad, shares, split_seed)


def make_listing(
    root: Path,
    samples: dict[str, list[Sample]],
    class_names: Sequence[str],
    bad: list[BadImage],
    fractions: dict[str, float],
    split_seed: int,
    *,
    by_table: bool = False,
) -> Listing:
    """Returns a listing whose missing splits are parts of the training pictures, taken by content.

    Args:
        samples: by split; "train" is one of them.
        fractions: of the training pictures, for each split that may be missing; 0: it stays missing.

    Raises DataError if a split has no pictures.
    """
    shares = {split: fraction for split, fraction in fractions.items() if split not in samples and fraction > 0}
    if shares:
        samples = samples | _split(samples["train"], shares, split_seed)
    for split in samples:
        if not samples[split]:
            added = (
                f"add some, or raise data.{split}_fraction={shares[split]:g}" if split in shares else "add some, or remove it"
            )
            raise DataError(f"data.root={root}: there are no pictures in {split}/; {added}")
    packed = {split: Samples(samples[split]) for split in SPLITS if split in samples}
    return Listing(root, packed, tuple(class_names), bad, by_content=bool(shares), by_table=by_table)


def list_imagenet(*, root: str | Path, follow_links: bool = False) -> Listing:
    """Lists ImageNet's `root/train/n01440764/`, ... and `root/val/n01440764/`, ..., with the English names of its classes.

    Their folders are the sorted WordNet ids. Raises DataError as `list_pictures` does, and unless there are 1,000 such folders.
    """
    listing = list_pictures(root=root, follow_links=follow_links)
    folders, names = listing.class_names, imagenet_classes()
    if len(folders) != len(names) or not all(folder.startswith("n") and folder[1:].isdigit() for folder in folders):
        raise DataError(
            f"data.root: has {len(folders):,} class folders, the first is {folders[0]}; ImageNet has 1,000 from n01440764 on; "
            "data=image_folder takes any"
        )
    return replace(listing, class_names=names)


def list_test_set(root: str | Path, class_names: Sequence[str]) -> Listing:
    """Lists a folder whose pictures are all tested, `root/<class>/`, or `root/test/<class>/` if there is such a folder.

    Its folders are matched with the classes by name (letter by letter, in NFC). What has no pictures of a class is said.

    Args:
        class_names: those of the network; the labels count in their order.

    Raises DataError for folders whose names are no classes, and if there are no pictures.
    """
    root = expanded(str(root)).absolute()
    walk.check_root(root)
    known = {spelling.letters(name): label for label, name in enumerate(class_names)}
    folder = root / "test" if "test" in walk.class_folders(root) and "test" not in known else root
    labels = {name: known.get(spelling.letters(name)) for name in walk.class_folders(folder)}
    unknown = [name for name, label in labels.items() if label is None]
    if unknown:
        raise DataError(
            f"{folder}: the network does not know {', '.join(unknown[:MAX_NAMES])}; rename or remove what is no class: "
            "it knows "
            f"{', '.join(class_names[:MAX_NAMES])}{', ...' * (len(class_names) > MAX_NAMES)}"
        )
    samples, bad = [], [_row(file, "test", "") for file in walk.beside_the_classes(folder)]
    for name, label in labels.items():
        for file in walk.walk(folder / name, root, follow_links=True):
            if file.reason:
                bad.append(_row(file, "test", name))
            elif label is not None:
                samples.append(Sample(file.path, label, file.bytes))
    if not samples:
        raise DataError(f"{folder}: has no pictures in folders named as the classes: {', '.join(class_names[:MAX_NAMES])}")
    missing = [name for label, name in enumerate(class_names) if label not in {sample.label for sample in samples}]
    if missing:
        log.warning(f"warning: {folder} has no pictures of {', '.join(missing[:MAX_NAMES])}: it says nothing of them")
    return Listing(root, dict.fromkeys(SPLITS, Samples(samples)), tuple(class_names), bad, by_content=False)


def _check_names(root: Path, names: list[str]) -> None:
    """Raises DataError if a folder seems to be that of a split under another name."""
    meant = {name: split for name in names for split in SPLITS if split not in names and name.lower() in (split, *MEANT[split])}
    all_splits = set(names) <= {*SPLITS, *meant}
    if "train" in names or (names and all_splits):
        for name, split in meant.items():
            raise DataError(f"data.root={root}: {name}/ is not read; rename it to {split}/, if that is what it is")
        if "train" not in names:
            raise DataError(f"data.root={root}: there is no train/; {walk.EXPECTED_TREE.format(root=root)}")
    for name in names:
        if "train" not in names and name in SPLITS:
            others = ", ".join([other for other in names if other != name][:MAX_NAMES])
            raise DataError(
                f"data.root={root}: {name}/ stands beside folders that are no splits ({others}); move those into train/, or "
                "rename it, if it is a class"
            )


def _class_names(root: Path, train: Path) -> list[str]:
    names = walk.class_folders(train)
    where = "" if train == root else " in train/"
    if not names:
        raise DataError(f"data.root={root}: no class folders with pictures{where}; {walk.EXPECTED_TREE.format(root=root)}")
    if len(names) == 1:
        raise DataError(f"data.root={root}: one class folder only{where}, {names[0]}/; a network tells two or more apart")
    return names


def _list_split(
    root: Path, folder: Path, split: str, class_names: list[str], follow_links: bool
) -> tuple[list[Sample], list[BadImage]]:
    samples: list[Sample] = []
    bad = [_row(file, split, "") for file in walk.beside_the_classes(folder)]
    there = spelling.folders_of(folder, class_names)
    for label, name in enumerate(class_names):
        before = len(samples)
        for file in walk.walk(there[name], root, follow_links) if name in there else ():
            if file.reason:
                bad.append(_row(file, split, name))
            else:
                samples.append(Sample(file.path, label, file.bytes))
        if len(samples) == before and split in ("train", ""):
            advice = f"add some to {folder / name}, or remove it"
            raise DataError(f"data.root={root}: the class {name} has no pictures{_why(bad, name)}; {advice}")
    return samples, bad


def _why(bad: list[BadImage], name: str) -> str:
    found = [row for row in bad if row.class_name == name]
    return f" ({len(found)} other files; {Path(found[0].path).name} {found[0].reason})" if found else ""


def _row(file: walk.Found, split: str, class_name: str) -> BadImage:
    return BadImage(file.path, split, class_name, file.reason, LEFT_OUT, file.is_bad)


def _split(samples: list[Sample], shares: dict[str, float], seed: int) -> dict[str, list[Sample]]:
    parts: dict[str, list[Sample]] = {name: [] for name in ("train", *shares)}
    found = split_by_content([sample.path for sample in samples], [sample.label for sample in samples], shares, seed)
    for sample, split in zip(samples, found, strict=True):
        parts[split].append(sample)
    return parts
