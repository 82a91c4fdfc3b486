"""The interface of `torch.nn.CrossEntropyLoss`: same shapes, same values, same errors."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vgg_nll.losses import AllLogitNLL, ArgmaxNLL, all_logit_nll, argmax_nll

SHAPES = [(4,), (6, 4), (1, 4), (6, 1), (5, 4, 3), (2, 4, 3, 2), (2, 4, 1, 3, 2), (0, 4)]


def draw(shape: tuple[int, ...], kind: str) -> tuple[Tensor, Tensor]:
    """Returns logits of a shape, and labels ("ignoring": some of them 1, to be ignored) or probabilities for them."""
    random = torch.Generator().manual_seed(len(shape))
    logits = torch.randn(shape, generator=random)
    class_dim = min(1, len(shape) - 1)
    if kind == "probabilities":
        return logits, torch.randn(shape, generator=random).softmax(class_dim)
    labels = torch.randint(0, shape[class_dim], shape[:class_dim] + shape[class_dim + 1 :], generator=random)
    return logits, labels.byte() if kind == "bytes" else labels


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("options", [{}, {"weight": True}, {"label_smoothing": 0.1}, {"weight": True, "label_smoothing": 0.3}])
@pytest.mark.parametrize("kind", ["labels", "bytes", "ignoring", "probabilities"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_method_1_is_cross_entropy(shape: tuple[int, ...], kind: str, options: dict[str, Any], reduction: str) -> None:
    """Values and gradients, for every shape, target, weight, smoothing and reduction."""
    logits, target = draw(shape, kind)
    options = options | {"reduction": reduction} | ({"ignore_index": 1} if kind == "ignoring" else {})
    if "weight" in options:
        options["weight"] = torch.linspace(0.5, 2.0, shape[min(1, len(shape) - 1)])
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    # PyTorch takes labels as bytes too, but not with every shape and option.
    indices = target.long() if kind == "bytes" else target
    found, expected = argmax_nll(ours, target, **options), F.cross_entropy(theirs, indices, **options)
    torch.testing.assert_close(found, expected, equal_nan=True)
    if expected.numel() and not expected.isnan().any():
        found.sum().backward()
        expected.sum().backward()
        torch.testing.assert_close(ours.grad, theirs.grad)
    by_module = ArgmaxNLL(**options)(logits, target)
    torch.testing.assert_close(by_module, found, rtol=0, atol=0, equal_nan=True)
    all_logit_nll(logits, target, **options)  # takes the same inputs; test_nll.py compares its values with a formula


def test_one_label_of_shape_1() -> None:
    logits, target = torch.randn(4), torch.tensor([2])
    for reduction in ("none", "mean"):
        expected = F.cross_entropy(logits, target, reduction=reduction)
        torch.testing.assert_close(argmax_nll(logits, target, reduction=reduction), expected)


def test_all_ignored() -> None:
    logits, target = torch.randn(3, 4), torch.full((3,), -100)
    for loss in (argmax_nll, all_logit_nll):
        assert loss(logits, target).isnan()  # as PyTorch's
        assert loss(logits, target, reduction="sum").item() == 0.0
        assert loss(logits, target, reduction="none").tolist() == [0.0] * 3
        assert loss(logits, target, weight=torch.ones(4)).isnan()


def test_ignored_elements_change_nothing() -> None:
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([1, -100, 3, 0])
    logits[1] = torch.nan
    rest = [0, 2, 3]
    for loss in (argmax_nll, all_logit_nll):
        for options in ({}, {"label_smoothing": 0.2}, {"weight": torch.rand(5)}, {"eps": 1e-6}):
            torch.testing.assert_close(loss(logits, target, **options), loss(logits[rest], target[rest], **options))


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_the_weight_of_an_ignored_class_changes_nothing(value: float) -> None:
    weight, target = torch.tensor([value, 1.0, 2.0]), torch.tensor([0, 1, 2, 0])
    for loss in (argmax_nll, all_logit_nll):
        found = loss(Z, target, weight, ignore_index=0)
        torch.testing.assert_close(found, loss(Z[1:3], target[1:3], weight))
        assert found.isfinite()


def test_calls_that_pytorch_takes() -> None:
    """`input` by name, a positional weight, integer weights of probabilities, float64 probabilities: values and types."""
    q, weight = Z.softmax(1), torch.tensor([1, 2, 3])
    for call in (
        lambda loss: loss(input=Z, target=T),
        lambda loss: loss(Z, T, weight.float()),
        lambda loss: loss(Z, q, weight=weight),
        lambda loss: loss(Z, q.double()),
        lambda loss: loss(Z, q, weight=weight.double()),
    ):
        torch.testing.assert_close(call(argmax_nll), call(F.cross_entropy))
        assert call(all_logit_nll).dtype == call(F.cross_entropy).dtype
    assert ArgmaxNLL()(input=Z, target=T) == argmax_nll(Z, T)
    assert AllLogitNLL()(input=Z, target=T) == all_logit_nll(Z, T)


def test_gradients_reach_weights_and_probabilities() -> None:
    logits, q = draw((6, 4), "probabilities")
    q[0] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    grads = []
    for loss in (argmax_nll, F.cross_entropy):
        target, weight = q.clone().requires_grad_(), torch.linspace(1, 2, 4).requires_grad_()
        grads.append(torch.autograd.grad(loss(logits, target, weight=weight), (target, weight)))
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_modules_keep_their_weight() -> None:
    """In the state dict, and if the module changes its type; it is the first argument, as in PyTorch."""
    weight = torch.tensor([1.0, 2.0, 3.0])
    for cls in (ArgmaxNLL, AllLogitNLL):
        module = cls(weight)
        assert torch.equal(module.state_dict()["weight"], weight)
        assert module.double().weight.dtype == torch.float64
        assert (module.ignore_index, module.reduction, module.label_smoothing) == (-100, "mean", 0.0)


Z, T = torch.randn(4, 3, generator=torch.Generator().manual_seed(5)), torch.tensor([0, 1, 2, 1])
Loss = Callable[..., Tensor]
MISUSE: dict[str, tuple[Callable[[Loss], Tensor], str]] = {
    "a number": (lambda loss: loss(torch.tensor(1.0), torch.tensor(0)), "logits must be"),
    "fewer labels": (lambda loss: loss(Z, T[:2]), r"target must be \[4\] .* got \[2\]"),
    "one label for many": (lambda loss: loss(Z, torch.tensor(0)), r"target must be \[4\]"),
    "labels for one": (lambda loss: loss(Z[0], T), r"target must be \[\]"),
    "labels as one-hot": (lambda loss: loss(Z, F.one_hot(T, 3)), "class probabilities must be floating"),
    "labels in two columns": (lambda loss: loss(Z, torch.zeros(4, 2).long()), "target must be"),
    "other pixels": (lambda loss: loss(torch.randn(2, 3, 5), torch.zeros(2, 4).long()), r"target must be \[2, 5\]"),
    "other pixels, 2d": (lambda loss: loss(torch.randn(2, 3, 5, 5), torch.zeros(2, 5, 4).long()), "target must be"),
    "no pixels": (lambda loss: loss(torch.randn(2, 3, 5, 5), torch.zeros(2, 5).long()), "target must be"),
    "other images": (lambda loss: loss(torch.randn(2, 3, 5, 5), torch.zeros(3, 5, 5).long()), "target must be"),
    "fewer probabilities": (lambda loss: loss(Z, torch.rand(4, 2)), r"or \[4, 3\] for class probabilities"),
    "float labels": (lambda loss: loss(Z, T.float()), "int64 or uint8, got torch.float32"),
    "int32 labels": (lambda loss: loss(Z, T.int()), "int64 or uint8"),
    "bool labels": (lambda loss: loss(Z, T.bool()), "int64 or uint8"),
    "integer logits": (lambda loss: loss(Z.long(), T), "logits must be floating, got torch.int64"),
    "integer logits, probabilities": (lambda loss: loss(Z.long(), torch.rand(4, 3)), "logits must be floating"),
    "complex logits": (lambda loss: loss(Z.to(torch.cfloat), T), "logits must be floating"),
    "label C": (lambda loss: loss(Z, torch.tensor([0, 3, 1, 1])), r"target 3 at position \[1\] .* in \[0, 3\)"),
    "label -1": (lambda loss: loss(Z, torch.tensor([0, 1, -1, 1])), r"target -1 at position \[2\]"),
    "label C of a pixel": (
        lambda loss: loss(torch.randn(2, 3, 2), torch.tensor([[0, 1], [7, 1]])),
        r"target 7 at position \[1, 0\]",
    ),
    "label C of one": (lambda loss: loss(Z[0], torch.tensor(3)), r"target 3 is out of bounds"),
    "label C, smoothed": (lambda loss: loss(Z, torch.tensor([0, 3, 1, 1]), label_smoothing=0.1), "target 3"),
    "reduction": (lambda loss: loss(Z, T, reduction="avg"), "reduction must be one of none, mean, sum, got 'avg'"),
    "smoothing": (lambda loss: loss(Z, T, label_smoothing=1.1), r"label_smoothing must be in \[0, 1\], got 1.1"),
    "fewer weights": (lambda loss: loss(Z, T, weight=torch.ones(2)), r"weight must hold .* 3 classes, got \[2\]"),
    "fewer weights, probabilities": (lambda loss: loss(Z, torch.rand(4, 3), weight=torch.ones(2)), "weight must hold"),
    "a matrix of weights": (lambda loss: loss(Z, T, weight=torch.ones(3, 1)), "weight must hold"),
    "integer weights": (lambda loss: loss(Z, T, weight=torch.ones(3).long()), "weight must be floating"),
    "lists": (lambda loss: loss(Z.tolist(), T), "input must be a tensor, got list"),
    "no target": (lambda loss: loss(Z, None), "target must be a tensor, got NoneType"),
    "an integer": (lambda loss: loss(3, T), "input must be a tensor, got int"),
    "weights as a list": (lambda loss: loss(Z, T, weight=[1.0, 2.0, 3.0]), "weight must be a tensor"),
    "no classes": (lambda loss: loss(torch.zeros(2, 0), torch.zeros(2).long()), r"at least one class, got \[2, 0\]"),
    "ignore_index 1.5": (lambda loss: loss(Z, T, ignore_index=1.5), "ignore_index must be an integer, got 1.5"),
    "ignore_index True": (lambda loss: loss(Z, T, ignore_index=True), "ignore_index must be an integer, got True"),
    "smoothing as text": (lambda loss: loss(Z, T, label_smoothing="a"), "label_smoothing must be a number, got 'a'"),
    "ignored class, probabilities": (lambda loss: loss(Z, torch.rand(4, 3), ignore_index=1), "ignore_index=1 is for class"),
}


@pytest.mark.parametrize("name", MISUSE)
def test_misuse_raises_what_pytorch_raises(name: str) -> None:
    """The error is of PyTorch's type, and a ValueError, TypeError or IndexError; it names the argument and what is allowed."""
    misuse, words = MISUSE[name]
    with pytest.raises((ValueError, TypeError, IndexError, RuntimeError)) as theirs:
        misuse(F.cross_entropy)
    for loss in (argmax_nll, all_logit_nll):
        with pytest.raises(theirs.type, match=words) as ours:
            misuse(loss)
        assert isinstance(ours.value, (ValueError, TypeError, IndexError))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"eps": -1.0}, "eps must be 0"),
        ({"eps": math.nan}, "eps must be 0"),
        ({"label_smoothing": -0.1}, "label_smoothing must be in"),  # PyTorch takes it without effect
        ({"label_smoothing": math.nan}, "label_smoothing must be in"),
    ],
)
def test_options_that_pytorch_does_not_check(options: dict[str, Any], words: str) -> None:
    for loss in (argmax_nll, all_logit_nll):
        with pytest.raises(ValueError, match=words):
            loss(Z, T, **options)
    for cls in (ArgmaxNLL, AllLogitNLL):
        with pytest.raises(ValueError, match=words):
            cls(**options)


def test_errors_list_the_choices() -> None:
    with pytest.raises(ValueError, match="select must be one of label, prediction, got 'top'"):
        argmax_nll(Z, T, select="top")
    with pytest.raises(ValueError, match="class_reduction must be one of sum, mean, got 'max'"):
        all_logit_nll(Z, T, class_reduction="max")
