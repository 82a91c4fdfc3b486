"""The exponential moving average of the weights (EMA), which takes their place in evaluation, in best.pt, and in exports."""

import copy

import torch
from torch import nn


def make_average(model: nn.Module, decay: float) -> nn.Module | None:
    """Returns a copy of the network for its average; None for a decay of 0."""
    return copy.deepcopy(model).requires_grad_(False) if decay > 0 else None


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Moves the average towards the weights: `d average + (1 - d) weights` with `d = min(decay, (1 + step) / (10 + step))`.

    d begins small, so the untrained weights are soon forgotten (TensorFlow's ExponentialMovingAverage has the same start).
    Batch norm's mean and variance are averages already, and are copied. It costs a pass over the weights, and their memory.

    Args:
        step: optimizer steps done before this one.
    """
    share = 1 - min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), share)
    for mine, theirs in zip(average.buffers(), model.buffers(), strict=True):
        mine.copy_(theirs)
