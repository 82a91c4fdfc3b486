"""Negative log-likelihoods of a softmax, in place of `torch.nn.CrossEntropyLoss`, and exact.

Notation: `z` are the logits of one image over C classes, `p = softmax(z)`, `t` is the label, `q` a target of class
probabilities (one-hot for a label); logarithms are natural.

* method 1, `argmax_nll`: `-log p_t`, one softmax output, picked at the argmax of the one-hot label; `-sum q_k log p_k`;
* method 2, `all_logit_nll`: `-log p_t - sum over k != t of log(1 - p_k)`, every softmax output;
  `-sum [q_k log p_k + (1 - q_k) log(1 - p_k)]`.

Shapes, targets, weights, ignored labels and reductions are those of `torch.nn.CrossEntropyLoss`. Neither loss takes the
logarithm of a probability: `vgg_nll/losses/softmax.py` says how, docs/losses.md what that changes. float64 logits are
computed in float64, all others in float32.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgg_nll.losses.inputs import check_options, read_rows, require, smooth, smooth_complement
from vgg_nll.losses.label_nll import label_nll
from vgg_nll.losses.softmax import log_probabilities

Loss = Callable[[Tensor, Tensor], Tensor]  # logits [B, C], class indices [B] -> the mean over the batch
SELECTIONS = ("label", "prediction")
CLASS_REDUCTIONS = ("sum", "mean")


def argmax_nll(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    select: str = "label",
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    eps: float = 0.0,
) -> Tensor:
    """Returns method 1: `-log` of one softmax output.

    `select="label"`: `-log p_t`, the output at the argmax of the one-hot label; equal to `torch.nn.CrossEntropyLoss`.
    `select="prediction"`: `-log max_k p_k`, the largest output whatever the target says, which only decides what is
    ignored. A network trained with it becomes confident of any prediction: for study, not for use.

    Args:
        input: the logits, [C], [N, C] or [N, C, d1, ..., dk], floating.
        target: class indices ([], [N], [N, d1, ..., dk]) or class probabilities (the shape of the logits).
        weight: [C]; the term of class k is multiplied by `weight[k]`, also what `label_smoothing` gives it, as PyTorch does.
        ignore_index: elements with this label do not count.
        reduction: "mean" (weighted by the labels' weights; over all elements for class probabilities), "sum", or "none" for one
            value per element.
        label_smoothing: this fraction of the target is spread evenly over all classes.
        eps: 0 is exact; `eps > 0` gives the textbook form `-log(p + eps)` on probabilities, at most `-log(eps)`.

    Raises:
        ValueError, TypeError, IndexError: as `torch.nn.CrossEntropyLoss`, with the argument's name and what is allowed.
    """
    require("select", select, SELECTIONS)
    check_options(reduction, label_smoothing, eps)
    rows = read_rows(input, target, weight, ignore_index)
    if select == "prediction":
        rows = rows._replace(labels=rows.logits.argmax(dim=1), probabilities=None)
    if rows.labels is not None and label_smoothing == 0 and eps == 0:
        if reduction == "mean" and rows.label_weight() is None:
            return label_nll(rows.logits, rows.labels, complements=False, mean=True)
        values = _weigh(label_nll(rows.logits, rows.labels, complements=False), rows.label_weight())
    else:
        nll, _ = _terms(rows.logits, eps)
        values = _sum(smooth(rows.distribution(), label_smoothing), nll, rows.class_weight)
        values = _weigh(values, None if rows.counted is None else rows.counted.to(values.dtype))
    return rows.reduce(values, reduction)


def all_logit_nll(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    class_reduction: str = "sum",
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    eps: float = 0.0,
) -> Tensor:
    """Returns method 2: `-log p_t - sum over k != t of log(1 - p_k)`, over every softmax output.

    Equal to `-log p_t + (1 - p_t) + sum over k != t of (p_k^2/2 + p_k^3/3 + ...)`. Strictly proper: `p` minimises its
    expectation only if it is the true distribution. For C = 2 it is twice method 1. The gradient of a confident mistake tends
    to at most 2 per logit (method 1: 1); it is never inf or NaN. On the true logit it is that of method 1 times a factor
    between `1 + p_t (C - 1) / (C - 2 + p_t)` (other outputs equal) and 2: one learning rate does not give equal steps.

    Args:
        input, target, ignore_index: as `argmax_nll`.
        class_reduction: over the C terms of an element: "sum", or "mean", whose gradients are C times smaller; on clipped
            outputs, "mean" would be Keras' `binary_crossentropy`.
        weight: [C]; an element's whole loss is multiplied by `weight[t]`. With class probabilities, which have no `t`, both
            terms of class k are multiplied by `weight[k]`.
        reduction: as `argmax_nll`.
        label_smoothing: this fraction of the target is spread evenly over all classes before the terms are formed.
        eps: 0 is exact; `eps > 0` gives the textbook form `-log(p + eps)`, `-log(1 - p + eps)` on probabilities.

    Raises:
        ValueError, TypeError, IndexError: as `argmax_nll`.
    """
    require("class_reduction", class_reduction, CLASS_REDUCTIONS)
    check_options(reduction, label_smoothing, eps)
    rows = read_rows(input, target, weight, ignore_index)
    if rows.labels is not None and label_smoothing == 0 and eps == 0:
        if reduction == "mean" and class_reduction == "sum" and rows.label_weight() is None:
            return label_nll(rows.logits, rows.labels, complements=True, mean=True)
        values = label_nll(rows.logits, rows.labels, complements=True)
    else:
        nll, complement_nll = _terms(rows.logits, eps)
        q = rows.distribution()
        class_weight = rows.class_weight if rows.labels is None else None
        values = _sum(smooth(q, label_smoothing), nll, class_weight)
        values = values + _sum(smooth_complement(q, label_smoothing), complement_nll, class_weight)
    if class_reduction == "mean":
        values = values / rows.logits.shape[1]
    return rows.reduce(_weigh(values, rows.label_weight()), reduction)


def sigmoid_nll(input: Tensor, target: Tensor, *, class_reduction: str = "sum", reduction: str = "mean") -> Tensor:
    """Returns the one-vs-rest binary cross-entropy on `s = sigmoid(z)`: `-log s_t - sum over k != t of log(1 - s_k)`.

    In contrast to method 2, a sigmoid compares each output with 0.5 by itself, so the C outputs need not sum to 1.
    Arguments and errors as `all_logit_nll`.
    """
    require("class_reduction", class_reduction, CLASS_REDUCTIONS)
    check_options(reduction, 0.0, 0.0)
    rows = read_rows(input, target, None, -100)
    q = rows.distribution()
    values = _sum(q, -F.logsigmoid(rows.logits), None) + _sum(1 - q, -F.logsigmoid(-rows.logits), None)
    if class_reduction == "mean":
        values = values / rows.logits.shape[1]
    return rows.reduce(_weigh(values, rows.label_weight()), reduction)


class _NLL(nn.Module):
    """What both methods share as modules: the weights of classes in a buffer, and the options of their functions."""

    weight: Tensor | None

    def __init__(self, weight: Tensor | None, ignore_index: int, reduction: str, label_smoothing: float, eps: float) -> None:
        super().__init__()
        check_options(reduction, label_smoothing, eps)
        self.register_buffer("weight", weight)
        self.ignore_index, self.reduction, self.label_smoothing, self.eps = ignore_index, reduction, label_smoothing, eps

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("ignore_index", "reduction", "label_smoothing", "eps")}


class ArgmaxNLL(_NLL):
    """`argmax_nll` as a module, with the same keywords: method 1, in place of `torch.nn.CrossEntropyLoss`."""

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        select: str = "label",
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        eps: float = 0.0,
    ) -> None:
        super().__init__(weight, ignore_index, reduction, label_smoothing, eps)
        require("select", select, SELECTIONS)
        self.select = select

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return argmax_nll(input, target, self.weight, select=self.select, **self._options())


class AllLogitNLL(_NLL):
    """`all_logit_nll` as a module, with the same keywords: method 2."""

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        class_reduction: str = "sum",
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        eps: float = 0.0,
    ) -> None:
        super().__init__(weight, ignore_index, reduction, label_smoothing, eps)
        require("class_reduction", class_reduction, CLASS_REDUCTIONS)
        self.class_reduction = class_reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return all_logit_nll(input, target, self.weight, class_reduction=self.class_reduction, **self._options())


class SigmoidNLL(nn.Module):
    """`sigmoid_nll` as a module, with the same keywords."""

    def __init__(self, *, class_reduction: str = "sum", reduction: str = "mean") -> None:
        super().__init__()
        require("class_reduction", class_reduction, CLASS_REDUCTIONS)
        check_options(reduction, 0.0, 0.0)
        self.class_reduction, self.reduction = class_reduction, reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return sigmoid_nll(input, target, class_reduction=self.class_reduction, reduction=self.reduction)


def _terms(logits: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Returns `-log p` and `-log(1 - p)` of every class, [M, C] each: exact, or the textbook's with `eps`."""
    if eps == 0:
        nll, complement_nll, _ = log_probabilities(logits)
        return nll, complement_nll
    p = logits.softmax(dim=1)
    return -torch.log(p + eps), -torch.log(1 - p + eps)


def _sum(coefficients: Tensor, terms: Tensor, class_weight: Tensor | None) -> Tensor:
    """Returns the sum over classes [M]; an infinite term with coefficient 0 gives 0."""
    if class_weight is not None:
        coefficients = coefficients * class_weight
    return (coefficients * terms.masked_fill((coefficients == 0) & terms.isinf(), 0.0)).sum(dim=1)


def _weigh(values: Tensor, weight: Tensor | None) -> Tensor:
    """Returns weighted values [M]; a value of weight 0 gives 0, even if it is not finite."""
    return values if weight is None else (values * weight).masked_fill(weight == 0, 0.0)
