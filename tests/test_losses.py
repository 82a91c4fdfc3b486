"""The losses against 60-digit arithmetic, against PyTorch, and against what they must give."""

import math

import mpmath
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from vgg_nll.losses import AllLogitNLL, ArgmaxNLL, SigmoidNLL, all_logit_nll, argmax_nll, margin, sigmoid_nll

EXAMPLE = torch.tensor([[5.0, 4.0, 2.0], [4.0, 2.0, 8.0], [4.0, 4.0, 1.0]])  # cat, dog, horse
EXAMPLE_LABELS = torch.tensor([0, 2, 1])


def exact(logits: list[float], label: int) -> tuple[float, float, float]:
    """Method 1 by label, by prediction, and method 2 of one image, in 60 digits."""
    with mpmath.workdps(60):
        exponentials = [mpmath.e ** mpmath.mpf(z) for z in logits]
        total = mpmath.fsum(exponentials)
        others = [mpmath.fsum(e for j, e in enumerate(exponentials) if j != k) for k in range(len(logits))]
        nll = [-mpmath.log(e / total) for e in exponentials]
        complement = [-mpmath.log(o / total) for o in others]
        everything = nll[label] + mpmath.fsum(c for k, c in enumerate(complement) if k != label)
        # log1p(x) for an x below 1e-60 is lost even here; -log p of the top class is others / total to first order
        if nll[label] == 0:
            everything += others[label] / total
        return float(nll[label]), float(min(nll)), float(everything)


def test_worked_example() -> None:
    rounded = (EXAMPLE.softmax(1) * 100).round().tolist()
    assert rounded == [[71, 26, 4], [2, 0, 98], [49, 49, 2]]
    torch.testing.assert_close(
        argmax_nll(EXAMPLE, EXAMPLE_LABELS, reduction="none"), torch.tensor([0.35, 0.02, 0.72]), atol=0.005, rtol=0
    )
    # the third row is a tie: both cats and dogs are the prediction, with the same probability
    assert argmax_nll(EXAMPLE[2:], torch.tensor([0])) == argmax_nll(EXAMPLE[2:], torch.tensor([1]))


@pytest.mark.parametrize(
    ("classes", "argmax", "all_logit"),
    [(2, 0.6931, 1.3863), (10, 2.3026, 3.2508), (100, 4.6052, 5.6002), (1000, 6.9078, 7.9073)],
)
def test_constant_prediction(classes: int, argmax: float, all_logit: float) -> None:
    logits, target = torch.full((4, classes), 3.0), torch.arange(4) % classes
    assert argmax_nll(logits, target).item() == pytest.approx(argmax, abs=5e-5)
    assert all_logit_nll(logits, target).item() == pytest.approx(all_logit, abs=5e-5)
    assert argmax_nll(logits, target, select="prediction").item() == pytest.approx(argmax, abs=5e-5)
    assert all_logit == pytest.approx(math.log(classes) + (classes - 1) * math.log(classes / (classes - 1)), abs=5e-5)


