"""Temperature scaling: one number that divides the logits of a trained network (arXiv:1706.04599)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vgg_nll.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE

MIN_IMAGES = 100  # for a temperature that is trusted
RISE = 3.841459 / 2  # of the log-likelihood: half the 95% quantile of chi squared with one degree of freedom
TEMPERATURES = tuple(0.1 * 200 ** (k / 40) for k in range(41))  # 0.1 to 20, in steps of 14%


class Scaled(nn.Module):
    """Divides a network's logits by `temperature`: predictions stay, confidence falls as the temperature rises."""

    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = model, temperature
        self.training = model.training  # the same mode as the network

    def forward(self, images: Tensor) -> Tensor:
        """Maps [B, 3, H, W] to logits [B, C] in float64: in float32, two logits that differ may have the same quotient."""
        return self.model(images).double() / self.temperature


class Fitted(NamedTuple):
    """A temperature, its 95% interval, and the number of images that it was fitted to."""

    temperature: float
    low: float
    high: float
    images: int

    def doubt(self) -> str:
        """Returns why this temperature should not be trusted; "" if nothing speaks against it."""
        if self.low <= 1 <= self.high:
            return f"its 95% interval, {self.low:.3g} to {self.high:.3g}, contains 1, which changes nothing"
        return f"it was fitted to {self.images} images, fewer than {MIN_IMAGES}" if self.images < MIN_IMAGES else ""


def fit(logits: Tensor, target: Tensor) -> Fitted:
    """Returns the temperature that minimises the mean of `-(1 - a) log p_t - (a / C) sum_k log p_k`, `a = 1 / (n + 2)`.

    The second term is Laplace's smoothing, as if one image more could be of any class. Without it, the minimum is at T = 0 if
    every image is right. It is in the fit alone: applied, the temperature divides the logits, and nothing else. The loss is
    convex in 1 / T. The interval holds every T whose loss, times n, is at most `RISE` above the least.

    Args:
        logits: [N, C], finite; target: [N].
    """
    from scipy.optimize import brentq  # takes as long to load as a small run's validation

    below_top, of_target = _below_top(logits, target)
    images = len(target)

    def loss(logarithm: float) -> float:
        inverse = math.exp(-logarithm)
        return images * (float(torch.logsumexp(inverse * below_top, dim=1).mean()) - inverse * of_target)

    low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    best = _minimum(below_top, of_target)
    limit = loss(math.log(best)) + RISE

    def end(bound: float) -> float:
        return bound if loss(bound) <= limit else brentq(lambda logarithm: loss(logarithm) - limit, math.log(best), bound)

    least, most = (min(max(math.exp(end(bound)), MIN_TEMPERATURE), MAX_TEMPERATURE) for bound in (low, high))
    return Fitted(best, least, most, images)


def fit_without_interval(logits: Tensor, target: Tensor) -> float:
    """Returns the temperature of `fit`, in a quarter of its time. Arguments are those of `fit`."""
    return _minimum(*_below_top(logits, target))


def _below_top(logits: Tensor, target: Tensor) -> tuple[Tensor, float]:
    """Returns the logits less the largest of their row, in float64, and their mean under the smoothed target."""
    smoothing = 1 / (len(target) + 2)
    below_top = logits.double() - logits.double().amax(dim=1, keepdim=True)
    of_target = below_top.gather(1, target[:, None]).mean().lerp(below_top.mean(), smoothing)
    return below_top, float(of_target)


def _minimum(below_top: Tensor, of_target: float) -> float:
    """Returns the zero of the derivative of the smoothed loss by 1 / T, which is `mean_i sum_k p_ik z_ik - of_target`."""
    from scipy.optimize import brentq

    def slope(logarithm: float) -> float:
        probabilities = torch.softmax(math.exp(-logarithm) * below_top, dim=1)
        return float((probabilities * below_top).sum(dim=1).mean()) - of_target

    low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    if slope(high) >= 0:  # also for equal logits, which have no zero
        return MAX_TEMPERATURE
    if slope(low) <= 0:
        return MIN_TEMPERATURE
    return min(max(math.exp(brentq(slope, low, high, xtol=1e-12)), MIN_TEMPERATURE), MAX_TEMPERATURE)


def nll_at_temperatures(logits: Tensor, label: Tensor) -> Tensor:
    """Returns the sums over a batch [T] of `-log p_t` of `softmax(z / T)`, for each of `TEMPERATURES`.

    Args:
        logits: [B, C], float64; label: [B, 1].
    """
    # A temperature at a time: [B, C, T] may be large.
    below_top = logits - logits.amax(dim=1, keepdim=True)
    of_label = below_top.gather(1, label)[:, 0]
    return torch.stack([(torch.logsumexp(below_top / t, dim=1) - of_label / t).sum() for t in TEMPERATURES])
