"""Penultimate features: the inputs of the last linear layer, small enough for a browser."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vgg_nll.evaluation import loop
from vgg_nll.model import Penultimate

MAX_FEATURES = 512  # per image
THUMBNAIL = 64  # pixels: TensorBoard keeps all pictures in one of at most 8192 x 8192


class Features(NamedTuple):
    """Features of N images, on the CPU."""

    points: Tensor  # [N, D]
    pictures: Tensor  # uint8 [N, 3, H, W]
    target: Tensor  # [N]
    logits: Tensor  # [N, C]


@torch.no_grad()
def extract(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    dtype: torch.dtype,
    pixels: Callable[[Tensor], Tensor],
) -> Features:
    """Returns the input of the last linear layer for every image; if that has more than 512 numbers, 512 principal components.

    Args:
        batches: images [B, 3, H, W] and labels [B].
        pixels: normalised images -> uint8.
    """
    network = Penultimate(model)
    parts = [
        (seen.cpu(), _small(pixels(images)).cpu(), target.cpu(), network.last_layer(seen).cpu())
        for images, seen, target in loop.predict_batches(network, batches, dtype)
    ]
    points, pictures, target, logits = map(torch.cat, zip(*parts, strict=True))
    return Features(principal_components(points, MAX_FEATURES), pictures, target, logits)


def principal_components(points: Tensor, max_components: int) -> Tensor:
    """Returns [N, D] as it is if D is small enough; else its principal components [N, min(N, max_components)]."""
    if points.shape[1] <= max_components:
        return points
    from sklearn.decomposition import PCA  # takes a second to load, and most networks do not need it

    reduced = PCA(min(len(points), max_components), random_state=0).fit_transform(points.numpy())
    return torch.from_numpy(reduced)


def _small(pictures: Tensor) -> Tensor:
    """Returns pictures uint8 [B, 3, H, W], shrunk if a side is longer than a thumbnail's."""
    if pictures.shape[-1] <= THUMBNAIL:
        return pictures
    return F.interpolate(pictures.float(), size=(THUMBNAIL, THUMBNAIL), mode="area").round().to(torch.uint8)