def test_pytorch_is_method_1() -> None:
    """`CrossEntropyLoss`, and `NLLLoss` after `log_softmax`, equal method 1 with the label, and not method 2."""
    logits, target = torch.randn(64, 10, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 10
    method_1, method_2 = argmax_nll(logits, target), all_logit_nll(logits, target)
    torch.testing.assert_close(torch.nn.CrossEntropyLoss()(logits, target), method_1)
    torch.testing.assert_close(torch.nn.NLLLoss()(logits.log_softmax(1), target), method_1)
    assert abs(torch.nn.CrossEntropyLoss()(logits, target) - method_2) > 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("gap", [0.0, 1e-3, 1.0, 5.0, 15.0, 17.0, 80.0, 104.0, 1e4])
@pytest.mark.parametrize("label", [0, 3])
def test_any_gap_is_exact(gap: float, label: int, dtype: torch.dtype) -> None:
    """One class leads by `gap`; it is right (label 0) or wrong (label 3)."""
    logits = torch.zeros(1, 10, dtype=dtype)
    logits[0, 0] = gap
    logits.requires_grad_()
    by_label, by_prediction, everything = exact(logits[0].tolist(), label)
    target = torch.tensor([label])
    tolerance = {"rel": 1e-12 if dtype == torch.float64 else 2e-6, "abs": 1e-37}
    assert argmax_nll(logits, target).item() == pytest.approx(by_label, **tolerance)
    assert argmax_nll(logits, target, select="prediction").item() == pytest.approx(by_prediction, **tolerance)
    loss = all_logit_nll(logits, target)
    assert loss.item() == pytest.approx(everything, **tolerance)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().max() <= 2 * (1 + 1e-6)  # to rounding


@pytest.mark.parametrize(("scale", "error"), [(1.0, 5e-7), (10.0, 1e-6), (30.0, 5e-6), (100.0, 2e-5), (1e4, 2e-5)])
def test_random_logits_are_exact(scale: float, error: float) -> None:
    logits = scale * torch.randn(64, 10, generator=torch.Generator().manual_seed(1))
    target = torch.arange(64) % 10
    one, two = argmax_nll(logits, target, reduction="none"), all_logit_nll(logits, target, reduction="none")
    for i in range(64):
        by_label, _, everything = exact(logits[i].tolist(), int(target[i]))
        assert one[i].item() == pytest.approx(by_label, rel=error, abs=1e-37)
        assert two[i].item() == pytest.approx(everything, rel=error, abs=1e-37)


@pytest.mark.parametrize("loss", [argmax_nll, all_logit_nll])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_gradient_matches_float64(loss: object, scale: float) -> None:
    logits = scale * torch.randn(32, 10, generator=torch.Generator().manual_seed(2))
    target = torch.arange(32) % 10
    single, double = logits.clone().requires_grad_(), logits.double().requires_grad_()
    for z in (single, double):
        loss(z, target, reduction="sum").backward()  # type: ignore[operator]
    torch.testing.assert_close(single.grad.double(), double.grad, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(double.grad.sum(1), torch.zeros(32, dtype=torch.float64), atol=1e-12, rtol=0)


def test_gradcheck() -> None:
    logits = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    target = torch.arange(6) % 5
    assert torch.autograd.gradcheck(lambda z: all_logit_nll(z, target), (logits,))
    assert torch.autograd.gradcheck(lambda z: argmax_nll(z, target), (logits,))
    assert torch.autograd.gradcheck(lambda z: argmax_nll(z, target, select="prediction"), (logits,))


def test_confident_mistake_has_twice_the_gradient() -> None:
    for loss, bound in ((argmax_nll, 1.0), (all_logit_nll, 2.0)):
        logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
        loss(logits, torch.tensor([1])).backward()
        assert logits.grad is not None
        assert logits.grad[0, 0].item() == pytest.approx(bound)


def test_gradient_at_uniform_is_fair() -> None:
    """The sum over classes has C/(C-1) times the gradient of method 1; the mean C times less."""
    grads = []
    for options in ({}, {"class_reduction": "sum"}, {"class_reduction": "mean"}):
        logits = torch.zeros(1, 10, requires_grad=True)
        (all_logit_nll(logits, torch.tensor([3]), **options) if options else argmax_nll(logits, torch.tensor([3]))).backward()
        grads.append(logits.grad)
    torch.testing.assert_close(grads[1], grads[0] * 10 / 9)
    torch.testing.assert_close(grads[2], grads[1] / 10)


def test_facts() -> None:
    draw = torch.Generator().manual_seed(4)
    logits, target = 3 * torch.randn(8, 10, generator=draw), torch.arange(8)
    for loss in (argmax_nll, all_logit_nll):
        values = loss(logits, target, reduction="none")
        torch.testing.assert_close(loss(logits + 7, target, reduction="none"), values, rtol=1e-4, atol=1e-6)
        order = torch.randperm(10, generator=draw)
        torch.testing.assert_close(loss(logits[:, order], order.argsort()[target], reduction="none"), values)
        torch.testing.assert_close(loss(logits, target, reduction="sum"), values.sum())
        torch.testing.assert_close(loss(logits, target), values.mean())
    two = logits[:, :2]
    torch.testing.assert_close(all_logit_nll(two, target % 2), 2 * argmax_nll(two, target % 2))
    torch.testing.assert_close(all_logit_nll(logits, target, class_reduction="mean"), all_logit_nll(logits, target) / 10)


@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=12), st.data())
def test_bounds_hold_for_any_logits(values: list[float], data: st.DataObject) -> None:
    """0 <= method 1 by prediction <= method 1 by label <= method 2; and the margin form agrees with 60 digits."""
    logits = torch.tensor([values])
    label = data.draw(st.integers(0, len(values) - 1))
    target = torch.tensor([label])
    by_prediction = argmax_nll(logits, target, select="prediction").item()
    by_label, everything = argmax_nll(logits, target).item(), all_logit_nll(logits, target).item()
    assert 0 <= by_prediction <= by_label <= everything * (1 + 1e-6)
    expected = exact(logits[0].tolist(), label)
    assert (by_label, by_prediction, everything) == pytest.approx(expected, rel=2e-5, abs=1e-37)


