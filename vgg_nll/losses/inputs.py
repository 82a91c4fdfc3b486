"""Inputs of the losses: reads what `torch.nn.CrossEntropyLoss` takes as rows, and reduces the values of the rows as it does.

A wrong input raises the type of error that PyTorch raises for it.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vgg_nll.losses.label_nll import is_eager
from vgg_nll.losses.softmax import as_float, is_class

REDUCTIONS = ("none", "mean", "sum")


class InvalidValue(ValueError, RuntimeError):
    """An input of a wrong shape or an option out of range.

    PyTorch raises RuntimeError for most of these, Python code ValueError: handlers of either catch it.
    """


class InvalidType(TypeError, NotImplementedError):
    """A tensor of a type that the losses do not take.

    PyTorch raises NotImplementedError (a RuntimeError), Python code TypeError: handlers of either catch it.
    """


class Rows(NamedTuple):
    """A batch as rows, one per element of the unreduced loss.

    Attributes:
        logits: [M, C], float32 or float64.
        labels: [M] int64 in [0, C), or None if there are `probabilities`.
        probabilities: [M, C] of the type of `logits`, or None.
        counted: [M] bool, which rows are not ignored; None if all count.
        class_weight: [C] of the type of `logits`, or None.
        shape: of the result without reduction; [M] in all.
    """

    logits: Tensor
    labels: Tensor | None
    probabilities: Tensor | None
    counted: Tensor | None
    class_weight: Tensor | None
    shape: torch.Size

    def label_weight(self) -> Tensor | None:
        """Returns the weight of each row's label [M], 0 for ignored rows; None if every row counts once."""
        if self.class_weight is None or self.labels is None:
            return None if self.counted is None else self.counted.to(self.logits.dtype)
        weight = self.class_weight[self.labels]
        # Not a product: the weight of an ignored class may be inf or NaN.
        return weight if self.counted is None else weight.masked_fill(~self.counted, 0.0)

    def distribution(self) -> Tensor:
        """Returns the target as probabilities [M, C]."""
        if self.probabilities is not None:
            return self.probabilities
        assert self.labels is not None
        return is_class(self.labels[:, None], self.logits).to(self.logits.dtype)

    def reduce(self, values: Tensor, reduction: str) -> Tensor:
        """Reduces the values of the rows [M], which already include the weights.

        The mean divides by the sum of the labels' weights, or, for probabilities, by the number of rows: NaN if nothing counts.
        """
        if reduction == "none":
            return values.reshape(self.shape)
        if reduction == "sum":
            return values.sum()
        weight = self.label_weight()
        return values.mean() if weight is None else values.sum() / weight.sum()


def read_rows(logits: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int) -> Rows:
    """Returns the rows of logits [C], [N, C] or [N, C, d1, ..., dk] and a target, as `torch.nn.CrossEntropyLoss` reads them.

    The target holds class indices (shape [], [N] or [N, d1, ..., dk]; int64 or uint8) or class probabilities (the shape of
    the logits, floating).

    Raises:
        ValueError: shapes that do not match; `ignore_index` of 0 or more with class probabilities.
        TypeError: logits, weights or probabilities that are not floating, labels that are not int64 or uint8.
        IndexError: no classes; a label outside [0, C) that is not `ignore_index` (checked on the CPU; on CUDA its row is NaN,
            or the device asserts).
    """
    _check_types(logits, target, weight, ignore_index)
    class_dim = min(1, logits.dim() - 1)
    num_classes = logits.shape[class_dim]
    shape = logits.shape[:class_dim] + logits.shape[class_dim + 1 :]
    if target.shape == logits.shape:
        return _with_probabilities(logits, target, weight, ignore_index, shape)
    if target.shape != shape and not (logits.dim() == 1 and target.shape == (1,)):
        raise InvalidValue(
            f"target must be {list(shape)} for class indices or {list(logits.shape)} for class probabilities "
            f"beside logits of {list(logits.shape)}, got {list(target.shape)}"
        )
    if target.dtype not in (torch.int64, torch.uint8):
        raise InvalidType(f"target must hold class indices as int64 or uint8, got {target.dtype}")
    if weight is not None and not weight.is_floating_point():
        raise InvalidType(f"weight must be floating, got {weight.dtype}")
    labels, counted = _labels(target, num_classes, ignore_index)
    rows = _as_rows(as_float(logits), class_dim)
    return Rows(rows, labels, None, counted, None if weight is None else weight.to(rows.dtype), shape)


