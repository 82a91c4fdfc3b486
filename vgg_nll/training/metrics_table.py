"""metrics.csv: a row per validation, for people without TensorBoard."""

import csv
import io
import logging
import math
from collections.abc import Mapping
from pathlib import Path

from vgg_nll.files import atomic_write, read_regular_file

log = logging.getLogger(__name__)
STEP = "step"  # the first column
MAX_BYTES = 64 << 20


class MetricsTable:
    """Appends rows to a CSV file. The first row of a process replaces those of its own step and later: of an earlier process.

    An error of the disk is a warning, and ends the table: no run is lost for it.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._has_begun, self._has_failed = path, False, False

    def add(self, row: Mapping[str, float]) -> None:
        """Adds a row whose first column is the optimizer step. What is not finite is left empty."""
        if self._has_failed:
            return
        line = _line([_cell(value) for value in row.values()])
        try:
            if self._has_begun:
                with self._path.open("a", encoding="utf-8", newline="") as file:
                    file.write(line)
            else:
                atomic_write(self._path, _line(list(row)) + self._rows_before(row) + line)
        except OSError as error:
            self._has_failed = True
            log.warning(f"warning: {self._path} gets no more rows, training continues ({error})")
        self._has_begun = True

    def _rows_before(self, row: Mapping[str, float]) -> str:
        """Returns the whole rows of steps before this one; none if the file has other columns, or is not ours."""
        try:
            head, *rows = csv.reader(io.StringIO(read_regular_file(self._path, MAX_BYTES).decode()))
        except (OSError, ValueError, csv.Error):
            return ""
        if head != list(row):
            return ""
        kept = [cells for cells in rows if len(cells) == len(head) and cells[0].isdecimal() and int(cells[0]) < row[STEP]]
        return "".join(map(_line, kept))


def _cell(value: float) -> str:
    return repr(value) if math.isfinite(value) else ""


def _line(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
