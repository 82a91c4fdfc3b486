"""Exact logarithms of a softmax, values and gradients, against 60 and more digits."""

import math

import pytest
import torch
from helpers.exact import exact_gradient, exact_nll
from torch import Tensor

from vgg_nll.losses import cpu_rows
from vgg_nll.losses import label_nll as module
from vgg_nll.losses.label_nll import by_terms, label_nll
from vgg_nll.losses.softmax import log_probabilities, margin


def gradient(logits: Tensor, target: Tensor, complements: bool) -> Tensor:
    leaf = logits.clone().requires_grad_()
    (result,) = torch.autograd.grad(label_nll(leaf, target, complements=complements).sum(), leaf)
    return result


def random_logits(scale: float, rows: int = 48, classes: int = 10, seed: int = 1) -> tuple[Tensor, Tensor]:
    logits = scale * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))
    target = torch.arange(rows) % classes
    target[::3] = logits.argmax(1)[::3]  # every third label is the predicted class
    return logits, target


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 30.0, 300.0, 1e4])
def test_values_are_exact(scale: float, classes: int) -> None:
    """The relative error that docs/losses.md states, for both ways to compute the values."""
    logits, target = random_logits(scale, rows=24, classes=classes)
    for complements in (False, True):
        ours = label_nll(logits, target, complements=complements)
        nll, complement_nll, _ = log_probabilities(logits)
        is_target = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, target[:, None], True)
        by_terms = torch.where(is_target, nll, complement_nll if complements else 0.0).sum(1)
        for i, row in enumerate(logits.tolist()):
            expected = exact_nll(row, int(target[i]), complements)
            assert ours[i].item() == pytest.approx(expected, rel=1e-6, abs=1e-37)
            assert by_terms[i].item() == pytest.approx(expected, rel=1e-6, abs=1e-37)


@pytest.mark.parametrize("gap", [0.1, 1.5, 15.3, 40.7, 63.9, 70.3, 84.9])
def test_a_gap_that_float32_rounds_is_exact(gap: float) -> None:
    """The logits are as given, their difference has more digits than a float32: exp(-gap) would be 4e-6 off."""
    logits = torch.tensor([[gap / 2 + 0.1234567, -gap / 2 - 0.0234567, -gap / 2 - 1.01234567]])
    for complements in (False, True):
        expected = exact_nll(logits[0].tolist(), 0, complements)
        assert label_nll(logits, torch.tensor([0]), complements=complements).item() == pytest.approx(expected, rel=5e-7, abs=0)
    nll, complement_nll, _ = log_probabilities(logits)
    assert nll[0, 0].item() == pytest.approx(exact_nll(logits[0].tolist(), 0, False), rel=3e-7, abs=0)
    assert (nll[0, 0] + complement_nll[0, 1:].sum()).item() == pytest.approx(expected, rel=3e-7, abs=0)


@pytest.mark.parametrize("complements", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 30.0, 100.0])
def test_gradients_are_exact(scale: float, classes: int, complements: bool) -> None:
    """Within 1e-5 of the largest of each row, however small that is, for both ways to compute them."""
    logits, target = random_logits(scale, classes=classes)
    expected = torch.tensor(
        [exact_gradient(row, int(t), complements) for row, t in zip(logits.tolist(), target, strict=True)], dtype=torch.float64
    )
    leaf = logits.clone().requires_grad_()
    rows = by_terms(leaf, target, complements)
    for found in (gradient(logits, target, complements), torch.autograd.grad(rows.sum(), leaf)[0]):
        size = expected.abs().amax(1, keepdim=True).clamp(min=1e-32)
        assert ((found - expected).abs() / size).max() < 1e-5
    double = gradient(logits.double(), target, complements)
    torch.testing.assert_close(double, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1e2, 1e4, 6e4])
def test_gradients_are_finite_and_bounded(scale: float, dtype: torch.dtype) -> None:
    logits, target = random_logits(scale)
    logits = logits.clamp(-6.5e4, 6.5e4).to(dtype)
    for complements, bound in ((False, 1.0), (True, 2.0)):
        found = gradient(logits, target, complements)
        assert found.dtype == dtype
        assert found.isfinite().all()
        assert found.abs().max() <= bound * (1 + 1e-6)


def test_the_largest_floats_give_finite_values() -> None:
    for dtype in (torch.float32, torch.float64):
        huge = torch.finfo(dtype).max
        logits = torch.tensor([[huge, 0.0, -huge], [0.0, -huge, -huge], [huge, huge, huge]], dtype=dtype)
        for label in range(3):
            for complements in (False, True):
                target = torch.full((3,), label)
                assert not label_nll(logits, target, complements=complements).isnan().any()
                assert gradient(logits, target, complements).isfinite().all()


def test_ties() -> None:
    """Equal logits have equal values and gradients, whichever of them is taken as the top."""
    logits = torch.tensor([[4.0, 4.0, 1.0], [4.0, 4.0, 4.0]])
    for complements in (False, True):
        values = [label_nll(logits, torch.tensor([k, k]), complements=complements) for k in range(3)]
        torch.testing.assert_close(values[0], values[1], rtol=0, atol=3e-7)
        assert values[0][1] == pytest.approx(exact_nll([4.0] * 3, 0, complements), rel=3e-7)
        grads = [gradient(logits, torch.tensor([k, k]), complements) for k in range(2)]
        torch.testing.assert_close(grads[0][:, [1, 0, 2]], grads[1])


