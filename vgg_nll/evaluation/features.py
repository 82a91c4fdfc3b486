"""Penultimate features: the inputs of the last linear layer, small enough for a browser."""

from collections.abc import Callable
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_FEATURES = 512  # per image
THUMBNAIL = 64  # pixels: TensorBoard keeps all pictures in one of at most 8192 x 8192


class Features(NamedTuple):
    """Features of N images, on the CPU."""

    points: Tensor  # [N, D]
    pictures: Tensor  # uint8 [N, 3, H, W]
    target: Tensor  # [N]
    logits: Tensor  # [N, C]


class FeatureCollector:
    """Keeps features of the images that go through a network while the block runs, evenly spread.

    Args:
        model: its last linear layer is watched.
        pixels: normalised images -> uint8.
        every: of the images, number 0, `every`, 2 `every`, ... are kept.
    """

    def __init__(self, model: nn.Module, pixels: Callable[[Tensor], Tensor], every: int = 1) -> None:
        self._last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        self._pixels, self._every, self._position = pixels, every, 0
        self._parts: list[tuple[Tensor, ...]] = []

    def __enter__(self) -> Self:
        self._hook = self._last.register_forward_pre_hook(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _note(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._features = inputs[0]

    def add(self, images: Tensor, logits: Tensor, target: Tensor) -> None:
        """Takes the batch that has just gone through the network: [B, 3, H, W], [B, C], [B]."""
        rows = slice(-self._position % self._every, None, self._every)
        self._position += len(target)
        pictures = _small(self._pixels(images[rows]))
        self._parts.append(tuple(part.cpu() for part in (self._features[rows].float(), pictures, target[rows], logits[rows])))

    def all_features(self) -> Features:
        """Returns what was kept, with every feature."""
        return Features(*map(torch.cat, zip(*self._parts, strict=True)))

    def features(self) -> Features:
        """Returns what was kept; features of more than 512 numbers as 512 principal components."""
        found = self.all_features()
        return found._replace(points=principal_components(found.points, MAX_FEATURES))


def nearest(points: Tensor, others: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Returns, for each of the points [K, D], which of the others [N, D] are nearest to it, and their similarity.

    Near is what has a large cosine of the angle between features, which does not depend on their length: that of the features
    of a network grows with its confidence (arXiv:2204.06507). Both results are [K, min(number, N)], the nearest first.
    """
    cosine = F.normalize(points.float(), dim=1) @ F.normalize(others.float(), dim=1).T
    similarity, index = cosine.sort(dim=1, descending=True, stable=True)
    return index[:, :number], similarity[:, :number]


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
