"""Intervals of fractions against scipy, and by what they promise."""

import numpy as np
import pytest
from scipy import stats

from vgg_nll.intervals import calibrated_interval, clopper_pearson_interval, wilson_interval


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 9), (4, 9), (9, 9), (990, 1000)])
def test_intervals_of_a_fraction(right: int, n: int) -> None:
    test = stats.binomtest(right, n)
    exact, wilson = (test.proportion_ci(0.95, method=method) for method in ("exact", "wilson"))
    found = [float(bound[0]) for bound in clopper_pearson_interval(np.array([right]), np.array([n]))]
    assert found == pytest.approx([exact.low, exact.high], abs=1e-12)
    assert wilson_interval(right / n, n) == pytest.approx((wilson.low, wilson.high), abs=1e-12)


def test_calibrated_images_lie_inside() -> None:
    """At least 95% of the accuracies, of equal confidences and of mixed ones."""
    draw = np.random.default_rng(0)
    for p in (np.full(40, 0.8), np.linspace(0.55, 0.99, 40)):
        low, high = calibrated_interval(p.mean(), 40)
        inside = np.mean([low <= (draw.random(40) < p).mean() <= high for _ in range(2000)])
        assert inside > 0.94
