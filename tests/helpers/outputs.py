"""Logits of a network that is often right, and their metrics."""

import torch

from vgg_nll.evaluation.metrics import compute, softmax_outputs, update
from vgg_nll.losses import argmax_nll


def sample(images: int = 300, classes: int = 10, gain: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns logits [N, C], the same each time, and labels [N], whose logits are larger by `gain`."""
    draw = torch.Generator().manual_seed(0)
    target = torch.randint(classes, (images,), generator=draw)
    logits = 2 * torch.randn(images, classes, generator=draw)
    logits[range(images), target] += gain
    return logits, target


def measure(logits: torch.Tensor, target: torch.Tensor, batch_size: int) -> dict[str, float]:
    """Returns the metrics, as sums over batches of this size give them."""
    parts = zip(logits.split(batch_size), target.split(batch_size), strict=True)
    first, *others = [update(softmax_outputs(part), labels, argmax_nll(part, labels)) for part, labels in parts]
    return compute(sum(others, first))
