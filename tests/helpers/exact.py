"""The losses in 60 digits, and without a subtraction that would need more."""

import itertools
import math

import mpmath


def odds(logits: list[float]) -> list[mpmath.mpf]:
    """p / (1 - p) of every class, without a subtraction; mpmath's exponents have no limit."""
    exponentials = [mpmath.e ** mpmath.mpf(z) if z > -math.inf else mpmath.mpf(0) for z in logits]
    return [e / other if other else mpmath.inf for e, other in zip(exponentials, sums_of_others(exponentials), strict=True)]


def sums_of_others(numbers: list[mpmath.mpf]) -> list[mpmath.mpf]:
    """The sum of all numbers but one, for each of them, without a subtraction."""
    before = itertools.accumulate(numbers[:-1], initial=mpmath.mpf(0))
    after = list(itertools.accumulate(numbers[:0:-1], initial=mpmath.mpf(0)))
    return [left + right for left, right in zip(before, reversed(after), strict=True)]


def exact_nll(logits: list[float], label: int, complements: bool) -> float:
    """-log p_t, and with complements the sum of all terms of method 2, in 60 digits."""
    with mpmath.workdps(60):
        r = odds(logits)
        terms = [mpmath.log1p(1 / r[label])]
        if complements:
            terms += [mpmath.log1p(r[k]) for k in range(len(r)) if k != label]
        return float(mpmath.fsum(terms))


def exact_gradient(logits: list[float], label: int, complements: bool) -> list[float]:
    """Returns `p_k (2 - sum of r_j over j != k, t)`, or `p_k` without complements; for the label minus what the others add."""
    with mpmath.workdps(60):
        r = odds(logits)
        p = [1 / (1 + 1 / odd) if odd else mpmath.mpf(0) for odd in r]
        if not complements:
            return [float(p[k]) if k != label else float(-1 / (1 + r[k])) for k in range(len(p))]
        others = [odd if k != label else mpmath.mpf(0) for k, odd in enumerate(r)]
        rest = sums_of_others(others)
        result = [float(p[k] * (2 - rest[k])) for k in range(len(p))]
        result[label] = float(-1 / (1 + r[label]) - p[label] * mpmath.fsum(others))
        return result
