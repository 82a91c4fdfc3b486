"""Files of a folder of pictures that are of no use: which, why, and how many are too many."""

import csv
import io
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from vgg_nll.errors import DataError
from vgg_nll.escapes import printable
from vgg_nll.files import read_regular_file, write_csv

log = logging.getLogger(__name__)
LEFT_OUT, REPLACED = "left out", "replaced"
MAX_SHOWN = 3  # in a message
ALWAYS_ALLOWED = 5  # damaged pictures: a fraction of a small folder is less than one
MAX_BYTES = 1 << 28  # of the table of an earlier session


class BadImage(NamedTuple):
    """A file that is not used: left out from the start, or replaced by another picture of its class when it was read."""

    path: str
    split: str  # "" if it lies beside the splits
    class_name: str
    reason: str
    action: str
    is_damaged: bool  # it should be a picture


class BadImages:
    """The bad files of a data set.

    Args:
        images: number of pictures, with the damaged ones.
        raises: whether a damaged picture is an error.
        max_fraction: of damaged pictures; more, and more than `ALWAYS_ALLOWED`, are an error. 0 allows none.
    """

    HEAD = ("path", "split", "class", "reason", "action")

    def __init__(self, images: int, *, raises: bool, max_fraction: float) -> None:
        self.images, self.raises, self.max_fraction = images, raises, max_fraction
        self.rows: dict[str, BadImage] = {}

    def add(self, rows: Iterable[BadImage]) -> None:
        """Notes files. Raises DataError if damaged pictures are errors, or are too many.

        One of the test split that is found when it is read raises nothing: the network is trained then.
        """
        new = {row.path: row for row in rows if row.path not in self.rows}
        self.rows |= new
        damaged = [row for row in self.rows.values() if row.is_damaged]
        shown = "; ".join(f"{row.path}: {row.reason}" for row in damaged[:MAX_SHOWN])
        if damaged and self.raises:
            raise DataError(f"{shown}; data.on_error=skip goes on without {'it' if len(damaged) == 1 else 'them'}")
        if all(row.split == "test" and row.action == REPLACED for row in new.values()):
            return
        if len(damaged) > (max(ALWAYS_ALLOWED, self.max_fraction * self.images) if self.max_fraction else 0):
            least = f" and more than {ALWAYS_ALLOWED}" if self.max_fraction else ""
            raise DataError(
                f"data: {len(damaged)} of {self.images:,} pictures cannot be used, more than data.max_bad_fraction="
                f"{self.max_fraction:g}{least}; fix or remove them, or raise it. The first: {shown}"
            )

    def write(self, path: Path) -> None:
        """Writes a row per file, if there are any; rows of an earlier session of the run stay."""
        if not self.rows:
            return
        rows = {printable(row.path): row[:5] for row in self.rows.values()}
        try:
            before = list(csv.reader(io.StringIO(read_regular_file(path, MAX_BYTES).decode())))
        except (OSError, ValueError, csv.Error):
            before = []
        earlier = [tuple(row) for row in before[1:] if len(row) == len(self.HEAD) and row[0] not in rows]
        try:
            write_csv(path, self.HEAD, [*earlier, *rows.values()])
        except OSError as error:  # not worth a run
            log.warning(f"warning: {path.name} was not written: {error}")
