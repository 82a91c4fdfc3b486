"""Intervals of fractions, for floats and for arrays."""

from typing import Any

import numpy as np

Z = 1.959963984540054  # of 95%
TAIL = 0.025


def wilson_interval(fraction: Any, n: Any) -> tuple[Any, Any]:
    """Returns the 95% interval of a probability of which `fraction` of n trials were seen (Wilson 1927).

    Args:
        fraction, n: floats, or arrays of one shape.
    """
    middle = (fraction + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * (fraction * (1 - fraction) / n + Z**2 / (4 * n**2)) ** 0.5
    return middle - half, middle + half


def clopper_pearson_interval(right: Any, n: Any) -> tuple[Any, Any]:
    """Returns the exact 95% interval of a probability of which `right` of n trials were seen (Clopper and Pearson 1934).

    Args:
        right, n: arrays of one shape, n above 0.
    """
    from scipy.stats import beta  # half a second

    low = np.where(right > 0, beta.ppf(TAIL, np.maximum(right, 1), n - right + 1), 0.0)
    return low, np.where(right < n, beta.ppf(1 - TAIL, right + 1, np.maximum(n - right, 1)), 1.0)


def calibrated_interval(confidence: Any, n: Any) -> tuple[Any, Any]:
    """Returns what 95% of the accuracies of n images lie in, if each is right with the probability `confidence`.

    Quantiles of the binomial distribution; if the images have unlike confidences, of which this is the mean, more lie inside.

    Args:
        confidence, n: arrays of one shape, n above 0.
    """
    from scipy.stats import binom

    return binom.ppf(TAIL, n, confidence) / n, binom.ppf(1 - TAIL, n, confidence) / n
