"""Negative log-likelihoods of a softmax, exact for every logit that a float can hold.

Notation: `z` are the logits of one image over C classes, `p = softmax(z)`, `t` is the label; logarithms are natural.

* method 1, `argmax_nll`: `-log p_t`, one softmax output, picked at the argmax of the one-hot label;
* method 2, `all_logit_nll`: `-log p_t - sum over k != t of log(1 - p_k)`, every softmax output.

Neither takes the logarithm of a probability: with a float32 softmax, `log(1 - p)` is `-inf` once the top logit leads by
17, and `log p` is 0 where the true value is 1e-10. With `m` the index of the largest logit, both follow from the log-odds
of the top class, `d = z_m - logsumexp(z_k, k != m)`, as sums of non-negative numbers, in which nothing cancels:

    -log p_m = softplus(-d)                        -log(1 - p_m) = softplus(d)
    -log p_k = (z_m - z_k) + softplus(-d)          -log(1 - p_k) = -log1p(-p_k)          (k != m, so p_k <= 1/2)
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SELECTIONS = ("label", "prediction")
REDUCTIONS = ("none", "mean", "sum")
CLASS_REDUCTIONS = ("sum", "mean")


class LogProbabilities(NamedTuple):
    """Exact logarithms of a softmax: per class `-log p` and `-log(1 - p)` [B, C], per image the margin [B]."""

    nll: Tensor
    complement_nll: Tensor
    margin: Tensor


def log_probabilities(logits: Tensor) -> LogProbabilities:
    """`-log p_k` and `-log(1 - p_k)` of `p = softmax(logits)`, and the margin `d = log(p_m / (1 - p_m))` of the top class.

    Args:
        logits: [B, C], any floating type; computed in float32, or in float64 if that is what comes.
    """
    logits = _as_float(logits)
    top, index = logits.max(dim=1, keepdim=True)  # [B, 1]
    is_top = _one_hot(index.squeeze(1), logits)
    gap = top - logits  # [B, C], >= 0
    # Log-odds of the top class from the gaps: no digits are lost to the size of the logits themselves.
    d = -torch.logsumexp((-gap).masked_fill(is_top, -torch.inf), dim=1, keepdim=True)
    nll_top = -F.logsigmoid(d)
    nll = gap + nll_top
    # The top class may have p > 1/2, where log1p(-p) is inexact or -inf: it takes the other formula, and a harmless
    # stand-in here, so that its unused branch has a finite gradient.
    minority_nll = torch.where(is_top, 1.0, nll)
    complement_nll = torch.where(is_top, -F.logsigmoid(-d), -torch.log1p(-torch.exp(-minority_nll)))
    return LogProbabilities(nll, complement_nll, d.squeeze(1))


def margin(logits: Tensor) -> Tensor:
    """Log-odds of the predicted class, `log(p_m / (1 - p_m))` [B]: confidence on a scale that does not saturate.

    A float32 softmax output is exactly 1.0 from a margin of about 17 on; the margin goes on growing.
    """
    return log_probabilities(logits).margin


def argmax_nll(logits: Tensor, target: Tensor, *, select: str = "label", reduction: str = "mean", eps: float = 0.0) -> Tensor:
    """Method 1: `-log` of one softmax output.

    `select="label"`: `-log p_t`, the output at the argmax of the one-hot label; equal to `torch.nn.CrossEntropyLoss`.
    `select="prediction"`: `-log max_k p_k`, the largest output whatever the label says. It never sees the label, so a
    network trained with it grows sure of anything; it is here to be looked at, not to be used.

    Args:
        logits: [B, C], floating; computed in float32 (float64 stays float64).
        target: [B], class indices in [0, C).
        reduction: over the batch: "mean", "sum", or "none" for one value per image [B].
        eps: 0 is exact; `eps > 0` gives the textbook form `-log(p + eps)` on probabilities, bounded by `-log(eps)`.

    Raises:
        ValueError: wrong shapes, unknown `select` or `reduction`, negative `eps`.
        TypeError: logits that are not floating, labels that are not int64.
        IndexError: a label outside [0, C) (checked on the CPU; on CUDA the device asserts).
    """
    _require("select", select, SELECTIONS)
    _check(logits, target, reduction, eps)
    if eps > 0:
        probabilities = _as_float(logits).softmax(dim=1)
        chosen = probabilities.amax(dim=1) if select == "prediction" else _pick(probabilities, target)
        return _reduce(-torch.log(chosen + eps), reduction)
    nll = log_probabilities(logits).nll
    return _reduce(nll.amin(dim=1) if select == "prediction" else _pick(nll, target), reduction)


def all_logit_nll(
    logits: Tensor, target: Tensor, *, class_reduction: str = "sum", reduction: str = "mean", eps: float = 0.0
) -> Tensor:
    """Method 2: `-log p_t - sum over k != t of log(1 - p_k)`: every softmax output is judged.

    Strictly proper: its expectation is least where `p` is the true distribution. For C = 2 it is twice method 1. The
    gradient of a confident mistake tends to at most 2 per logit (method 1: 1); it is never inf or NaN.

    Args:
        logits: [B, C], floating; computed in float32 (float64 stays float64).
        target: [B], class indices in [0, C).
        class_reduction: over the C terms of an image: "sum" (one learning rate then serves both methods), or "mean",
            whose gradients are C times smaller.
        reduction: over the batch: "mean", "sum", or "none" for one value per image [B].
        eps: 0 is exact; `eps > 0` gives the textbook form `-log(p + eps)`, `-log(1 - p + eps)` on probabilities.

    Raises:
        ValueError, TypeError, IndexError: as `argmax_nll`.
    """
    _require("class_reduction", class_reduction, CLASS_REDUCTIONS)
    _check(logits, target, reduction, eps)
    is_target = _one_hot(target, logits)  # [B, C]
    if eps > 0:
        probabilities = _as_float(logits).softmax(dim=1)
        terms = -torch.log(torch.where(is_target, probabilities, 1 - probabilities) + eps)
    else:
        nll, complement_nll, _ = log_probabilities(logits)
        terms = torch.where(is_target, nll, complement_nll)
    return _reduce(_reduce(terms, class_reduction, dim=1), reduction)


def sigmoid_nll(logits: Tensor, target: Tensor, *, class_reduction: str = "sum", reduction: str = "mean") -> Tensor:
    """One-vs-rest binary cross-entropy on `s = sigmoid(z)`: `-log s_t - sum over k != t of log(1 - s_k)`.

    The contrast to method 2: a sigmoid judges each output by itself against 0.5, so the C outputs need not sum to 1.
    Arguments and errors as `all_logit_nll`.
    """
    _require("class_reduction", class_reduction, CLASS_REDUCTIONS)
    _check(logits, target, reduction, 0.0)
    logits = _as_float(logits)
    one_hot = _one_hot(target, logits).to(logits.dtype)
    terms = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none")  # [B, C]
    return _reduce(_reduce(terms, class_reduction, dim=1), reduction)


class ArgmaxNLL(nn.Module):
    """`argmax_nll` as a module: method 1, with the same keywords."""

    def __init__(self, *, select: str = "label", reduction: str = "mean", eps: float = 0.0) -> None:
        super().__init__()
        _require("select", select, SELECTIONS)
        _check_options(reduction, eps)
        self.select, self.reduction, self.eps = select, reduction, eps

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return argmax_nll(logits, target, select=self.select, reduction=self.reduction, eps=self.eps)


class AllLogitNLL(nn.Module):
    """`all_logit_nll` as a module: method 2, with the same keywords."""

    def __init__(self, *, class_reduction: str = "sum", reduction: str = "mean", eps: float = 0.0) -> None:
        super().__init__()
        _require("class_reduction", class_reduction, CLASS_REDUCTIONS)
        _check_options(reduction, eps)
        self.class_reduction, self.reduction, self.eps = class_reduction, reduction, eps

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return all_logit_nll(logits, target, class_reduction=self.class_reduction, reduction=self.reduction, eps=self.eps)


class SigmoidNLL(nn.Module):
    """`sigmoid_nll` as a module, with the same keywords."""

    def __init__(self, *, class_reduction: str = "sum", reduction: str = "mean") -> None:
        super().__init__()
        _require("class_reduction", class_reduction, CLASS_REDUCTIONS)
        _check_options(reduction, 0.0)
        self.class_reduction, self.reduction = class_reduction, reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return sigmoid_nll(logits, target, class_reduction=self.class_reduction, reduction=self.reduction)


def _as_float(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _one_hot(index: Tensor, logits: Tensor) -> Tensor:
    """[B], [B, C] -> bool [B, C]; unlike `F.one_hot` it never waits for the device."""
    return torch.zeros_like(logits, dtype=torch.bool).scatter_(1, index[:, None], True)


def _pick(values: Tensor, target: Tensor) -> Tensor:
    return values.gather(1, target[:, None]).squeeze(1)  # [B, C], [B] -> [B]


def _reduce(values: Tensor, reduction: str, dim: int = 0) -> Tensor:
    if reduction == "mean":
        return values.mean(dim)
    return values.sum(dim) if reduction == "sum" else values


def _require(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def _check_options(reduction: str, eps: float) -> None:
    _require("reduction", reduction, REDUCTIONS)
    if not eps >= 0:
        raise ValueError(f"eps must be 0 (exact) or positive, got {eps}")


def _check(logits: Tensor, target: Tensor, reduction: str, eps: float) -> None:
    _check_options(reduction, eps)
    if logits.dim() != 2 or target.shape != logits.shape[:1]:
        raise ValueError(f"logits must be [B, C] and target [B], got {list(logits.shape)} and {list(target.shape)}")
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating, got {logits.dtype}")
    if target.dtype != torch.int64:
        raise TypeError(f"target must hold class indices as int64, got {target.dtype}")
    if target.device.type == "cpu" and target.numel() > 0:
        low, high = target.aminmax()
        if low < 0 or high >= logits.shape[1]:
            worst = int(low if low < 0 else high)
            raise IndexError(f"target {worst} is out of bounds: labels must lie in [0, {logits.shape[1]})")
