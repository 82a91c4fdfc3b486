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

    def __init__(self, most: int) -> None:
        self._most = most
        self.surest: Wrong | None = None  # None before the first batch

    def look(self, images: Tensor, logits: Tensor, target: Tensor) -> None:
        """One batch: images [B, 3, H, W], logits [B, C], target [B]."""
        nll, _, margin = log_probabilities(logits.double())
        wrong = logits.argmax(dim=1) != target
        found = Wrong(images[wrong], torch.exp(-nll[wrong]), target[wrong], margin[wrong])
        if self.surest is not None:
            found = Wrong(*(torch.cat(pair) for pair in zip(self.surest, found, strict=True)))
        order = found.margin.argsort(descending=True, stable=True)[: self._most]
        self.surest = Wrong(*(part[order] for part in found))
