"""What a network consists of, and how much there is to compute in it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Layer:
    """One layer of a network: its name, its kind, the shape of what it gives for one image, and its parameters."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int


def flops_per_image(model: nn.Module, image_size: int) -> float:
    """Floating-point operations of one training step per image: three forward passes' worth, two per multiply-add."""
    counter = FlopCounterMode(display=False)
    was_training = model.training
    device = next(model.parameters()).device
    with torch.inference_mode(), counter:
        model.eval()(torch.zeros(1, 3, image_size, image_size, device=device))
    model.train(was_training)
    return 3.0 * counter.get_total_flops()


def layers(model: nn.Module, image_size: int) -> list[Layer]:
    """The layers of a network in the order in which an image goes through them."""
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