def test_masked_classes() -> None:
    """-inf: p = 0, its complement costs 0, its gradient is 0; the other classes give what they give without it."""
    logits, target = random_logits(5.0, rows=12, classes=6)
    target = target % 4
    masked = torch.cat([logits[:, :4], torch.full((12, 2), -torch.inf)], 1)
    for complements in (False, True):
        torch.testing.assert_close(
            label_nll(masked, target, complements=complements), label_nll(logits[:, :4], target, complements=complements)
        )
        found = gradient(masked, target, complements)
        assert (found[:, 4:] == 0).all()
        torch.testing.assert_close(found[:, :4], gradient(logits[:, :4], target, complements))
    nll, complement_nll, _ = log_probabilities(masked)
    assert (nll[:, 4:] == torch.inf).all()
    assert (complement_nll[:, 4:] == 0).all()
    single = torch.tensor([[-torch.inf, 2.0, -torch.inf]])
    for complements in (False, True):
        assert label_nll(single, torch.tensor([1]), complements=complements).item() == 0.0
        assert label_nll(single, torch.tensor([0]), complements=complements).item() == torch.inf
        assert gradient(single, torch.tensor([1]), complements).tolist() == [[0.0, 0.0, 0.0]]


def test_one_class() -> None:
    for complements in (False, True):
        assert label_nll(torch.tensor([[3.0]]), torch.tensor([0]), complements=complements).item() == 0.0
        assert gradient(torch.tensor([[3.0]]), torch.tensor([0]), complements).item() == 0.0


def test_every_other_class_masked_has_a_gradient() -> None:
    """The same for the sum of terms, which differentiates `log T` of an empty sum, and for a single class."""
    for logits in (torch.tensor([[-torch.inf, 2.0, -torch.inf]]), torch.tensor([[2.0]])):
        leaf = logits.requires_grad_()
        nll, _, _ = log_probabilities(leaf)
        top = int(logits.argmax())
        assert nll[0, top].item() == 0.0
        assert torch.autograd.grad(nll[0, top], leaf)[0].tolist() == [[0.0] * logits.shape[1]]
        value, complement_nll, _ = log_probabilities(leaf)
        (grad,) = torch.autograd.grad(value[0, top] + complement_nll[0, :top].sum(), leaf)
        assert grad.isfinite().all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_non_finite_logits_affect_their_own_row_only(bad: float) -> None:
    """NaN, +inf, or nothing but -inf: NaN for that row, whatever its label; the other rows are unchanged."""
    logits, target = random_logits(3.0, rows=6, classes=4)
    broken = logits.clone()
    broken[2] = -torch.inf if bad == -torch.inf else broken[2]
    broken[2, 1] = bad
    rest = [0, 1, 3, 4, 5]
    for complements in (False, True):
        for label in range(4):
            target[2] = label
            values, clean = (label_nll(z, target, complements=complements) for z in (broken, logits))
            assert values[2].isnan()
            assert torch.equal(values[rest], clean[rest])
            found = gradient(broken, target, complements)
            assert found[2].isnan().any()
            assert torch.equal(found[rest], gradient(logits, target, complements)[rest])
    nll, complement_nll, d = log_probabilities(broken)
    assert nll[2].isnan().all()
    assert complement_nll[2].isnan().all()
    assert d[2].isnan()


@pytest.mark.parametrize("complements", [False, True])
def test_first_and_second_derivatives(complements: bool) -> None:
    logits = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    target = torch.arange(6) % 5
    assert torch.autograd.gradcheck(lambda z: label_nll(z, target, complements=complements), (logits,))
    assert torch.autograd.gradgradcheck(lambda z: label_nll(z, target, complements=complements), (logits,))
    assert torch.autograd.gradcheck(log_probabilities, (logits,))
    assert torch.autograd.gradgradcheck(log_probabilities, (logits,))


def test_chunk_size_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_rows, "SMALL", 0)
    logits, target = random_logits(3.0, rows=7, classes=30)
    for complements in (False, True):
        values, found = label_nll(logits, target, complements=complements), gradient(logits, target, complements)
        for elements in (1, 70, 10_000):
            monkeypatch.setattr(module, "CHUNK_ELEMENTS", elements)
            assert torch.equal(label_nll(logits, target, complements=complements), values)
            assert torch.equal(gradient(logits, target, complements), found)


def test_margin_does_not_saturate() -> None:
    logits = torch.tensor([[0.0, 0.0], [20.0, 0.0], [100.0, 0.0]])
    torch.testing.assert_close(margin(logits), torch.tensor([0.0, 20.0, 100.0]))
    assert logits.softmax(1).amax(1).tolist()[1:] == [1.0, 1.0]
    assert margin(torch.tensor([[-torch.inf, 2.0, -torch.inf]])).tolist() == [torch.inf]
    wide = torch.zeros(1, 5)
    assert margin(wide).item() == pytest.approx(-math.log(4))
