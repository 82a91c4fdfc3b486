"""The images that a network was surest of, and wrong about."""

from typing import NamedTuple

import torch
from torch import Tensor

from vgg_nll.softmax import log_probabilities


class Wrong(NamedTuple):
    """K wrong predictions."""

    images: Tensor  # [K, 3, H, W], normalised as the network takes them
    probabilities: Tensor  # [K, C]
    target: Tensor  # [K]
    margin: Tensor  # [K]


class Mistakes:
    """Looks at one batch after another, and keeps the `most` wrong predictions of largest margin, that one first.

    The margin, not the confidence, since it goes on where confidence is 1. Memory: that of `most` images.
    """

    def __init__(self, most: int = 16) -> None:
        self._most = most
        self._kept: Wrong | None = None

    def look(self, images: Tensor, logits: Tensor, target: Tensor) -> None:
        """One batch: images [B, 3, H, W], logits [B, C], target [B]. Nothing waits for the device."""
        nll, _, margin = log_probabilities(logits.double())
        # What is right stays in, behind what is wrong, so that shapes do not depend on values.
        found = Wrong(images, torch.exp(-nll), target, margin.masked_fill(logits.argmax(dim=1) == target, -torch.inf))
        found = _first(found, self._most)
        self._kept = found if self._kept is None else _first(Wrong(*map(_joined, self._kept, found)), self._most)

    @property
    def surest(self) -> Wrong:
        """What was kept. Raises ValueError before the first batch."""
        if self._kept is None:
            raise ValueError("there were no images to look at")
        wrong = self._kept.margin != -torch.inf
        return Wrong(*(part[wrong] for part in self._kept))


def _first(found: Wrong, most: int) -> Wrong:
    order = found.margin.argsort(descending=True, stable=True)[:most]
    return Wrong(*(part[order] for part in found))


def _joined(old: Tensor, new: Tensor) -> Tensor:
    return torch.cat([old, new])
