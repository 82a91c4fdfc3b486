"""Means, intervals and p-values over seeds, against the formulas."""

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from vgg_nll.comparison.statistics import (
    Estimate,
    Point,
    detectable_difference,
    holm,
    mean_over_images,
    mean_over_runs,
    mean_with_interval,
    paired_difference,
)

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


@pytest.mark.parametrize(
    ("given", "corrected"),
    [
        ([], []),
        ([None], [None]),
        ([0.04], [0.04]),
        ([0.5, 0.6], [1.0, 1.0]),
        # statsmodels 0.15.0: multipletests(p, method="holm")
        ([0.01, 0.04, 0.03, 0.005, 0.8, 0.03], [0.05, 0.12, 0.12, 0.03, 0.8, 0.12]),
        ([0.01, None, 0.04, 0.03, 0.005, None, 0.8, 0.03], [0.05, None, 0.12, 0.12, 0.03, None, 0.8, 0.12]),
    ],
)
def test_holm(given: list[float | None], corrected: list[float | None]) -> None:
    assert holm(given) == [None if p is None else pytest.approx(p) for p in corrected]


def test_holm_keeps_the_error_of_a_table() -> None:
    """Of 2000 tables of 10 rows without an effect, of which half are equal, at most 5% have a row below 0.05."""
    p = np.random.default_rng(0).random((2000, 10))
    p[:, 5:] = p[:, :1]
    share = np.mean([min(value for value in holm(row) if value is not None) < 0.05 for row in p.tolist()])
    assert 0.01 < share < 0.06


@pytest.mark.parametrize(
    ("n", "size"),  # statsmodels 0.15.0: TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8) * sqrt(n)
    [(2, 16.33401073540419), (3, 5.6534892716), (5, 3.761059816267204), (10, 3.1496345918890136), (359, 2.8091251586273405)],
)
def test_detectable_difference(n: int, size: float) -> None:
    estimate = mean_with_interval(np.linspace(-1, 1, n).tolist())
    assert estimate.spread is not None
    assert detectable_difference(estimate) == pytest.approx(size * estimate.spread / math.sqrt(n), rel=2e-6)
    assert detectable_difference(mean_with_interval([1.0])) is None
    assert detectable_difference(mean_with_interval([1.0, 1.0])) is None


def test_a_detectable_difference_is_detected() -> None:
    """By 80% of the intervals of 5 seeds, if the spread is known: 2000 draws, standard error 0.9%."""
    truth = 3.761059816267204 / math.sqrt(5)
    draws = np.random.default_rng(1).normal(truth, 1, (2000, 5)).tolist()
    seen = [low > 0 for low, _ in (mean_with_interval(row).interval or (0, 0) for row in draws)]
    assert 0.77 < np.mean(seen) < 0.83


def test_mean_over_images() -> None:
    values = np.random.default_rng(0).normal(1, 2, 50)
    expected = stats.t.interval(0.95, 49, loc=values.mean(), scale=stats.sem(values))
    assert mean_over_images(values) == pytest.approx(expected)
    for nothing in (np.array([]), np.array([1.0]), np.zeros(9), np.array([0.0, np.inf]), np.array([0.0, np.nan, 1.0])):
        assert mean_over_images(nothing) is None
