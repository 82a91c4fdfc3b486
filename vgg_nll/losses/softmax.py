"""Logarithms of softmax probabilities and of their complements, exact for every logit that a float can hold.

Notation: `z` are the logits of a row over C classes, `p = softmax(z)`, `m` the index of the largest logit, `n` that of the
next, `t` the label; logarithms are natural. With `T = sum over k != m of exp(z_k - z_n)`, between 1 and C - 1, the odds
against the top class are `S = (1 - p_m) / p_m = T exp(z_n - z_m)`, and

    -log p_m = log1p(S)                            -log(1 - p_m) = log1p(S) - log S = log1p(S) + (z_m - z_n) - log T
    -log p_k = (z_m - z_k) + log1p(S)              -log(1 - p_k) = log1p(r_k)                         (k != m)

with `r_k = p_k / (1 - p_k) = x_k / (exp(z_m - z_n) + T - x_k)`, `x_k = exp(z_k - z_n)`. No term is a small difference of
large numbers. `z_m - z_n` and what follows from it are float64, one number a row: in float32 a gap of 70 is rounded by up
to 4e-6, and that is the relative error that `exp(-gap)` would have.
"""

from itertools import repeat
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Elements in one pass over wide rows, on a CPU: larger buffers do not fit in its cache.
CHUNK_ELEMENTS = 1 << 20
# Rows of at least WIDE classes are searched in blocks.
WIDE, BLOCK = 4096, 256


class LogProbabilities(NamedTuple):
    """Exact logarithms of a softmax: per class `-log p` and `-log(1 - p)` [B, C], per row the margin [B]."""

    nll: Tensor
    complement_nll: Tensor
    margin: Tensor


class _Top(NamedTuple):
    """What follows from the largest logit of each row: all [B, 1]; float64 except for the first three."""

    value: Tensor
    class_index: Tensor
    runner: Tensor  # the second largest logit; not differentiated, since its uses cancel
    gap: Tensor  # z_m - z_n; NaN if z_m is not finite


def log_probabilities(logits: Tensor) -> LogProbabilities:
    """Returns `-log p_k` and `-log(1 - p_k)` of `p = softmax(logits)`, and the margin `log(p_m / (1 - p_m))` of the top class.

    Differentiable any number of times. A logit of `-inf` is an impossible class: `p = 0`, and its complement costs nothing. A
    row with NaN or `+inf` gives NaN.

    Args:
        logits: [B, C], any floating type; computed in float64 if it is float64, else in float32.
    """
    logits = as_float(logits)
    top = _top(logits)
    is_top = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, top.class_index, True)
    x = (logits - top.runner).masked_fill(is_top, -torch.inf).exp()
    total = _total(x)
    inverse = torch.exp(-top.gap)
    odds = total * inverse
    nll_top = torch.log1p(odds)
    # 0 at the top: the derivatives of z_m - z_m would drown the terms after them.
    nll = (top.value - logits).masked_fill(is_top, 0.0) + nll_top.to(logits.dtype)
    margin = top.gap - total.log()
    p = x * (inverse / (1 + odds)).to(logits.dtype)  # 0 at the top, at most 1/2 elsewhere
    complement_nll = torch.where(is_top, (nll_top + margin).to(logits.dtype), -torch.log1p(-p))
    return LogProbabilities(nll, complement_nll, margin.squeeze(1).to(logits.dtype))


def margin(logits: Tensor) -> Tensor:
    """Returns the log-odds of the predicted class, `log(p_m / (1 - p_m))` [B]: confidence on a scale that does not saturate.

    A float32 softmax output is exactly 1.0 from a margin of about 17 on; the margin keeps growing.
    """
    return log_probabilities(logits).margin


def label_nll(logits: Tensor, target: Tensor, *, complements: bool) -> Tensor:
    """Returns `-log p_t` of each row [B], plus, with `complements`, `-log(1 - p_k)` of every class but `t`.

    Equals the sums of `log_probabilities`, in a third of its time or less: the gradient is computed together with the value.
    A second derivative uses `log_probabilities`.

    Args:
        logits: [B, C], any floating type; target: [B], int64 in [0, C).
    """
    logits = as_float(logits)
    rows: Tensor = _LabelNLL.apply(logits, target, complements)
    return rows


def as_float(logits: Tensor) -> Tensor:
    """Returns float64 as it is, every other type as float32."""
    return logits if logits.dtype == torch.float64 else logits.float()


