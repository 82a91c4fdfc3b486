"""The temperature against the zero of the loss's derivative, and what it leaves alone."""

import pytest
import torch
from scipy.optimize import brentq
from scipy.special import softmax
from torch import nn

from vgg_nll.evaluation.temperature import Scaled, fit


@pytest.mark.parametrize("scale", [0.2, 1.0, 3.0, 12.0])
def test_fit_is_the_minimum(scale: float) -> None:
    draw = torch.Generator().manual_seed(0)
    target = torch.randint(5, (400,), generator=draw)
    logits = torch.randn(400, 5, generator=draw)
    logits[range(400), target] += 1
    logits = scale * logits

    z = logits.double().numpy()

    def derivative(inverse: float) -> float:
        """Of the mean of `-log p_t` by 1/T: the expected logit less that of the label."""
        return float((softmax(z * inverse, axis=1) * z).sum(1).mean() - z[range(400), target.numpy()].mean())

    expected = 1 / brentq(derivative, 1e-3, 1e3, xtol=1e-14, rtol=1e-12)
    assert fit(logits, target) == pytest.approx(expected, rel=1e-5)
    assert fit(logits.half(), target) == pytest.approx(expected, rel=1e-2)


def test_all_right_is_bounded() -> None:
    logits = 3 * torch.eye(4)
    assert 0.01 <= fit(logits, torch.arange(4)) < 0.5
    assert 2 < fit(logits, (torch.arange(4) + 1) % 4) <= 100


def test_scaled_divides_the_logits() -> None:
    model = nn.Flatten()
    images = torch.arange(12.0).view(1, 3, 2, 2)
    assert torch.equal(Scaled(model, 2.0)(images), images.view(1, 12) / 2)
