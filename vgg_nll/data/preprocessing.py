"""What a network takes: pictures of one size as bytes, normalised; the same in training, evaluation and prediction."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from vgg_nll.data.decoding import read_picture


class Preprocessing:
    """Picture -> bytes -> floats, and back.

    Args:
        image_size: of what the network takes, square.
        resize: length of a picture's shorter side before its middle is cut out.
        mean, std: per channel, of pixels scaled to [0, 1].
    """

    def __init__(self, image_size: int, resize: int, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self.image_size, self.resize = image_size, resize
        self.mean, self.std = torch.tensor(mean, device=device), torch.tensor(std, device=device)
        self.transform = v2.Compose([v2.Resize(resize), v2.CenterCrop(image_size)])

    def to_dict(self) -> dict[str, Any]:
        """The arguments that make it, but for the device."""
        return {
            "image_size": self.image_size,
            "resize": self.resize,
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
        }

    def read(self, path: Path) -> Tensor:
        """A picture file -> uint8 [3, H, W]. Raises DataError that names the file where it cannot be read."""
        return self.transform(read_picture(path, self.image_size))

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] in 0..255 -> float32 `(x / 255 - mean) / std`, channels-last in memory."""
        rows = images.permute(0, 2, 3, 1).flatten(2)  # [B, H, 3 W]: PyTorch is slow where the last dimension is 3 channels
        scale, offset = (per_channel.repeat(images.shape[3]) for per_channel in (1 / (255 * self.std), self.mean / self.std))
        return rows.to(torch.float32, copy=True).mul_(scale).sub_(offset).unflatten(2, (images.shape[3], 3)).permute(0, 3, 1, 2)

    def pixels(self, images: Tensor) -> Tensor:
        """What `normalise` has made, as uint8 again."""
        scaled = (images * self.std[:, None, None] + self.mean[:, None, None]) * 255
        return scaled.nan_to_num().round().clamp(0, 255).to(torch.uint8)
