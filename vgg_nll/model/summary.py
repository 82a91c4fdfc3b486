"""Model summary: the layers of a network, and its floating-point operations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Layer:
    """One layer of a network: its name, its kind, the shape of its output for one image, and the number of its parameters."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int


def flops_per_image(model: nn.Module, image_size: int) -> float:
    """Returns the floating-point operations of a training step per image: three forward passes, two a multiply-add."""
    counter = FlopCounterMode(display=False)
    was_training = model.training
    device = next(model.parameters()).device
    with torch.inference_mode(), counter:
        model.eval()(torch.zeros(1, 3, image_size, image_size, device=device))
    model.train(was_training)
    return 3.0 * counter.get_total_flops()


def layers(model: nn.Module, image_size: int) -> list[Layer]:
    """Returns the layers of a network in the order of its forward pass."""
    found: list[Layer] = []

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, _: Any, output: torch.Tensor) -> None:
            parameters = sum(p.numel() for p in module.parameters())
            found.append(Layer(name, type(module).__name__, tuple(output.shape[1:]), parameters))

        return hook

    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    hooks = [module.register_forward_hook(note(name)) for name, module in leaves]
    was_training = model.training
    with torch.inference_mode():
        model.eval()(torch.zeros(1, 3, image_size, image_size, device=next(model.parameters()).device))
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    return found
