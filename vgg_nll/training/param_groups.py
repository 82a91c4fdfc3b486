"""Parameter groups for an optimizer."""

from typing import Any

from torch import nn


def param_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Returns two parameter groups: weights, and what has no weight decay: biases and batch norm."""
    weights = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    return [{"params": weights}, {"params": others, "weight_decay": 0.0}]
