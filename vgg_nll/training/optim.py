"""What an optimizer is given: parameter groups, the learning rate as a function of the step, and the average of the weights."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vgg_nll.model import VGG16


def param_groups(model: VGG16, backbone_lr_scale: float = 1.0) -> list[dict[str, Any]]:
    """Returns the parameters that are trained, in two groups: weights, and what has no weight decay: biases and batch norm.

    Args:
        backbone_lr_scale: factor of the learning rate for the backbone, the layers before the head, which get two groups
            of their own unless it is 1.
    """
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    backbone = [p for name, p in trained if backbone_lr_scale != 1 and name.startswith(model.backbone_prefix)]
    ids = {id(p) for p in backbone}
    head = [p for _, p in trained if id(p) not in ids]
    groups: list[dict[str, Any]] = []
    for parameters, scale in ((head, 1.0), (backbone, backbone_lr_scale)):
        weights, others = [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() <= 1]
        groups += [{"params": weights, "lr_scale": scale}, {"params": others, "lr_scale": scale, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


Decay = Callable[[float], float]


def cosine_decay(progress: float, *, final_factor: float = 0.0) -> float:
    """Returns half a cosine from 1 to `final_factor`; `progress` in [0, 1]."""
    return final_factor + (1 - final_factor) * (1 + math.cos(math.pi * progress)) / 2


def linear_decay(progress: float, *, final_factor: float = 0.0) -> float:
    """Returns a straight line from 1 to `final_factor`; `progress` in [0, 1]."""
    return 1 - (1 - final_factor) * progress


def step_decay(progress: float, *, milestones: tuple[float, ...] = (1 / 3, 2 / 3), factor: float = 0.1) -> float:
    """Returns 1 times `factor` for each milestone passed; milestones are fractions of the run in (0, 1)."""
    return factor ** sum(progress >= milestone for milestone in milestones)


def no_decay(progress: float) -> float:
    """Returns 1."""
    return 1.0


@dataclass(frozen=True)
class Schedule:
    """Maps a step to the factor of the learning rate: a linear warm-up over `warmup_steps`, then `decay` over the rest.

    The first step has the factor 1/warmup_steps; the step after the last one would have `decay(1)`.
    """

    decay: Decay
    total_steps: int
    warmup_steps: int = 0

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        rest = max(1, self.total_steps - self.warmup_steps)
        return self.decay(min(1.0, (step - self.warmup_steps) / rest))


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
