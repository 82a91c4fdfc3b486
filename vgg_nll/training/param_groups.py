"""Parameter groups for an optimizer."""

from typing import Any

from torch import nn


def param_groups(model: nn.Module, backbone_lr_scale: float = 1.0) -> list[dict[str, Any]]:
    """Returns the parameters that are trained, in two groups: weights, and what has no weight decay: biases and batch norm.

    Args:
        backbone_lr_scale: factor of the learning rate for the layers before the head, `features.*`, which get two groups of
            their own unless it is 1.
    """
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    backbone = [p for name, p in trained if name.startswith("features.") and backbone_lr_scale != 1]
    ids = {id(p) for p in backbone}
    head = [p for _, p in trained if id(p) not in ids]
    groups: list[dict[str, Any]] = []
    for parameters, scale in ((head, 1.0), (backbone, backbone_lr_scale)):
        weights, others = [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() <= 1]
        groups += [{"params": weights, "lr_scale": scale}, {"params": others, "lr_scale": scale, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
