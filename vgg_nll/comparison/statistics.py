"""What numbers of several seeds say of the next seed: mean, spread, interval, p-value."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scipy import stats

from vgg_nll.tracking.event_files import Curve

CONFIDENCE = 0.95
ROUNDING = 1e-12  # a spread below this share of the largest value comes from rounding


@dataclass(frozen=True)
class Estimate:
    """Of the mean over seeds."""

    n: int
    mean: float  # NaN for n = 0
    spread: float | None  # sample standard deviation; None for n < 2
    interval: tuple[float, float] | None  # None for n < 2, and where there is no spread to judge by
    p: float | None = None  # of a difference: two-sided, against 0; None where there is no interval


def mean_with_interval(values: Sequence[float]) -> Estimate:
    """Mean m, sample standard deviation s, and m ± t s / sqrt(n), t the 97.5% quantile of Student's t with n - 1 degrees.

    The interval holds the mean over all seeds in 95% of cases, if seeds scatter normally.
    """
    n = len(values)
    mean = statistics.fmean(values) if n > 0 else math.nan
    if n < 2:
        return Estimate(n, mean, None, None)
    spread = _spread(values, values)
    if spread == 0:
        return Estimate(n, mean, 0.0, None)
    low, high = stats.t.interval(CONFIDENCE, n - 1, loc=mean, scale=spread / math.sqrt(n))
    return Estimate(n, mean, spread, (float(low), float(high)))


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Estimate:
    """first - second, paired by seed, over the seeds that both have (`scipy.stats.ttest_rel`).

    d_i = first_i - second_i; mean, s and interval of d as in `mean_with_interval`; p of t = mean / (s / sqrt(n)), two-sided.
    No interval and no p where all d_i are equal: they tell nothing about how much the next one may differ.
    """
    seeds = sorted(first.keys() & second.keys())
    ours, theirs = [first[seed] for seed in seeds], [second[seed] for seed in seeds]
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    n = len(seeds)
    mean = statistics.fmean(differences) if n > 0 else math.nan
    if n < 2:
        return Estimate(n, mean, None, None)
    spread = _spread(differences, ours + theirs)
    if spread == 0:
        return Estimate(n, mean, 0.0, None)
    test = stats.ttest_rel(ours, theirs)
    low, high = test.confidence_interval(CONFIDENCE)
    return Estimate(n, mean, spread, (float(low), float(high)), float(test.pvalue))


def _spread(values: Sequence[float], made_from: Sequence[float]) -> float:
    """The sample standard deviation; 0 where it is no more than the rounding of the numbers that `values` were made from."""
    spread = statistics.stdev(values)
    return spread if spread > ROUNDING * max(map(abs, made_from)) else 0.0


class Point(NamedTuple):
    """Mean and range of several curves at one step."""

    step: int
    mean: float
    minimum: float
    maximum: float


def mean_over_runs(runs: Sequence[Mapping[str, Curve]], tag: str) -> list[Point]:
    """Returns mean, minimum and maximum over the runs that have this curve, at the steps that all of those runs have."""
    curves = [dict(run[tag]) for run in runs if tag in run]
    if not curves:
        return []
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    columns = [[curve[step] for curve in curves] for step in steps]
    return [Point(step, statistics.fmean(c), min(c), max(c)) for step, c in zip(steps, columns, strict=True)]
