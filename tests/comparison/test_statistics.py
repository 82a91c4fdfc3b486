"""Means, intervals and p-values over seeds, against the formulas."""

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest

from vgg_nll.comparison.statistics import Estimate, Point, mean_over_runs, mean_with_interval, paired_difference

StudentT = Callable[[list[float]], tuple[float, float, float]]


@pytest.mark.parametrize("values", [[0.97, 0.99], [0.1, -0.2, 0.4], [3e6, 3.1e6, 2.8e6], [1e-7, 3e-7, 2e-7]])
def test_mean_and_difference(values: list[float], student_t: StudentT) -> None:
    mean, half, p = student_t(values)
    estimate = mean_with_interval(values)
    assert estimate.n == len(values)
    assert estimate.mean == pytest.approx(mean)
    assert estimate.spread == pytest.approx(np.std(values, ddof=1))
    assert estimate.interval == pytest.approx((mean - half, mean + half))
    base = dict(enumerate([v * 0.5 for v in values]))
    paired = paired_difference({k: v + base[k] for k, v in enumerate(values)} | {7: 1.0}, base | {8: 2.0})
    assert paired.n == len(values)
    assert paired.mean == pytest.approx(mean)
    assert paired.interval == pytest.approx((mean - half, mean + half))
    assert paired.p == pytest.approx(p)


def test_coverage_of_intervals() -> None:
    draws = np.random.default_rng(0).normal(3, 2, (2000, 4)).tolist()
    intervals = [mean_with_interval(row).interval for row in draws]
    assert 0.935 < np.mean([low < 3 < high for low, high in intervals]) < 0.965  # type: ignore[misc]


@pytest.mark.parametrize("shift", [0.0, 0.01, 1 / 359])
def test_no_spread(shift: float) -> None:
    """Differences that are equal except for rounding: no interval, no p, no warning."""
    first = {seed: 0.97 + seed / 359 for seed in range(5)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean = mean_with_interval([0.3, 0.1 + 0.2, 0.3])
        difference = paired_difference({seed: value + shift for seed, value in first.items()}, first)
    assert mean == Estimate(3, mean.mean, 0.0, None) and mean.mean == pytest.approx(0.3)
    assert difference == Estimate(5, difference.mean, 0.0, None) and difference.mean == pytest.approx(shift)


def test_too_few_seeds() -> None:
    assert mean_with_interval([2.0]) == Estimate(1, 2.0, None, None)
    assert paired_difference({0: 3.0, 1: 9.0}, {0: 1.0, 2: 9.0}) == Estimate(1, 2.0, None, None)
    for nothing in (mean_with_interval([]), paired_difference({0: 1.0}, {1: 1.0})):
        assert nothing.n == 0 and math.isnan(nothing.mean) and nothing.interval is None


def test_mean_over_runs() -> None:
    run = {"a": [(1, 1.0), (2, 4.0), (3, 0.0)]}
    assert mean_over_runs([run, {"a": [(2, 1.0), (3, 6.0), (4, 0.0)]}, {}], "a") == [Point(2, 2.5, 1, 4), Point(3, 3, 0, 6)]
    assert mean_over_runs([run, {"a": [(9, 1.0)]}], "a") == []
    assert mean_over_runs([run], "b") == mean_over_runs([], "b") == []
