"""Test-time flip: the mean of what a network says of an image and of its mirror image."""

import math

import torch
from torch import Tensor, nn


class FlipAveraged(nn.Module):
    """Gives the logarithm of the mean of two softmax outputs, of the image and of its mirror image: logits of that mean."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training  # the same mode as the network

    def forward(self, images: Tensor) -> Tensor:
        """Maps [B, 3, H, W] to logits [B, C]."""
        both = torch.stack([self.model(images), self.model(images.flip(3))]).log_softmax(dim=2)
        return torch.logsumexp(both, dim=0) - math.log(2)
