"""Temperature scaling: one number that divides the logits of a trained network (arXiv:1706.04599)."""

import math

import torch
from torch import Tensor, nn

from vgg_nll.losses import argmax_nll

LEAST, MOST = 0.01, 100.0


class Scaled(nn.Module):
    """A network whose logits are divided by `temperature`; its predictions stay, its confidence falls as it rises."""

    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = model, temperature
        self.training = model.training  # a part of it, not a mode of its own

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, C]."""
        return self.model(images) / self.temperature


def fit(logits: Tensor, target: Tensor) -> float:
    """The temperature at which the mean of `-log p_t` is least, found by LBFGS on its logarithm.

    Bounded to [LEAST, MOST]: where every image is right (or wrong), the least is at 0 (or infinity).

    Args:
        logits: [N, C]; target: [N].
    """
    logits = logits.double()
    logarithm = torch.zeros((), dtype=torch.float64, device=logits.device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [logarithm], max_iter=100, tolerance_grad=1e-12, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )
    least, most = math.log(LEAST), math.log(MOST)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = argmax_nll(logits * torch.exp(-logarithm.clamp(least, most)), target)
        loss.backward()
        return loss

    optimizer.step(closure)
    return math.exp(min(most, max(least, float(logarithm.detach()))))
