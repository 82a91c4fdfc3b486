"""The most confident errors: wrong predictions of the largest margin."""

from typing import NamedTuple

import torch
from torch import Tensor

from vgg_nll.evaluation.metrics import Outputs


class MostConfidentErrors(NamedTuple):
    """K wrong predictions, the most confident first."""

    images: Tensor  # [K, 3, H, W], normalised as the network takes them
    probabilities: Tensor  # [K, C]
    target: Tensor  # [K]
    margin: Tensor  # [K]

    def first(self, number: int) -> "MostConfidentErrors":
        """Returns the most confident ones."""
        return MostConfidentErrors(*(part[:number] for part in self))


class TopErrors:
    """Keeps, over one batch after another, the `top_k` wrong predictions of the largest margin.

    The margin, not the confidence: it still orders images whose confidence rounds to 1. Memory: that of `top_k` images.
    """

    def __init__(self, top_k: int = 16) -> None:
        self._top_k = top_k
        self._kept: MostConfidentErrors | None = None

    def update(self, images: Tensor, outputs: Outputs, target: Tensor) -> None:
        """Takes one batch: images [B, 3, H, W], their outputs, target [B]. The host does not wait for the device."""
        # Right predictions stay in, behind the wrong ones, so that shapes do not depend on values.
        is_right = outputs.logits.argmax(dim=1) == target
        found = MostConfidentErrors(images, outputs.probabilities, target, outputs.margin.masked_fill(is_right, -torch.inf))
        found = self._first(found)
        self._kept = found if self._kept is None else self._first(_concatenate(self._kept, found))

    @property
    def top(self) -> MostConfidentErrors:
        """What was kept. Raises ValueError before the first batch."""
        if self._kept is None:
            raise ValueError("there are no images yet")
        is_wrong = self._kept.margin != -torch.inf
        return MostConfidentErrors(*(part[is_wrong] for part in self._kept))

    def _first(self, found: MostConfidentErrors) -> MostConfidentErrors:
        order = found.margin.argsort(descending=True, stable=True)[: self._top_k]
        return MostConfidentErrors(*(part[order] for part in found))


def _concatenate(old: MostConfidentErrors, new: MostConfidentErrors) -> MostConfidentErrors:
    return MostConfidentErrors(*(torch.cat(pair) for pair in zip(old, new, strict=True)))
