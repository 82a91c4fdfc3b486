"""Statistics over seeds: mean, sample standard deviation, confidence interval, p-value; and intervals over images."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

from vgg_nll.tracking.event_files import Curve

CONFIDENCE = 0.95
POWER = 0.8
ROUNDING = 1e-12  # a standard deviation below this share of the largest value comes from rounding


@dataclass(frozen=True)
class Estimate:
    """An estimate of the mean over all seeds, from n of them."""

    n: int
    mean: float  # NaN for n = 0
    spread: float | None  # sample standard deviation; None for n < 2
    interval: tuple[float, float] | None  # None for n < 2, and for a spread of 0
    p: float | None = None  # of a difference: two-sided, against 0; None if there is no interval


def mean_with_interval(values: Sequence[float]) -> Estimate:
    """Returns mean m, sample standard deviation s, and the interval m ± t s / sqrt(n).

    t is the 97.5% quantile of Student's t with n - 1 degrees of freedom. If seeds are normally distributed, 95% of such
    intervals hold the mean over all seeds.
    """
    return _estimate(values, values)


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Estimate:
    """Returns the estimate of first - second, paired by seed, over the seeds that both have (`scipy.stats.ttest_rel`).

    d_i = first_i - second_i; mean, s and interval of d as in `mean_with_interval`; p of t = mean / (s / sqrt(n)), two-sided.
    If all d_i are equal, there is no interval and no p: such values do not show how much the next one may differ.

    Args:
        first, second: seed -> value.
    """
    seeds = sorted(first.keys() & second.keys())
    minuends, subtrahends = [first[seed] for seed in seeds], [second[seed] for seed in seeds]
    differences = [a - b for a, b in zip(minuends, subtrahends, strict=True)]
    estimate = _estimate(differences, minuends + subtrahends)
    if estimate.interval is None:
        return estimate
    return replace(estimate, p=float(stats.ttest_rel(minuends, subtrahends).pvalue))


def mean_over_images(values: np.ndarray) -> tuple[float, float] | None:
    """Returns the 95% interval of the mean over all images, as in `mean_with_interval`.

    None if all images have one value, or one is not finite.

    Args:
        values: [N], of images that were drawn independently.
    """
    n = len(values)
    if n < 2 or not np.isfinite(values).all() or np.ptp(values) == 0:
        return None
    error = float(values.std(ddof=1)) / math.sqrt(n)
    low, high = stats.t.interval(CONFIDENCE, n - 1, loc=float(values.mean()), scale=error)
    return float(low), float(high)


def detectable_difference(estimate: Estimate) -> float | None:
    """Returns the size of a true difference that n seeds with this spread show in 80 of 100 cases; None without an interval.

    "Show" means that the 95% interval does not contain zero: d = delta s / sqrt(n), with P(T > t) = 0.8 if T has a noncentral t
    distribution with n - 1 degrees of freedom and noncentrality delta, and t is the 97.5% quantile of the central one. The
    other tail is left out: it has less than 1e-5. Of few seeds, s itself is uncertain, and so is d.
    """
    if estimate.interval is None or estimate.spread is None:
        return None
    limit = stats.t.ppf((1 + CONFIDENCE) / 2, estimate.n - 1)
    delta = optimize.brentq(lambda d: stats.nct.sf(limit, estimate.n - 1, d) - POWER, 0, 1.5 * limit + 2)
    return float(delta) * estimate.spread / math.sqrt(estimate.n)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Returns p-values that are corrected for their number m, in the same order (Holm 1979, Scand. J. Statist. 6, 65-70).

    Of the sorted ones p_1 <= ... <= p_m, the i-th becomes the maximum over j <= i of min(1, (m - j + 1) p_j). If nothing has an
    effect, one of them is below 0.05 in at most 5 of 100 tables, however the rows depend on each other. None stays None, and
    does not count.
    """
    order = sorted((p, k) for k, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, k) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        corrected[k] = largest
    return corrected


def _estimate(values: Sequence[float], operands: Sequence[float]) -> Estimate:
    """Returns the estimate of the mean of values; their spread is 0 if it is within the rounding error of the operands."""
    n = len(values)
    if n < 2:
        return Estimate(n, values[0] if n else math.nan, None, None)
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    if spread <= ROUNDING * max(map(abs, operands)):
        return Estimate(n, mean, 0.0, None)
    low, high = stats.t.interval(CONFIDENCE, n - 1, loc=mean, scale=spread / math.sqrt(n))
    return Estimate(n, mean, spread, (float(low), float(high)))


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
