"""Logarithms of softmax probabilities and of their complements, exact for every logit that a float can hold.

Notation: `z` are the logits of a row over C classes, `p = softmax(z)`, `m` the index of the largest logit, `n` that of the
next, `t` the label; logarithms are natural. With `T = sum over k != m of exp(z_k - z_n)`, between 1 and C - 1, the odds
against the top class are `S = (1 - p_m) / p_m = T exp(z_n - z_m)`, and

    -log p_m = log1p(S)                            -log(1 - p_m) = log1p(S) - log S = log1p(S) + (z_m - z_n) - log T
    -log p_k = (z_m - z_k) + log1p(S)              -log(1 - p_k) = -log1p(-p_k),  p_k <= 1/2          (k != m)

No term is a small difference of large numbers. `z_m - z_n` and what follows from it are float64, one number a row: in float32
a gap of 70 is rounded by up to 4e-6, and that is the relative error that `exp(-gap)` would have.

Everything here is made of PyTorch's differentiable operations without a branch on a value: it can be traced, exported, compiled
and transformed by `torch.func`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

# The odds of an empty set of classes, above 0 so that its logarithm and its inverse are finite in float32.
EMPTY = 1e-30


class LogProbabilities(NamedTuple):
    """Exact logarithms of a softmax: per class `-log p` and `-log(1 - p)` [B, C], per row the margin [B]."""

    nll: Tensor
    complement_nll: Tensor
    margin: Tensor


def log_probabilities(logits: Tensor) -> LogProbabilities:
    """Returns `-log p_k` and `-log(1 - p_k)` of `p = softmax(logits)`, and the margin `log(p_m / (1 - p_m))` of the top class.

    Differentiable any number of times. A logit of `-inf` is an impossible class: `p = 0`, and its complement costs nothing. If
    one class alone is possible, its complement and the margin are `inf`. A row with NaN or `+inf` gives NaN.

    Args:
        logits: [B, C], any floating type; computed in float64 if it is float64, else in float32.
    """
    logits = as_float(logits)
    dtype = logits.dtype
    top = logits.detach().argmax(dim=1, keepdim=True)
    value = logits.gather(1, top)
    is_top = is_class(top, logits)
    rest = logits.masked_fill(is_top, -torch.inf)
    # Not differentiated, since its uses cancel. If no other class is possible, any finite number does.
    runner = rest.detach().amax(dim=1, keepdim=True).clamp(min=torch.finfo(dtype).min)
    gap = value.double() - runner + (value - value)  # the last term: 0, or NaN if the value is not finite
    x = (rest - runner).exp()
    total = x.sum(1, keepdim=True).double()
    empty = total == 0
    total = total.clamp(min=EMPTY)
    inverse = torch.exp(-gap)
    odds = total * inverse
    nll_top = torch.log1p(odds)
    # 0 at the top: the derivatives of z_m - z_m would drown the terms after them.
    nll = (value - logits).masked_fill(is_top, 0.0) + nll_top.to(dtype)
    margin = (gap - total.log()).masked_fill(empty & gap.isfinite(), torch.inf)
    p = x * (inverse / (1 + odds)).to(dtype)  # 0 at the top, at most 1/2 elsewhere
    complement_nll = torch.where(is_top, (nll_top + margin).to(dtype), -torch.log1p(-p))
    return LogProbabilities(nll, complement_nll, margin.squeeze(1).to(dtype))


def margin(logits: Tensor) -> Tensor:
    """Returns the log-odds of the predicted class, `log(p_m / (1 - p_m))` [B]: confidence on a scale that does not saturate.

    A float32 softmax output is exactly 1.0 from a margin of about 17 on; the margin keeps growing.
    """
    return log_probabilities(logits).margin


def as_float(logits: Tensor) -> Tensor:
    """Returns float64 as it is, every other type as float32."""
    return logits if logits.dtype == torch.float64 else logits.float()


def is_class(index: Tensor, logits: Tensor) -> Tensor:
    """Returns which element of `logits` [B, C] is the class `index` [B, 1] of its row: [B, C] bool."""
    return torch.zeros_like(logits, dtype=torch.bool).scatter(1, index, torch.ones_like(index, dtype=torch.bool))
