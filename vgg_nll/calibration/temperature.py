"""Temperature scaling: one number that divides the logits of a trained network (arXiv:1706.04599)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vgg_nll.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE
from vgg_nll.losses import argmax_nll

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
    from scipy.optimize import brentq, minimize_scalar  # takes as long to load as a small run's validation

    logits, images = logits.double(), len(target)
    smoothing = 1 / (images + 2)

    def loss(logarithm: float) -> float:
        return images * float(argmax_nll(logits * math.exp(-logarithm), target, label_smoothing=smoothing))

    low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-9})
    limit = found.fun + RISE

    def end(bound: float) -> float:
        return bound if loss(bound) <= limit else brentq(lambda logarithm: loss(logarithm) - limit, found.x, bound)

    least, best, most = (min(max(math.exp(x), MIN_TEMPERATURE), MAX_TEMPERATURE) for x in (end(low), found.x, end(high)))
    return Fitted(best, least, most, images)


def nll_at_temperatures(logits: Tensor, label: Tensor) -> Tensor:
    """Returns the sums over a batch [T] of `-log p_t` of `softmax(z / T)`, for each of `TEMPERATURES`.

    Args:
        logits: [B, C], float64; label: [B, 1].
    """
    # A temperature at a time: [B, C, T] may be large.
    below_top = logits - logits.amax(dim=1, keepdim=True)
    of_label = below_top.gather(1, label)[:, 0]
    return torch.stack([(torch.logsumexp(below_top / t, dim=1) - of_label / t).sum() for t in TEMPERATURES])