def test_one_class_costs_nothing() -> None:
    logits = torch.tensor([[3.0]])
    assert argmax_nll(logits, torch.tensor([0])).item() == 0.0
    assert all_logit_nll(logits, torch.tensor([0])).item() == 0.0


@pytest.mark.parametrize("eps", [1e-7, 1e-3])
def test_textbook_eps(eps: float) -> None:
    p = EXAMPLE.softmax(1)
    expected_1 = -torch.log(p[range(3), EXAMPLE_LABELS] + eps)
    one_hot = F.one_hot(EXAMPLE_LABELS, 3).bool()
    expected_2 = -torch.log(torch.where(one_hot, p, 1 - p) + eps).sum(1)
    torch.testing.assert_close(argmax_nll(EXAMPLE, EXAMPLE_LABELS, reduction="none", eps=eps), expected_1)
    torch.testing.assert_close(all_logit_nll(EXAMPLE, EXAMPLE_LABELS, reduction="none", eps=eps), expected_2)
    worst = argmax_nll(torch.tensor([[1e4, 0.0]]), torch.tensor([1]), eps=eps)
    assert worst.item() == pytest.approx(-math.log(eps), rel=1e-5)


def test_margin_does_not_saturate() -> None:
    logits = torch.tensor([[0.0, 0.0], [20.0, 0.0], [100.0, 0.0]])
    torch.testing.assert_close(margin(logits), torch.tensor([0.0, 20.0, 100.0]))
    assert logits.softmax(1).amax(1).tolist()[1:] == [1.0, 1.0]


def test_sigmoid_is_binary_cross_entropy() -> None:
    one_hot = F.one_hot(EXAMPLE_LABELS, 3).float()
    expected = F.binary_cross_entropy(EXAMPLE.sigmoid(), one_hot, reduction="none").sum(1)
    torch.testing.assert_close(sigmoid_nll(EXAMPLE, EXAMPLE_LABELS, reduction="none"), expected)
    assert SigmoidNLL(class_reduction="mean")(EXAMPLE, EXAMPLE_LABELS).item() == pytest.approx(expected.mean().item() / 3)


def test_modules_take_the_same_keywords() -> None:
    for options in ({}, {"select": "prediction"}, {"reduction": "sum"}, {"eps": 0.1}):
        assert ArgmaxNLL(**options)(EXAMPLE, EXAMPLE_LABELS) == argmax_nll(EXAMPLE, EXAMPLE_LABELS, **options)
    for options in ({}, {"class_reduction": "mean"}, {"reduction": "sum"}, {"eps": 0.1}):
        assert AllLogitNLL(**options)(EXAMPLE, EXAMPLE_LABELS) == all_logit_nll(EXAMPLE, EXAMPLE_LABELS, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((EXAMPLE, EXAMPLE_LABELS), {"select": "top"}, ValueError, "select must be one of label, prediction"),
        ((EXAMPLE, EXAMPLE_LABELS), {"reduction": "avg"}, ValueError, "reduction must be one of none, mean, sum"),
        ((EXAMPLE, EXAMPLE_LABELS), {"eps": -1.0}, ValueError, "eps"),
        ((EXAMPLE[0], EXAMPLE_LABELS), {}, ValueError, "logits must be"),
        ((EXAMPLE, EXAMPLE_LABELS[:2]), {}, ValueError, "target"),
        ((EXAMPLE.long(), EXAMPLE_LABELS), {}, TypeError, "floating"),
        ((EXAMPLE, EXAMPLE_LABELS.float()), {}, TypeError, "int64"),
        ((EXAMPLE, torch.tensor([0, 3, 1])), {}, IndexError, r"target 3 is out of bounds: labels must lie in \[0, 3\)"),
        ((EXAMPLE, torch.tensor([0, -1, 1])), {}, IndexError, "target -1"),
    ],
)
def test_misuse_is_named(arguments: tuple, options: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        argmax_nll(*arguments, **options)
    if "select" not in options:
        with pytest.raises(error, match=words):
            all_logit_nll(*arguments, **options)
    else:
        with pytest.raises(ValueError, match="class_reduction must be one of sum, mean"):
            all_logit_nll(*arguments, class_reduction="max")
