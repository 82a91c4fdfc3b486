"""Temperature scaling: one number that divides the logits of a trained network (arXiv:1706.04599)."""

import math

from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from vgg_nll.losses import argmax_nll
from vgg_nll.run_folder.paths import MAX_TEMPERATURE, MIN_TEMPERATURE


class Scaled(nn.Module):
    """Divides a network's logits by `temperature`: predictions stay, confidence falls as the temperature rises."""

    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = model, temperature
        self.training = model.training  # the same mode as the network

    def forward(self, images: Tensor) -> Tensor:
        """Maps [B, 3, H, W] to logits [B, C] in float64: in float32, two logits that differ may have the same quotient."""
        return self.model(images).double() / self.temperature


def fit(logits: Tensor, target: Tensor) -> float:
    """Returns the temperature that minimises the mean of `-log p_t`, which has one minimum over the logarithm of T.

    Bounded to [MIN_TEMPERATURE, MAX_TEMPERATURE]: if every image is right (or wrong), the minimum is at 0 (or infinity).

    Args:
        logits: [N, C]; target: [N].
    """
    logits = logits.double()

    def loss(logarithm: float) -> float:
        return float(argmax_nll(logits * math.exp(-logarithm), target))

    bounds = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-9}).x)
