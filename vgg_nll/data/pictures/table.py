"""Pictures whose classes stand in a table: a row for each, `path,label` or `path,label,split`."""

import csv
import io
import logging
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from vgg_nll.data.bad_files import LEFT_OUT, BadImage
from vgg_nll.data.pictures import spelling, walk
from vgg_nll.data.pictures.listing import SPLITS, Listing, make_listing
from vgg_nll.data.pictures.samples import Sample
from vgg_nll.errors import DataError
from vgg_nll.files import expanded

log = logging.getLogger(__name__)
DELIMITERS = ",;\t"
COLUMNS = "path,label or path,label,split"


class Row(NamedTuple):
    """A line of a table; without a column of splits, all are of "train"."""

    line: int
    path: str
    label: str
    split: str


def list_csv(
    *,
    root: str | Path,
    labels: str,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
    follow_links: bool = False,
) -> Listing:
    """Lists the pictures that a table names, with the classes that it gives them.

    With a column `split`, that is the split of each picture; else `val_fraction` and `test_fraction` are taken by content. The
    classes are those of the training pictures, in the order of the alphabet; a number is a name, too. The order of the rows
    changes nothing. Files that the table names and that cannot be used are bad pictures, and files below the root that it does
    not name are left out.

    Args:
        root: the folder that the paths of the table begin in.
        labels: the table, in UTF-8, with commas, semicolons or tabs: a file in the root, or a path.
        val_fraction, test_fraction, split_seed: of pictures that the table does not split; 0 for no test.
        follow_links: also links that lead out of the root.

    Raises DataError, with the number of the line, for a table that says nothing of a picture, or two things.
    """
    root = expanded(str(root)).absolute()
    walk.check_root(root)
    table = walk.find_table(root, labels)
    rows, has_splits = read_table(table, root)
    class_names = _class_names(table, rows)
    found = {file.path: file for file in walk.walk(root, root, follow_links) if file.path != str(table)}
    samples: dict[str, list[Sample]] = {row.split: [] for row in rows}
    bad: list[BadImage] = []
    numbers = {name: label for label, name in enumerate(class_names)}
    for row in sorted(rows, key=lambda row: (row.label, row.path)):
        listed = found.pop(row.path, None)
        file = listed if listed is not None and not listed.reason else _look(row.path, root, follow_links)
        if file.reason:
            bad.append(BadImage(file.path, row.split if has_splits else "", row.label, file.reason, LEFT_OUT, True))
        else:
            samples[row.split].append(Sample(file.path, numbers[row.label], file.bytes))
    _check_each_class(table, root, samples["train"], class_names, bad)
    for file in found.values():
        reason = file.reason if file.reason and not file.is_bad else f"is not named in {table.name}"
        bad.append(BadImage(file.path, "", "", reason, LEFT_OUT, False))
    fractions = {"val": val_fraction, "test": 0.0 if has_splits else test_fraction}
    return make_listing(root, samples, class_names, bad, fractions, split_seed, by_table=True)


def read_table(table: Path, root: Path) -> tuple[list[Row], bool]:
    """Returns the rows of a table, each picture once, with paths below the root, and whether it has a column of splits.

    Raises DataError for a table that cannot be read, and for a picture outside the root, or with two labels or splits.
    """
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{table}: is not text in UTF-8 ({error.reason}); save it as CSV in UTF-8") from error
    delimiter, columns = _columns(table, text)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows: dict[str, Row] = {}
    again = 0
    try:
        next(reader)
        for cells in reader:
            if any(cells):
                row = _row(table, root, reader.line_num, columns, cells)
                first = rows.setdefault(row.path, row)
                again += first is not row
                _check_equal(table, first, row)
    except csv.Error as error:
        raise DataError(f"{table}, line {reader.line_num}: cannot be read as CSV: {error}") from error
    if again:
        log.warning(f"warning: {table}: {again:,} lines name a picture once more; each counts once")
    return list(rows.values()), "split" in columns


def _columns(table: Path, text: str) -> tuple[str, list[str]]:
    """Returns what separates the cells, and the names of the columns."""
    first = text.partition("\n")[0]
    for delimiter in DELIMITERS:
        columns = [name.strip().lower() for name in next(csv.reader([first], delimiter=delimiter), [])]
        if {"path", "label"} <= set(columns):
            return delimiter, columns
    raise DataError(f"{table}: the first line must name the columns, {COLUMNS}; it is {first[:80]!r}")


def _row(table: Path, root: Path, line: int, columns: list[str], cells: list[str]) -> Row:
    where = f"{table}, line {line}"
    if len(cells) != len(columns):
        advice = "a cell with a separator in it needs quotes"
        raise DataError(f"{where}: has {len(cells)} cells, and the first line {len(columns)}; {advice}")
    given = dict(zip(columns, cells, strict=True))
    label, split = spelling.letters(given["label"]).strip(), given.get("split", "train").strip()
    if not given["path"] or not label:
        raise DataError(f"{where}: the {'label' if given['path'] else 'path'} is empty")
    if split not in SPLITS:
        raise DataError(f"{where}: split={split or 'empty'}: must be one of {', '.join(SPLITS)}")
    path = given["path"]
    inside = os.path.relpath(path, root) if os.path.isabs(path) else os.path.normpath(path)  # noqa: PTH117 - as in walk
    if f"{inside}{os.sep}".startswith(f"{os.pardir}{os.sep}"):
        raise DataError(f"{where}: {path} lies outside data.root={root}; data.root must be a folder that holds all pictures")
    return Row(line, os.path.join(root, inside), label, split)  # noqa: PTH118 - as in walk


def _check_equal(table: Path, first: Row, row: Row) -> None:
    for one, other in ((first.label, row.label), (first.split, row.split)):
        if one != other:
            lines = f"lines {first.line} and {row.line}"
            raise DataError(f"{table}, {lines}: {row.path} is {one} and {other}; a picture has one label and one split")


def _class_names(table: Path, rows: list[Row]) -> list[str]:
    """Returns the labels of the training pictures. Raises DataError for less than two, and for others elsewhere."""
    names = sorted({row.label for row in rows if row.split == "train"})
    if len(names) < 2:
        what = f"one label of training pictures only, {names[0]}" if names else "no training picture"
        raise DataError(f"{table}: has {what}; a network tells two or more classes apart")
    for row in rows:
        if row.split != "train" and row.label not in set(names):
            raise DataError(f"{table}, line {row.line}: {row.split} has {row.label}, which is the label of no training picture")
    spelling.check_look_alikes(names, f"{table}: two labels look equal", "write them alike")
    return names


def _check_each_class(table: Path, root: Path, samples: list[Sample], class_names: list[str], bad: list[BadImage]) -> None:
    """Raises DataError if a class has no picture to train on."""
    counts: Mapping[int, int] = Counter(sample.label for sample in samples)
    for label, name in enumerate(class_names):
        if counts[label] == 0:
            row = next(row for row in bad if row.class_name == name)
            example = f"{row.path}: {row.reason}"
            raise DataError(f"{table}: no picture of {name} can be used ({example}); paths begin in data.root={root}")


def _look(path: str, root: Path, follow_links: bool) -> walk.Found:
    """Returns what a file is that the table names: wherever it lies, but for links that lead out."""
    if not os.path.lexists(path):
        return walk.Found(path, 0, "there is no such file", True)
    if not follow_links and not walk.is_inside(os.path.realpath(path), os.path.realpath(root)):
        return walk.Found(path, 0, walk.LEADS_OUT, True)
    return walk.look(path)
