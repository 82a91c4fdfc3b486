"""The interval of a fraction, for floats and for arrays."""

from typing import Any

Z = 1.959963984540054  # of 95%


def wilson_interval(fraction: Any, n: Any) -> tuple[Any, Any]:
    """Returns the 95% interval of a probability of which `fraction` of n trials were seen (Wilson 1927).

    Args:
        fraction, n: floats, or arrays of one shape.
    """
    middle = (fraction + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * (fraction * (1 - fraction) / n + Z**2 / (4 * n**2)) ** 0.5
    return middle - half, middle + half