def _with_probabilities(logits: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, shape: torch.Size) -> Rows:
    """Returns the rows of class probabilities, all in the longest of the types, as PyTorch."""
    if not target.is_floating_point():
        raise InvalidType(f"target has the shape of the logits: class probabilities must be floating, got {target.dtype}")
    if ignore_index >= 0:
        raise InvalidValue(f"ignore_index={ignore_index} is for class indices; this target holds class probabilities")
    if any(tensor is not None and tensor.dtype == torch.float64 for tensor in (logits, target, weight)):
        logits = logits.double()
    class_dim = min(1, logits.dim() - 1)
    rows = _as_rows(as_float(logits), class_dim)
    weight = None if weight is None else weight.to(rows.dtype)
    return Rows(rows, None, _as_rows(target, class_dim).to(rows.dtype), None, weight, shape)


def _as_rows(values: Tensor, class_dim: int) -> Tensor:
    """Returns [N, C, d1, ..., dk] as [N * d1 * ... * dk, C]."""
    if values.dim() == 2:
        return values
    rows = values.movedim(class_dim, -1)
    return rows.reshape(math.prod(rows.shape[:-1]), rows.shape[-1])


def smooth(q: Tensor, label_smoothing: float) -> Tensor:
    """Returns a target `q` [M, C], mixed with the uniform distribution by `label_smoothing`."""
    return q if label_smoothing == 0 else (1 - label_smoothing) * q + label_smoothing / q.shape[1]


def smooth_complement(q: Tensor, label_smoothing: float) -> Tensor:
    """Returns `1 - smooth(q)` as a sum of terms that are not negative: it has all its digits if `smooth(q)` is near 1."""
    classes = q.shape[1]
    return 1 - q if label_smoothing == 0 else (1 - label_smoothing) * (1 - q) + label_smoothing * (classes - 1) / classes


def require(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises ValueError if the option `name` has a value that is not allowed."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def check_options(reduction: str, label_smoothing: float, eps: float) -> None:
    """Raises ValueError or TypeError if one of the options that all losses share is out of its range."""
    require("reduction", reduction, REDUCTIONS)
    for name, value in (("label_smoothing", label_smoothing), ("eps", eps)):
        if not isinstance(value, float | int):
            raise InvalidType(f"{name} must be a number, got {value!r}")
    if not 0 <= label_smoothing <= 1:
        raise InvalidValue(f"label_smoothing must be in [0, 1], got {label_smoothing}")
    if not 0 <= eps < 1:
        raise ValueError(f"eps must be 0 (exact) or in (0, 1), got {eps}")


def _check_types(logits: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int) -> None:
    for name, value in (("input", logits), ("target", target), ("weight", weight)):
        if not isinstance(value, Tensor) and not (value is None and name == "weight"):
            raise InvalidType(f"{name} must be a tensor, got {type(value).__name__}")
    if not isinstance(ignore_index, int) or isinstance(ignore_index, bool):
        raise InvalidType(f"ignore_index must be an integer, got {ignore_index!r}")
    if logits.dim() == 0:
        raise InvalidValue("logits must be [C], [N, C] or [N, C, d1, ..., dk], got a single number")
    if not logits.is_floating_point():
        raise InvalidType(f"logits must be floating, got {logits.dtype}")
    num_classes = logits.shape[min(1, logits.dim() - 1)]
    if num_classes == 0:
        raise IndexError(f"logits must hold at least one class, got {list(logits.shape)}")
    if weight is not None and weight.shape != (num_classes,):
        raise InvalidValue(f"weight must hold one number for each of {num_classes} classes, got {list(weight.shape)}")
    if weight is not None and (weight.is_complex() or weight.dtype == torch.bool):
        raise InvalidType(f"weight must hold numbers, got {weight.dtype}")


def _labels(target: Tensor, num_classes: int, ignore_index: int) -> tuple[Tensor, Tensor | None]:
    """Returns the labels [M], 0 for ignored rows, and which rows count [M]; None for all, if that is known for free."""
    labels = target.reshape(-1).long()
    # On other devices, reading values makes the host wait.
    if target.device.type == "cpu" and is_eager(target):
        low, high = (int(label) for label in labels.aminmax()) if len(labels) else (0, 0)
        if low >= 0 and high < num_classes and not low <= ignore_index <= high:
            return labels, None
        _check_labels(target, num_classes, ignore_index)
    counted = labels != ignore_index
    return labels.masked_fill(~counted, 0), counted


def _check_labels(target: Tensor, num_classes: int, ignore_index: int) -> None:
    wrong = ((target < 0) | (target >= num_classes)) & (target != ignore_index)
    if wrong.any():
        position = tuple(int(i) for i in wrong.nonzero()[0])
        where = f" at position {list(position)}" if position else ""
        raise IndexError(
            f"target {int(target[position])}{where} is out of bounds: labels must lie in [0, {num_classes}) "
            f"or equal ignore_index ({ignore_index})"
        )
