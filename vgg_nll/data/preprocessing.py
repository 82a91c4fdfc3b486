"""Preprocessing: pictures of one size as bytes, then normalised; the same in training, evaluation and prediction."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

MIN_SIZE, MAX_SIZE = 32, 1 << 13
MAX_MEGAPIXELS = 179.0  # of a picture that is decoded whole
MAX_WHITE = (1 << 32) - 1
MAX_MEAN, MIN_STD = 1e6, 1e-6  # float32 holds the normalised pixels
AUTO = "auto"
FITS = ("crop", "pad", "squash")


class Preprocessing:
    """Maps a picture to bytes of one size, these to floats, and back.

    Args:
        image_size: side of the square that the network takes.
        resize: length of a picture's shorter side before the crop of its middle.
        mean, std: per channel, of pixels scaled to [0, 1].
        white: the number that is white in files of more than 8 bits; None: the largest that they can hold.
        max_megapixels: of a file's picture, as it is decoded.
        fit: how a picture that is no square becomes one: "crop" (its middle), "pad" (black beside it), "squash".

    Raises ValueError for sizes that no network here takes, and for means and deviations that are not 3 finite numbers.
    """

    def __init__(
        self,
        image_size: int,
        resize: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
        white: int | None = None,
        max_megapixels: float = MAX_MEGAPIXELS,
        fit: str = "crop",
    ) -> None:
        are_integers = isinstance(image_size, int) and isinstance(resize, int)
        if not (are_integers and MIN_SIZE <= image_size <= MAX_SIZE and image_size <= resize <= 2 * image_size):
            raise ValueError(
                f"image_size={image_size}, resize={resize}: must be integers, image_size from {MIN_SIZE} to {MAX_SIZE}, "
                "resize from image_size to twice that"
            )
        are_finite = all(len(numbers) == 3 and all(map(math.isfinite, numbers)) for numbers in (mean, std))
        if not are_finite or max(map(abs, mean)) > MAX_MEAN or min(std) < MIN_STD:
            raise ValueError(
                f"mean={mean}, std={std}: must be 3 finite numbers each, of at most {MAX_MEAN:g}, std at least {MIN_STD:g}"
            )
        if white is not None and not (type(white) is int and 0 < white <= MAX_WHITE):
            raise ValueError(f"white={white}: must be an integer from 1 to {MAX_WHITE}, or null")
        if isinstance(max_megapixels, bool) or not 0 < float(max_megapixels) < math.inf:
            raise ValueError(f"max_megapixels={max_megapixels}: must be a number above 0")
        if fit not in FITS:
            raise ValueError(f"fit={fit}: must be one of {', '.join(FITS)}")
        self.white, self.max_megapixels, self.fit = white, float(max_megapixels), fit
        self.image_size, self.resize = image_size, resize
        self._mean, self._std = list(mean), list(std)  # as they were given: float32 has other last digits
        self.mean, self.std = torch.tensor(mean, device=device), torch.tensor(std, device=device)
        self.transform = resizing(image_size, resize, fit)

    def to_dict(self) -> dict[str, Any]:
        """Returns the constructor's arguments, without the device, and without those that change nothing."""
        of_files = {
            "white": (self.white, None),
            "max_megapixels": (self.max_megapixels, MAX_MEGAPIXELS),
            "fit": (self.fit, "crop"),
        }
        return {
            "image_size": self.image_size,
            "resize": self.resize,
            "mean": self._mean,
            "std": self._std,
        } | {name: value for name, (value, default) in of_files.items() if value != default}

    def normalise(self, images: Tensor) -> Tensor:
        """Maps uint8 [B, 3, H, W] in 0..255 to float32 `(x / 255 - mean) / std`, channels-last in memory."""
        rows = images.permute(0, 2, 3, 1).flatten(2)  # [B, H, 3 W]: PyTorch is slow if the last dimension is 3 channels
        scale, offset = (per_channel.repeat(images.shape[3]) for per_channel in (1 / (255 * self.std), self.mean / self.std))
        return rows.to(torch.float32, copy=True).mul_(scale).sub_(offset).unflatten(2, (images.shape[3], 3)).permute(0, 3, 1, 2)

    def pixels(self, images: Tensor) -> Tensor:
        """Inverts `normalise`: floats to uint8, both [B, 3, H, W]."""
        scaled = (images * self.std[:, None, None] + self.mean[:, None, None]) * 255
        return scaled.nan_to_num().round().clamp(0, 255).to(torch.uint8)


def resizing(image_size: int, resize: int, fit: str = "crop") -> Callable[[Tensor], Tensor]:
    """Returns the transform of uint8 [..., 3, H, W] to a square.

    "crop" resizes the shorter side to `resize`, and takes the middle; "squash" resizes both sides to `image_size`; "pad" the
    longer side, and adds black beside the picture.
    """
    if fit == "pad":
        return partial(_pad, size=image_size)
    return v2.Resize([image_size] * 2) if fit == "squash" else v2.Compose([v2.Resize(resize), v2.CenterCrop(image_size)])


def _pad(picture: Tensor, size: int) -> Tensor:
    height, width = (max(1, round(side * size / max(picture.shape[-2:]))) for side in picture.shape[-2:])
    left, top = (size - width) // 2, (size - height) // 2
    resized = functional.resize(picture, [height, width], antialias=True)
    return functional.pad(resized, [left, top, size - width - left, size - height - top])


def resolve_statistics(
    mean: list[float] | str, std: list[float] | str, batches: Callable[[], Iterable[Tensor]]
) -> tuple[list[float], list[float]]:
    """Returns mean and deviation as they are, or, for "auto", those of the images: uint8 [B, 3, H, W], looked at if needed.

    A channel without any contrast gets the deviation 1.
    """
    if mean != AUTO and std != AUTO:
        assert isinstance(mean, list) and isinstance(std, list)
        return mean, std
    measured_mean, measured_std = channel_statistics(batches())
    return (mean if isinstance(mean, list) else measured_mean), (std if isinstance(std, list) else measured_std)


def channel_statistics(batches: Iterable[Tensor]) -> tuple[list[float], list[float]]:
    """Returns mean and (population) standard deviation per channel of pixels scaled to [0, 1], from exact counts of bytes."""
    counts = torch.zeros(3, 256, dtype=torch.float64)
    for images in batches:
        counts += torch.stack([torch.bincount(images[:, k].flatten(), minlength=256) for k in range(3)])
    values = torch.arange(256, dtype=torch.float64) / 255
    shares = counts / counts.sum(dim=1, keepdim=True)
    mean = shares @ values
    std = (shares * (values - mean[:, None]) ** 2).sum(dim=1).sqrt()
    return mean.tolist(), std.masked_fill(std == 0, 1.0).tolist()
