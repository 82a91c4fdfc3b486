"""The wrong predictions that matter most: those of the largest margin, or those whose label is least probable."""

from typing import NamedTuple

import torch
from torch import Tensor

from vgg_nll.evaluation.metrics import Outputs


class MostConfidentErrors(NamedTuple):
    """K wrong predictions, those of the largest margin first."""

    images: Tensor  # [K, 3, H, W], normalised as the network takes them
    probabilities: Tensor  # [K, C]
    target: Tensor  # [K]
    margin: Tensor  # [K], log(p / (1 - p)) of the prediction; of `TopErrors(by_label=True)`, log((1 - p) / p) of the label

    def first(self, number: int) -> "MostConfidentErrors":
        """Returns the most confident ones."""
        return MostConfidentErrors(*(part[:number] for part in self))


class TopErrors:
    """Keeps, over one batch after another, the `top_k` wrong predictions of the largest margin.

    The margin, not the confidence: it still orders images whose confidence rounds to 1. Memory: that of `top_k` images.

    Args:
        by_label: keeps those whose label is least probable.
    """

    def __init__(self, top_k: int = 16, *, by_label: bool = False) -> None:
        self._top_k, self._by_label = top_k, by_label
        self._kept: MostConfidentErrors | None = None

    def update(self, images: Tensor, outputs: Outputs, target: Tensor) -> None:
        """Takes one batch: images [B, 3, H, W], their outputs, target [B]. The host does not wait for the device."""
        # Right predictions stay in, behind the wrong ones, so that shapes do not depend on values.
        is_right = outputs.logits.argmax(dim=1) == target
        margin = (outputs.nll - outputs.complement_nll).gather(1, target[:, None])[:, 0] if self._by_label else outputs.margin
        found = MostConfidentErrors(images, outputs.probabilities, target, margin.masked_fill(is_right, -torch.inf))
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
