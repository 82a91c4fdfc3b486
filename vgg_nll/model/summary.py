"""Model summary: the layers of a network, and its floating-point operations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Layer:
    """One layer of a network: its names, its kind, the shape of its output for one image, and the number of its parameters."""

    name: str  # of the module: features.0
    title: str  # in the paper: conv1_1
    block: str  # conv1, ..., classifier
    kind: str
    shape: tuple[int, ...]
    parameters: int


def flops_per_image(model: nn.Module, image_size: int, *, head_alone: bool = False) -> float:
    """Returns the floating-point operations of a training step per image: three forward passes, two a multiply-add.

    Args:
        head_alone: whether only the linear layers run.
    """
    if head_alone:
        return 6.0 * sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear))
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
    titles = _Titles(sum(isinstance(module, nn.Linear) for module in model.modules()))

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, _: Any, output: torch.Tensor) -> None:
            parameters = sum(p.numel() for p in module.parameters())
            block, title = titles.of(module)
            found.append(Layer(name, title, block, type(module).__name__, tuple(output.shape[1:]), parameters))

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


class _Titles:
    """Names layers as the paper's authors do, in the order of the forward pass: conv1_1, relu1_1, ..., pool5, fc6, fc7, fc8.

    Args:
        linear_layers: of the whole network; a single one is just fc.
    """

    def __init__(self, linear_layers: int) -> None:
        self._has_one = linear_layers == 1
        self._block, self._conv, self._linear = 1, 0, 0
        self._last = ""  # the number of the last convolution or linear layer
        self._has_pooled = False

    def of(self, module: nn.Module) -> tuple[str, str]:
        """Returns the block and the title of the next layer."""
        if isinstance(module, nn.Conv2d):
            if self._has_pooled:
                self._block, self._conv, self._has_pooled = self._block + 1, 0, False
            self._conv += 1
            self._last = f"{self._block}_{self._conv}"
            return f"conv{self._block}", f"conv{self._last}"
        if isinstance(module, nn.MaxPool2d):
            self._has_pooled = True
            return f"conv{self._block}", f"pool{self._block}"
        if isinstance(module, nn.Linear):
            self._linear += 1
            self._last = "" if self._has_one else str(self._block + self._linear)
            return "classifier", f"fc{self._last}"
        kinds = {nn.ReLU: "relu", nn.BatchNorm2d: "bn", nn.Dropout: "drop"}
        kind = next((title for base, title in kinds.items() if isinstance(module, base)), "avgpool")
        block = f"conv{self._block}" if self._linear == 0 and kind != "avgpool" else "classifier"
        return block, kind + (self._last if kind != "avgpool" else "")
