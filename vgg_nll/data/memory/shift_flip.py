"""Shifts, flips and cutout of a batch of uint8 images, each by its own draw."""

import torch
import torch.nn.functional as F
from torch import Tensor


def random_shift(images: Tensor, max_pixels: int, generator: torch.Generator) -> Tensor:
    """Shifts each image of [B, 3, H, W] by up to `max_pixels` along each axis; the border that appears is black.

    The usual "pad and crop" of CIFAR recipes. Draws are made on the CPU, so they are the same for every device.
    """
    if max_pixels == 0:
        return images
    batch, _, height, width = images.shape
    padded = F.pad(images, (max_pixels,) * 4)
    offsets = torch.randint(0, 2 * max_pixels + 1, (2, batch), generator=generator).to(images.device, non_blocking=True)
    rows = offsets[0, :, None] + torch.arange(height, device=images.device)  # [B, H]
    columns = offsets[1, :, None] + torch.arange(width, device=images.device)  # [B, W]
    image = torch.arange(batch, device=images.device)
    shifted = padded.permute(0, 2, 3, 1)[image[:, None, None], rows[:, :, None], columns[:, None, :]]  # [B, H, W, 3]
    return shifted.permute(0, 3, 1, 2)


def random_horizontal_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirrors each image of [B, 3, H, W] left to right with probability 1/2."""
    flip = torch.rand(len(images), generator=generator).to(images.device, non_blocking=True) < 0.5
    return torch.where(flip[:, None, None, None], images.flip(3), images)


def cutout(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Paints a black square of `size` pixels at a random place of each image [B, 3, H, W] or its edge (arXiv:1708.04552)."""
    if size == 0:
        return images
    batch, _, height, width = images.shape
    centres = torch.rand(2, batch, 1, generator=generator).to(images.device, non_blocking=True)
    inside = []
    for centre, length in zip(centres, (height, width), strict=True):
        first = (centre * length).long() - size // 2  # [B, 1]
        position = torch.arange(length, device=images.device)
        inside.append((position >= first) & (position < first + size))  # [B, length]
    return images * ~(inside[0][:, :, None] & inside[1][:, None, :])[:, None]  # `masked_fill` would change the layout
