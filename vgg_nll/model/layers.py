"""PyTorch's layers, with a faster or more exact way to the same values."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

SMALL_MAP = 16  # pixels
BUT_CHANNELS = (0, 2, 3)


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


class BatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d(channels)`; on a CPU, in training and in float32, with sums that keep their digits.

    PyTorch's own kernel for channels-last adds all pixels of a channel one after another. The error of those sums is the same
    for every pixel, so it adds up in the gradients of the weights: for VGG-16 and 256 digits they are 3.8 to 4.5% off those in
    float64 (norm of the difference, n = 3); with the sums here 0.2 to 0.7%, with PyTorch's kernel for NCHW 0.02 to 0.4%. That
    costs 5 to 8% of a step on 32x32 images; NCHW would cost 12%. In bfloat16 the rounding of the activations is larger than
    all that, so PyTorch's kernel is used.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float | None

    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        momentum = self.momentum
        if momentum is None or not self._own(images):
            return super().forward(images)  # which also checks the input
        outputs, mean, variance = _BatchNorm.apply(images, self.weight, self.bias, self.eps)
        pixels = images.numel() // self.num_features
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (pixels / (pixels - 1)), momentum)
        self.num_batches_tracked += 1
        return outputs

    def _own(self, images: Tensor) -> bool:
        exact = images.device.type == "cpu" and images.dtype in (torch.float32, torch.float64)
        pixels = images.dim() == 4 and images.shape[1] == self.num_features and images.numel() > self.num_features
        return self.training and exact and pixels and not torch.compiler.is_compiling()


class _BatchNorm(torch.autograd.Function):
    """`(x - mean) / sqrt(variance + eps) * weight + bias`, with the mean and (biased) variance of every channel."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        pixels = images.numel() // images.shape[1]
        mean = images.sum(BUT_CHANNELS, keepdim=True) / pixels
        centred = images - mean
        variance = centred.square().sum(BUT_CHANNELS, keepdim=True) / pixels
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(centred, scale, weight)
        mean, variance = mean.flatten(), variance.flatten()
        ctx.mark_non_differentiable(mean, variance)
        return torch.addcmul(bias[:, None, None], centred, scale * weight[:, None, None]), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        centred, scale, weight = ctx.saved_tensors
        gradient = gradients[0]
        pixels = gradient.numel() // gradient.shape[1]
        of_bias = gradient.sum(BUT_CHANNELS, keepdim=True)
        of_weight = (gradient * centred).sum(BUT_CHANNELS, keepdim=True) * scale
        factor = scale * weight[:, None, None]
        of_images = torch.addcmul(-factor * of_bias / pixels, gradient, factor)
        of_images.addcmul_(centred, -factor * scale * of_weight / pixels)
        return of_images, of_weight.flatten(), of_bias.flatten(), None


class AveragePool(nn.AdaptiveAvgPool2d):
    """`nn.AdaptiveAvgPool2d`; the identity if the map has the size already, as with images of 224 pixels.

    PyTorch has no deterministic gradient of the general case on a GPU.
    """

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, size, size]."""
        return images if images.shape[2:] == (self.output_size, self.output_size) else super().forward(images)
