"""What a threshold of confidence costs: the share of images that are still answered, and the accuracy on those."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vgg_nll.evaluation.metrics import PerImageResults
from vgg_nll.evaluation.report import format_table
from vgg_nll.files import write_csv
from vgg_nll.intervals import wilson_interval

THRESHOLDS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999)


class ThresholdRow(NamedTuple):
    """The images whose confidence is at least `threshold`: their number and share, and the accuracy on them with its 95%
    interval (Wilson); NaN if there are none."""

    threshold: float
    images: int
    coverage: float
    accuracy: float
    low: float
    high: float


def threshold_rows(images: PerImageResults) -> list[ThresholdRow]:
    """Returns a row per threshold of `THRESHOLDS`; one that answers the same images as the row before it is left out."""
    rows: list[ThresholdRow] = []
    for threshold in THRESHOLDS:
        is_answered = (images.confidence >= threshold) | (threshold == 0)  # 0 answers everything, NaN too
        number = int(is_answered.sum())
        if rows and number == rows[-1].images:
            continue
        accuracy, low, high = math.nan, math.nan, math.nan
        if number > 0:
            accuracy = float(images.correct[is_answered].mean())
            low, high = (min(max(bound, 0.0), 1.0) for bound in wilson_interval(accuracy, number))
        rows.append(ThresholdRow(threshold, number, number / len(images.confidence), accuracy, low, high))
    return rows


def threshold_table(rows: Sequence[ThresholdRow]) -> str:
    """Returns the rows as a table for a terminal."""
    head = ("threshold", "answered %", "accuracy %", "95% interval", "n")
    cells = [
        (
            f"{row.threshold:g}",
            f"{100 * row.coverage:.1f}",
            f"{100 * row.accuracy:.2f}" if row.images else "-",
            f"{100 * row.low:.1f} to {100 * row.high:.1f}" if row.images else "-",
            f"{row.images:,}",
        )
        for row in rows
    ]
    return format_table(head, cells, markdown=False)


def write_thresholds(path: Path, rows: Sequence[ThresholdRow]) -> None:
    """Writes the rows as a table of fractions; cells of no images are empty. Errors: as `atomic_write`."""
    write_csv(path, ThresholdRow._fields, [["" if value != value else value for value in row] for row in rows])
