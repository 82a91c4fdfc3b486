"""What the runs said of single images: their margins, and the images on which losses disagree."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vgg_nll.comparison.grouping import Group
from vgg_nll.comparison.runs import Run
from vgg_nll.comparison.tables import Table
from vgg_nll.errors import CheckpointError
from vgg_nll.escapes import printable
from vgg_nll.run_folder import checksums, paths

MAX_IMAGES = 20
LIMIT = 100.0  # of log-odds, in a histogram


@dataclass(frozen=True)
class Predictions:
    """predictions.csv of one run, of N images."""

    labels: tuple[str, ...]
    predictions: tuple[str, ...]
    correct: np.ndarray  # bool [N]
    margin: np.ndarray  # [N], log(p / (1 - p)) of the prediction
    true_margin: np.ndarray  # [N], of the label


Found = Mapping[str, Mapping[int, Predictions]]  # loss -> seed -> predictions


class Disagreement(NamedTuple):
    """Images on which two losses disagree most."""

    indices: Sequence[int]
    table: Table


def read(run: Run, others: Mapping[str, Path] = {}) -> Predictions:
    """Returns the predictions of a run. Raises CheckpointError as `checksums.read_table` does, whose arguments these are."""
    path = run.folder / paths.PREDICTIONS
    text = checksums.read_table(path, run.files, others)
    try:
        head, *rows = csv.reader(io.StringIO(text))
        columns = dict(zip(head, zip(*rows, strict=True), strict=True))
        if list(map(int, columns["index"])) != list(range(len(rows))):
            raise ValueError
        correct, margin = (np.array(columns[name], dtype=float) for name in ("correct", "margin"))
        label_margin = columns.get("label_margin") or columns["true_margin"]  # its name before
        numbers = margin, np.array(label_margin, dtype=float)
        labels, predictions = (tuple(map(printable, columns[name])) for name in ("label", "prediction"))
    except (ValueError, LookupError, csv.Error) as error:
        raise CheckpointError(
            f"{path}: is damaged: it is no table of predictions; {checksums.how_to_fix(path, run.files)}"
        ) from error
    return Predictions(labels, predictions, correct == 1, *numbers)


def read_group(group: Group, others: Mapping[str, Path] = {}) -> tuple[dict[str, dict[int, Predictions]], list[str]]:
    """Returns loss -> seed -> predictions, of the runs that have them; and a line for each file that cannot be used.

    A cross-validation has a file per fold, of other images each: it has none here, and neither may a run from before.

    Args:
        others: checksum -> the file of a run.
    """
    found: dict[str, dict[int, Predictions]] = {}
    lines, without = [], 0
    for loss, by_seed in group.losses.items():
        for seed, run in by_seed.items():
            path = run.folder / paths.PREDICTIONS
            if run.parts or not (path.exists() or path.name in run.files.checksums):
                without += 1
                continue
            try:
                found.setdefault(loss, {})[seed] = read(run, others)
            except CheckpointError as error:
                lines.append(printable(str(error)))
    if without:
        lines.append(f"{group.name}: {without} of {len(group.runs)} runs have no {paths.PREDICTIONS}, so no single images")
    return found, lines


def disagreement(found: Found, first: str, second: str) -> Disagreement | None:
    """Returns the images on which the fractions of right seeds differ most, and of those the ones whose log-odds do.

    None if the losses were tested on other images, or agree on all.
    """
    sides = [list(found.get(loss, {}).values()) for loss in (first, second)]
    every = [run for side in sides for run in side]
    if not all(sides) or len({run.labels for run in every}) != 1:
        return None
    right = [np.mean([run.correct for run in side], axis=0) for side in sides]
    with np.errstate(invalid="ignore"):  # log-odds may be infinite
        odds = [np.mean([run.true_margin for run in side], axis=0) for side in sides]
        gap, width = np.abs(right[0] - right[1]), np.nan_to_num(np.abs(odds[0] - odds[1]))
    order = np.lexsort((-width, -gap))
    indices = [int(k) for k in order[:MAX_IMAGES] if gap[k] > 0]
    if not indices:
        return None
    rows = []
    for k in indices:
        cells = [str(k), every[0].labels[k]]
        for side, log_odds in zip(sides, odds, strict=True):
            usual, _ = Counter(run.predictions[k] for run in side).most_common(1)[0]
            cells += [f"{sum(int(run.correct[k]) for run in side)} of {len(side)}", usual, f"{log_odds[k]:+.1f}"]
        rows.append(tuple(cells))
    parts = [f"{loss}: {what}" for loss in (first, second) for what in ("right", "says", "log-odds")]
    return Disagreement(indices, Table(("image", "label", *parts), rows))


def margins(found: Found, *, right: bool) -> dict[str, np.ndarray]:
    """Returns the margins of all seeds' right, or wrong, predictions, by loss; an infinite one counts as `LIMIT`."""
    pooled = {
        loss: np.concatenate([run.margin[run.correct == right] for run in by_seed.values()]) for loss, by_seed in found.items()
    }
    return {loss: values[~np.isnan(values)].clip(-LIMIT, LIMIT) for loss, values in pooled.items()}
