"""The losses in 60 digits, and without a subtraction that would need more."""

import math

import mpmath


def odds(logits: list[float]) -> list[mpmath.mpf]:
    """p / (1 - p) of every class, without a subtraction; mpmath's exponents have no limit."""
    exponentials = [mpmath.e ** mpmath.mpf(z) if z > -math.inf else mpmath.mpf(0) for z in logits]
    before, after = [mpmath.mpf(0)], [mpmath.mpf(0)]
    for e in exponentials:
        before.append(before[-1] + e)
    for e in reversed(exponentials):
        after.append(after[-1] + e)
    others = [left + right for left, right in zip(before[:-1], after[-2::-1], strict=True)]
    return [e / other if other else mpmath.inf for e, other in zip(exponentials, others, strict=True)]


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
        before, after = [mpmath.mpf(0)], [mpmath.mpf(0)]
        for odd in others:
            before.append(before[-1] + odd)
        for odd in reversed(others):
            after.append(after[-1] + odd)
        rest = [left + right for left, right in zip(before[:-1], after[-2::-1], strict=True)]
        result = [float(p[k] * (2 - rest[k])) for k in range(len(p))]
        result[label] = float(-1 / (1 + r[label]) - p[label] * mpmath.fsum(others))
        return result
