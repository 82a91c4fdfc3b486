"""The temperature against the zero of the loss's derivative, and what it leaves alone."""

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import log_softmax, softmax
from torch import nn

from vgg_nll.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE
from vgg_nll.calibration.temperature import Fitted, Scaled, fit, fit_without_interval


@pytest.mark.parametrize("scale", [0.2, 1.0, 3.0, 12.0])
def test_fit_is_the_minimum(scale: float) -> None:
    draw = torch.Generator().manual_seed(0)
    target = torch.randint(5, (400,), generator=draw)
    logits = torch.randn(400, 5, generator=draw)
    logits[range(400), target] += 1
    logits = scale * logits

    z = logits.double().numpy()

    def derivative(inverse: float) -> float:
        """Of the mean loss by 1/T: the expected logit less that of the label, which is any one in one of 402 images."""
        of_label = 401 / 402 * z[range(400), target.numpy()].mean() + z.mean() / 402
        return float((softmax(z * inverse, axis=1) * z).sum(1).mean() - of_label)

    expected = 1 / brentq(derivative, 1e-3, 1e3, xtol=1e-14, rtol=1e-12)
    found = fit(logits, target)
    assert found.temperature == fit_without_interval(logits, target) == pytest.approx(expected, rel=1e-9)
    assert fit(logits.half(), target).temperature == pytest.approx(expected, rel=1e-2)
    assert found.low < found.temperature < found.high and found.images == 400
    for end in (found.low, found.high):  # where twice the difference of the log-likelihoods is 3.84
        rise = smoothed(z, target.numpy(), end) - smoothed(z, target.numpy(), found.temperature)
        assert 2 * rise == pytest.approx(3.8415, rel=1e-3)


def smoothed(z: np.ndarray, target: np.ndarray, temperature: float) -> float:
    """The sum of the smoothed loss over all images."""
    n, classes = z.shape
    log_p = log_softmax(z / temperature, axis=1)
    return float(-(1 - 1 / (n + 2)) * log_p[range(n), target].sum() - log_p.sum() / (n + 2) / classes)


def test_the_interval_covers() -> None:
    """Labels drawn from the outputs at T = 2: 19 of 20 intervals hold it; 60 draws, so 50 of them or more."""
    draw, inside = torch.Generator().manual_seed(0), 0
    for _ in range(60):
        logits = 4 * torch.randn(150, 4, generator=draw)
        target = torch.multinomial((logits / 2).softmax(1), 1, generator=draw).squeeze(1)
        found = fit(logits, target)
        inside += found.low <= 2 <= found.high
    assert 53 <= inside <= 60


@pytest.mark.parametrize("images", [4, 13, 400])
def test_all_right_has_a_temperature(images: int) -> None:
    """Without smoothing it would be 0. With it, one image in n + 2 is expected to be wrong."""
    logits = 3 * torch.eye(4).repeat(images // 4 + 1, 1)[:images]
    right = torch.arange(images) % 4
    found = fit(logits, right)
    wrong = 1 - float((logits / found.temperature).softmax(1)[range(images), right].mean())
    assert wrong == pytest.approx(0.75 / (images + 2), rel=1e-3)
    assert fit(logits, (right + 1) % 4).temperature > 50


@pytest.mark.parametrize(("scale", "expected"), [(1e-3, MIN_TEMPERATURE), (-1e3, MAX_TEMPERATURE), (0.0, MAX_TEMPERATURE)])
def test_a_temperature_has_bounds(scale: float, expected: float) -> None:
    """All right and not confident, all wrong, and equal logits, which no temperature changes."""
    logits, label = scale * torch.eye(3).repeat(20, 1), torch.arange(60) % 3
    assert fit(logits, label).temperature == fit_without_interval(logits, label) == expected


@pytest.mark.parametrize(
    ("fitted", "words"),
    [
        (Fitted(1.1, 0.9, 1.4, 5000), "contains 1"),
        (Fitted(1.5, 1.2, 1.9, 99), "fitted to 99 images, fewer than 100"),
        (Fitted(1.5, 1.2, 1.9, 100), ""),
        (Fitted(0.5, 0.4, 0.9, 100), ""),
    ],
)
def test_when_a_temperature_is_doubted(fitted: Fitted, words: str) -> None:
    assert words in fitted.doubt() and bool(words) == bool(fitted.doubt())


def test_scaled_divides_the_logits() -> None:
    model = nn.Flatten()
    images = torch.arange(12.0).view(1, 3, 2, 2)
    assert torch.equal(Scaled(model, 2.0)(images), images.view(1, 12) / 2)
