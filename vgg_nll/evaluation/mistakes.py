"""The images that a network was surest of, and wrong about."""

from typing import NamedTuple

import torch
from torch import Tensor

from vgg_nll.losses.softmax import log_probabilities


class Misclassified(NamedTuple):
    """K wrong predictions."""

    images: Tensor  # [K, 3, H, W], normalised as the network takes them
    probabilities: Tensor  # [K, C]
    target: Tensor  # [K]
    margin: Tensor  # [K]


class MostConfidentErrors:
    """Looks at one batch after another, and keeps the `most` wrong predictions of largest margin, that one first.

    The margin, not the confidence, since it goes on where confidence is 1. Memory: that of `most` images.
    """

    def __init__(self, most: int = 16) -> None:
        self._most = most
        self._kept: Misclassified | None = None

    def on_batch(self, images: Tensor, logits: Tensor, target: Tensor) -> None:
        """One batch: images [B, 3, H, W], logits [B, C], target [B]. Nothing waits for the device."""
        nll, _, margin = log_probabilities(logits.double())
        # What is right stays in, behind what is wrong, so that shapes do not depend on values.
        found = Misclassified(images, torch.exp(-nll), target, margin.masked_fill(logits.argmax(dim=1) == target, -torch.inf))
        found = _first(found, self._most)
        self._kept = found if self._kept is None else _first(Misclassified(*map(_joined, self._kept, found)), self._most)

    @property
    def top(self) -> Misclassified:
        """What was kept. Raises ValueError before the first batch."""
        if self._kept is None:
            raise ValueError("there were no images to look at")
        wrong = self._kept.margin != -torch.inf
        return Misclassified(*(part[wrong] for part in self._kept))


def _first(found: Misclassified, most: int) -> Misclassified:
    order = found.margin.argsort(descending=True, stable=True)[:most]
    return Misclassified(*(part[order] for part in found))


def _joined(old: Tensor, new: Tensor) -> Tensor:
    return torch.cat([old, new])
