"""Two losses of a group -> their differences, a row per metric, over seeds and over images; and what can be told from them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vgg_nll.comparison.grouping import Group
from vgg_nll.comparison.rescaled import LABEL
from vgg_nll.comparison.runs import Run
from vgg_nll.comparison.statistics import Estimate, detectable_difference, holm, mean_over_images, paired_difference
from vgg_nll.comparison.tables import Table, mean_or_nan, number, number_form, shown_values
from vgg_nll.evaluation.registry import Metric, View, shown_in

ALPHA = 0.05  # of p after Holm's correction
OVER_SEEDS, OVER_IMAGES = "95% over seeds", "95% over images"


class Row(NamedTuple):
    """The difference first - second of one metric, in the unit that is shown."""

    metric: Metric
    means: tuple[float, float]  # over the seeds that both losses have; NaN without a value
    over_seeds: Estimate  # of networks that other seeds train, on the same test images
    holm_p: float | None  # of `over_seeds`, corrected for the number of rows
    over_images: tuple[float, float] | None  # 95% interval: other test images, the same networks

    @property
    def differs(self) -> bool:
        """Returns whether the difference is larger than chance gives in a table of so many rows."""
        return self.holm_p is not None and self.holm_p < ALPHA

    @property
    def difference(self) -> str:
        """Returns "+0.12 (-0.10 to +0.34)"."""
        return self.signed(self.over_seeds.mean) + (
            "" if self.over_seeds.interval is None else f" ({self.signed(*self.over_seeds.interval)})"
        )

    def signed(self, *values: float) -> str:
        """Returns "+0.12", or "-0.12 to +0.34" of two."""
        return " to ".join(number(value, number_form(self.metric, "+")) for value in values)


def compare(group: Group, first: str, second: str) -> list[Row]:
    """Returns a row per metric of `View.PAIRED`; over images only if `rescaled.read_group` has read them."""
    sides = group.losses[first], group.losses[second]
    found = []
    for metric in shown_in(View.PAIRED):
        columns = [shown_values(metric, side) for side in sides]
        shared = columns[0].keys() & columns[1].keys()
        left, right = (mean_or_nan([column[seed] for seed in shared]) for column in columns)
        found.append((metric, (left, right), paired_difference(*columns), _over_images(metric, *sides)))
    corrected = holm([estimate.p for _, _, estimate, _ in found])
    return [Row(metric, means, seeds, p, images) for (metric, means, seeds, images), p in zip(found, corrected, strict=True)]


def table(rows: Sequence[Row], first: str, second: str) -> Table:
    """Returns both means, the difference with its two intervals, p before and after Holm's correction, the number of seeds."""
    cells = []
    for row in rows:
        over_seeds = row.over_seeds
        none = "none (no spread)" if over_seeds.n > 1 else f"none (n = {over_seeds.n})"
        cells.append(
            (
                row.metric.head,
                *(number(value, number_form(row.metric)) for value in row.means),
                row.signed(over_seeds.mean),
                none if over_seeds.interval is None else row.signed(*over_seeds.interval),
                *(_p(over_seeds.p), _p(row.holm_p), str(over_seeds.n)),
                "-" if row.over_images is None else row.signed(*row.over_images),
            )
        )
    return Table(("metric", first, second, "difference", OVER_SEEDS, "p", "p (Holm)", "n", OVER_IMAGES), cells)


def answer(rows: Sequence[Row], first: str, second: str) -> str:
    """Returns what can be told of two losses from their differences over seeds, in one or two sentences."""
    judged = [row for row in rows if row.over_seeds.interval is not None]
    seeds = max(row.over_seeds.n for row in rows)
    if not judged and seeds > 1:
        return f"Nothing can be told of {first} and {second}: every difference is the same in all {seeds} seeds."
    if not judged:
        common = f"{'one seed' if seeds else 'no seed'} in common, and an interval needs two or more"
        return f"Nothing can be told of {first} and {second}: they have {common}. Train both with seed=0,1,2,3,4."
    differing = [row for row in judged if row.differs]
    if differing:
        each = "; ".join(_with_interval(row) for row in differing)
        count = f"{len(differing)} of {len(judged)} metrics (p < {ALPHA} after Holm's correction, {seeds} seeds)"
        return f"{first} and {second} differ in {count}. {first} − {second}: {each}."
    text = f"No difference can be told between {first} and {second}: {_contain_zero(rows)}"
    apart = [row for row in judged if _is_apart(row)]
    if apart:
        text += f", and among {len(judged)} rows chance alone may give the rest ({'; '.join(map(_with_interval, apart))})"
    (accuracy,) = (row for row in rows if row.metric.name == "accuracy")
    size = detectable_difference(accuracy.over_seeds)
    seen = f" A difference of {size:.2g} points of accuracy would have been seen (80% power, {seeds} seeds)." if size else ""
    return f"{text}.{seen}"


def answer_after_temperature(rows: Sequence[Row]) -> str:
    """Returns what is left of the differences if every run has its own temperature, in one sentence."""
    differing = [row for row in rows if row.differs]
    found = f"they differ in {'; '.join(map(_with_interval, differing))}" if differing else _contain_zero(rows)
    return f"After each run's own temperature, {found}."


def _contain_zero(rows: Sequence[Row]) -> str:
    """Returns "10 of 11 intervals contain zero"."""
    judged = [row for row in rows if row.over_seeds.interval is not None]
    return f"{sum(not _is_apart(row) for row in judged)} of {len(judged)} intervals contain zero"


def _is_apart(row: Row) -> bool:
    """Returns whether the interval over seeds does not contain zero."""
    return row.over_seeds.interval is not None and not row.over_seeds.interval[0] <= 0 <= row.over_seeds.interval[1]


def _with_interval(row: Row) -> str:
    return f"{row.metric.head} {row.difference}"


def _over_images(metric: Metric, first: Mapping[int, Run], second: Mapping[int, Run]) -> tuple[float, float] | None:
    """Returns the interval over images of the mean over seeds; None for a metric that is no mean over images, without values
    of single images, and if the test images differ."""
    seeds = sorted(first.keys() & second.keys())
    sides = [[by_seed[seed].images for seed in seeds] for by_seed in (first, second)]
    every = [images for side in sides for images in side]
    if not every or not all(metric.name in images for images in every):
        return None
    if not all(np.array_equal(images[LABEL], every[0][LABEL]) for images in every):
        return None
    left, right = (np.mean([images[metric.name] for images in side], axis=0) for side in sides)
    with np.errstate(invalid="ignore"):  # an NLL may be infinite
        return mean_over_images(metric.unit.factor * (left - right))


def _p(value: float | None) -> str:
    return "-" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