class _LabelNLL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, complements: bool) -> Tensor:
        chunked = logits.device.type == "cpu" and not torch.compiler.is_compiling()
        step = max(1, CHUNK_ELEMENTS // max(1, logits.shape[1]) if chunked else len(logits))
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        gradients = repeat(None) if gradient is None else gradient.split(step)
        scratch = logits.new_empty(2, min(step, len(logits)), logits.shape[1])  # new memory for each part would cost more
        parts = zip(logits.split(step), target[:, None].split(step), gradients, strict=False)
        rows = torch.cat([_value_and_gradient(*part, scratch, complements) for part in parts]).squeeze(1)
        ctx.complements = complements
        ctx.save_for_backward(logits, target, gradient)
        return rows.to(logits.dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        logits, target, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # this gradient will be differentiated
            rows = _label_nll_by_terms(logits, target, ctx.complements)
            (gradient,) = torch.autograd.grad(rows, logits, upstream, create_graph=True)
            return gradient, None, None
        return gradient * upstream[:, None], None, None


def _label_nll_by_terms(logits: Tensor, target: Tensor, complements: bool) -> Tensor:
    nll, complement_nll, _ = log_probabilities(logits)
    label = target[:, None]
    if not complements:
        return nll.gather(1, label).squeeze(1)
    is_target = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, label, True)
    return torch.where(is_target, nll, complement_nll).sum(1)


def _value_and_gradient(logits: Tensor, target: Tensor, gradient: Tensor | None, scratch: Tensor, complements: bool) -> Tensor:
    """Returns the values of some rows [B, 1] in float64; writes their gradient into `gradient` [B, C]. `scratch`: [2, >= B, C].

    With `R` the sum of `r_k` over the classes that are neither `t` nor `m`, the gradient of the sum of all terms is

        p_m (2 - R) at m != t                       -p_m (S + R) at m = t
        p_k (1 - R) + r_k - [m != t] p_m x_k / T    elsewhere, with r_t = -1

    in which nothing cancels if the row is confident, right or wrong. Without complements, `R`, `r_k` and the term after
    [m != t] are left out.
    """
    dtype = logits.dtype
    first, second = scratch[:, : len(logits)]
    top = _top(logits, second)
    x = torch.sub(logits, top.runner, out=first).exp_().scatter_(1, top.class_index, 0.0)
    total = _total(x)
    against = top.gap.exp()  # inf beyond a gap of 709, but then all that it divides is 0
    odds = total / against
    nll_top = torch.log1p(odds)
    p_top = 1 / (1 + odds)
    right = target == top.class_index
    rows = (top.value - logits.gather(1, target)) + nll_top
    denominator = (against + total).to(dtype)  # x / denominator = p
    if complements:
        r = torch.sub(denominator, x, out=torch.empty_like(x) if gradient is None else gradient)
        r = torch.div(x, r, out=r).scatter_(1, target, 0.0)
        r_sum = r.sum(1, keepdim=True)
        rows = rows + (nll_top + top.gap - total.log()).masked_fill(right, 0.0) + _sum_of_log1p(r, r_sum, second)
    if gradient is None:
        return rows
    if complements:
        factor = (1 - r_sum) / denominator - (p_top / total).masked_fill(right, 0.0)
        at_top = p_top * ((-odds).masked_fill(~right, 2.0) - r_sum)
        r.scatter_(1, target, -1.0).addcmul_(x, factor.to(dtype))
    else:
        torch.div(x, denominator, out=gradient)
        gradient.scatter_add_(1, target, gradient.new_full((1, 1), -1.0).expand_as(target))
        at_top = p_top * (-odds).masked_fill(~right, 1.0)
    gradient.scatter_(1, top.class_index, at_top.to(dtype))
    return rows


def _sum_of_log1p(r: Tensor, r_sum: Tensor, scratch: Tensor) -> Tensor:
    """Returns the sum of `log1p(r)` over each row [B, 1], for `r` in [0, 1] and its sum; five times faster than `log1p`.

    `log1p(r) = log(u) + (r - (u - 1))` with `u` the rounded `1 + r`: this adds what rounding took from `r`, to first order,
    which is all that a float32 can hold of it.
    """
    logarithms = torch.add(r, 1, out=scratch).log_().sum(1, keepdim=True)
    rounded = torch.add(r, 1, out=scratch).sub_(1).sum(1, keepdim=True)
    return logarithms + (r_sum - rounded)


def _top(logits: Tensor, scratch: Tensor | None = None) -> _Top:
    index, runner = _two_largest(logits.detach(), scratch)
    value = logits.gather(1, index)
    # If all other classes are masked, there is no runner-up: any finite number does, since x is 0.
    runner = runner.clamp(min=torch.finfo(logits.dtype).min)
    gap = value.double() - runner + (value - value)  # the last term: 0, or NaN if the value is not finite
    return _Top(value, index, runner, gap)


def _two_largest(logits: Tensor, scratch: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Returns the index of each row's largest logit and the value of the next, [B, 1] each; NaN counts as the largest."""
    num_classes = logits.shape[1]
    if num_classes < WIDE:
        index = logits.max(dim=1, keepdim=True).indices
        others = torch.scatter(logits, 1, index, -torch.inf, out=scratch)
        return index, others.amax(dim=1, keepdim=True)
    # `amax` is five times as fast as `max`, which keeps the index: find the block first, then search that block alone.
    blocks = logits[:, : num_classes // BLOCK * BLOCK].unflatten(1, (-1, BLOCK)).amax(dim=2)
    if num_classes % BLOCK:
        blocks = torch.cat([blocks, logits[:, -(num_classes % BLOCK) :].amax(dim=1, keepdim=True)], dim=1)
    best, runner = _two_largest(blocks)
    start = (best * BLOCK).clamp(max=num_classes - BLOCK)
    inside, runner_inside = _two_largest(logits.gather(1, start + torch.arange(BLOCK, device=logits.device)))
    return start + inside, torch.maximum(runner, runner_inside)


def _total(x: Tensor) -> Tensor:
    """Returns the sum of each row in float64 [B, 1]; above 0 even if the top is the only class, so its logarithm is finite."""
    return x.sum(1, keepdim=True).double().clamp(min=1e-300)
