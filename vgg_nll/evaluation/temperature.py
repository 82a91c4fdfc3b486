"""Temperature scaling: one number that divides the logits of a trained network (arXiv:1706.04599)."""

import math

import torch
from torch import Tensor, nn

from vgg_nll.losses import argmax_nll

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100.0


class Scaled(nn.Module):
    """Divides a network's logits by `temperature`: predictions stay, confidence falls as the temperature rises."""

    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = model, temperature
        self.training = model.training  # a part of it, not a mode of its own

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, C]."""
        return self.model(images) / self.temperature


def fit(logits: Tensor, target: Tensor) -> float:
    """Returns the temperature that minimises the mean of `-log p_t`, found by LBFGS on its logarithm.

    Bounded to [MIN_TEMPERATURE, MAX_TEMPERATURE]: if every image is right (or wrong), the minimum is at 0 (or infinity).

    Args:
        logits: [N, C]; target: [N].
    """
    logits = logits.double()
    logarithm = torch.zeros((), dtype=torch.float64, device=logits.device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [logarithm], max_iter=100, tolerance_grad=1e-12, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )
    low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = argmax_nll(logits * torch.exp(-logarithm.clamp(low, high)), target)
        loss.backward()
        return loss

    optimizer.step(closure)
    return math.exp(min(high, max(low, float(logarithm.detach()))))
