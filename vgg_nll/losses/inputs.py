"""Inputs of the losses: reads what `torch.nn.CrossEntropyLoss` takes as rows, and reduces the values of the rows as it does.

A wrong input raises the type of error that PyTorch raises for it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vgg_nll.losses.softmax import as_float

REDUCTIONS = ("none", "mean", "sum")


class InvalidValue(ValueError, RuntimeError):
    """An input of a wrong shape or an option out of range.

    PyTorch raises RuntimeError for most of these, Python code ValueError: handlers of either catch it.
    """


class InvalidType(TypeError, NotImplementedError):
    """A tensor of a type that the losses do not take.

    PyTorch raises NotImplementedError (a RuntimeError), Python code TypeError: handlers of either catch it.
    """


@dataclass(frozen=True)
class Rows:
    """A batch as rows, one per element of the unreduced loss.

    Args:
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
        counted = None if self.counted is None else self.counted.to(self.logits.dtype)
        if self.class_weight is None or self.labels is None:
            return counted
        weight = self.class_weight[self.labels]
        return weight if counted is None else weight * counted

    def smoothed(self, label_smoothing: float) -> Tensor:
        """Returns the target as probabilities [M, C], mixed with the uniform distribution by `label_smoothing`."""
        q = self.probabilities
        if q is None:
            assert self.labels is not None
            q = torch.zeros_like(self.logits).scatter_(1, self.labels[:, None], 1.0)
        return q if label_smoothing == 0 else (1 - label_smoothing) * q + label_smoothing / q.shape[1]

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
        IndexError: a label outside [0, C) that is not `ignore_index` (checked on the CPU; on CUDA the device asserts it).
    """
    _check_logits_and_weight(logits, weight)
    class_dim = min(1, logits.dim() - 1)
    num_classes = logits.shape[class_dim]
    shape = logits.shape[:class_dim] + logits.shape[class_dim + 1 :]
    rows = as_float(logits).movedim(class_dim, -1).reshape(-1, num_classes)
    weight = None if weight is None else weight.to(rows.dtype)
    if target.shape == logits.shape:
        if not target.is_floating_point():
            raise InvalidType(f"target has the shape of the logits: class probabilities must be floating, got {target.dtype}")
        if ignore_index >= 0:
            raise InvalidValue(f"ignore_index={ignore_index} is for class indices; this target holds class probabilities")
        probabilities = target.to(rows.dtype).movedim(class_dim, -1).reshape(-1, num_classes)
        return Rows(rows, None, probabilities, None, weight, shape)
    if target.shape != shape and not (logits.dim() == 1 and target.shape == (1,)):
        raise InvalidValue(
            f"target must be {list(shape)} for class indices or {list(logits.shape)} for class probabilities "
            f"beside logits of {list(logits.shape)}, got {list(target.shape)}"
        )
    if target.dtype not in (torch.int64, torch.uint8):
        raise InvalidType(f"target must hold class indices as int64 or uint8, got {target.dtype}")
    labels, counted = _labels(target, num_classes, ignore_index)
    return Rows(rows, labels, None, counted, weight, shape)


def require(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises ValueError if the option `name` has a value that is not allowed."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def check_options(reduction: str, label_smoothing: float, eps: float) -> None:
    """Raises ValueError if one of the options that all losses share is out of its range."""
    require("reduction", reduction, REDUCTIONS)
    if not 0 <= label_smoothing <= 1:
        raise InvalidValue(f"label_smoothing must be in [0, 1], got {label_smoothing}")
    if not eps >= 0:
        raise ValueError(f"eps must be 0 (exact) or positive, got {eps}")


def _check_logits_and_weight(logits: Tensor, weight: Tensor | None) -> None:
    if logits.dim() == 0:
        raise InvalidValue("logits must be [C], [N, C] or [N, C, d1, ..., dk], got a single number")
    if not logits.is_floating_point():
        raise InvalidType(f"logits must be floating, got {logits.dtype}")
    if weight is None:
        return
    num_classes = logits.shape[min(1, logits.dim() - 1)]
    if weight.shape != (num_classes,):
        raise InvalidValue(f"weight must hold one number for each of {num_classes} classes, got {list(weight.shape)}")
    if not weight.is_floating_point():
        raise InvalidType(f"weight must be floating, got {weight.dtype}")


def _labels(target: Tensor, num_classes: int, ignore_index: int) -> tuple[Tensor, Tensor | None]:
    """Returns the labels [M], 0 for ignored rows, and which rows count [M]; None for all, if that is known for free."""
    labels = target.reshape(-1).long()
    # On other devices, reading values makes the host wait.
    if target.device.type == "cpu" and not torch.compiler.is_compiling():
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
