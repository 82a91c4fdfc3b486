"""Mean and deviation of the pixels of a data set."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

AUTO = "auto"


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
