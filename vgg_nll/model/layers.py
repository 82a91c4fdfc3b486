"""PyTorch's layers, with a faster or more exact way to the same values."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

SMALL_MAP = 16  # pixels


class Conv3x3(nn.Conv2d):
    """`nn.Conv2d(inputs, outputs, 3, padding=1)`; on a CPU, and not compiled, one matrix product if the map has few pixels.

    The convolutions of PyTorch's CPU library are slow on maps of 2x2 and 4x4, those of the last six layers of a 32x32 image:
    gathering the nine neighbours of every pixel costs little there, and the rest is a plain product. (`torch.compile` takes
    more than ten minutes for that.)
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        batch, _, height, width = images.shape
        if height * width > SMALL_MAP or images.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(images)
        outputs = F.linear(_Neighbours.apply(images), self.weight.permute(0, 2, 3, 1).flatten(1), self.bias)
        return outputs.view(batch, height, width, -1).permute(0, 3, 1, 2)


class _Neighbours(torch.autograd.Function):
    """Maps [B, C, H, W] to [B * H * W, 9 C]: the 3x3 pixels around each pixel, zeros outside.

    It has a gradient of its own: autograd would fill and copy a whole map for each of the nine slices.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        ctx.shape = images.shape
        _, channels, height, width = images.shape
        padded = F.pad(images.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))  # [B, H + 2, W + 2, C]
        shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
        return torch.cat(shifted, dim=3).view(-1, 9 * channels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        batch, channels, height, width = ctx.shape
        gradient = gradients[0].view(batch, height, width, 9, channels)
        padded = gradient.new_zeros(batch, height + 2, width + 2, channels)
        for k in range(9):
            i, j = divmod(k, 3)
            padded[:, i : i + height, j : j + width] += gradient[:, :, :, k]
        return padded[:, 1:-1, 1:-1].permute(0, 3, 1, 2)


class AveragePool(nn.AdaptiveAvgPool2d):
    """`nn.AdaptiveAvgPool2d`; the identity if the map already has the output size, as for images of 224 pixels.

    The identity has a deterministic gradient on a GPU; PyTorch has none for the general case.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Maps [B, C, H, W] to [B, C, size, size]."""
        return images if images.shape[2:] == (self.output_size, self.output_size) else super().forward(images)
