"""Augmentation of a whole batch of uint8 images, each image by its own draw."""

import torch
from torch import Tensor


def random_shift(images: Tensor, max_pixels: int, generator: torch.Generator) -> Tensor:
    """Each image of [B, 3, H, W] moved by up to `max_pixels` along each axis; what comes in is black.

    The usual "pad and crop" of CIFAR recipes. Draws are made on the CPU, so they are the same for every device.
    """
    if max_pixels == 0:
        return images
    batch, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (max_pixels,) * 4)
    offsets = torch.randint(0, 2 * max_pixels + 1, (2, batch), generator=generator).to(images.device, non_blocking=True)
    rows = offsets[0, :, None] + torch.arange(height, device=images.device)  # [B, H]
    columns = offsets[1, :, None] + torch.arange(width, device=images.device)  # [B, W]
    image = torch.arange(batch, device=images.device)
    shifted = padded.permute(0, 2, 3, 1)[image[:, None, None], rows[:, :, None], columns[:, None, :]]  # [B, H, W, 3]
    return shifted.permute(0, 3, 1, 2)


def random_horizontal_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image of [B, 3, H, W] mirrored left to right with probability 1/2."""
    flip = torch.rand(len(images), generator=generator).to(images.device, non_blocking=True) < 0.5
    return torch.where(flip[:, None, None, None], images.flip(3), images)


def cutout(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Each image of [B, 3, H, W] with a black square of `size` pixels at a random place, edges included (arXiv:1708.04552)."""
    if size == 0:
        return images
    batch, _, height, width = images.shape
    centres = torch.rand(2, batch, 1, generator=generator).to(images.device, non_blocking=True)
    inside = []
    for centre, length in zip(centres, (height, width), strict=True):
        first = (centre * length).long() - size // 2  # [B, 1]
        position = torch.arange(length, device=images.device)
        inside.append((position >= first) & (position < first + size))  # [B, length]
    return images.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0)
