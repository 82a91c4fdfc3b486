"""Frozen features, computed once: training then sees what the head takes, and nothing before it runs again."""

import logging
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vgg_nll.data.interface import Batch, ImageData
from vgg_nll.distributed.process_group import ALONE, Ranks
from vgg_nll.model import VGG16
from vgg_nll.progress import track

FrozenBatches = Callable[[int, int], Iterator[Batch]]  # as `ImageData.train_batches`

log = logging.getLogger(__name__)
MAX_BYTES = 2 << 30  # 5 million images with the compact head, 21,000 with the paper's


def frozen_batches(
    model: VGG16, data: ImageData, dtype: torch.dtype, batch_size: int, eval_batch_size: int, ranks: Ranks = ALONE
) -> FrozenBatches | None:
    """Returns what takes the place of `data.train_batches`: batches of `model.pool(images)`, for `model.head`.

    None if features change from epoch to epoch (they are trained, or the images are augmented), or are too large to keep. The
    order of the images is the data set's own.

    Args:
        dtype: torch.bfloat16 for autocast, torch.float32 for none.
        ranks: each computes all of them, and takes its rows of every batch.
    """
    images = data.sizes["train"]
    if not model.has_frozen_backbone or data.is_augmented or 4 * images * model.pooled_size > MAX_BYTES:
        return None
    pooled, target = _pooled(model, data, dtype, eval_batch_size)
    log.info(f"features: frozen, and computed once for {images:,} training images; the head alone is trained")

    def batches(epoch: int, start: int = 0) -> Iterator[Batch]:
        order = data.train_order(epoch).to(target.device)
        for step in range(start, data.steps_per_epoch):
            index = order[step * batch_size : (step + 1) * batch_size][ranks.rows(batch_size)]
            yield pooled[index], target[index]

    return batches


@torch.no_grad()
def _pooled(model: VGG16, data: ImageData, dtype: torch.dtype, batch_size: int) -> tuple[Tensor, Tensor]:
    was_training = model.training
    model.eval()
    parts = []
    number = math.ceil(data.sizes["train"] / batch_size)
    for images, target in track(data.eval_batches("train"), number, "frozen features"):
        with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
            parts.append((model.pool(images), target))
    model.train(was_training)
    pooled, targets = zip(*parts, strict=True)
    return torch.cat(pooled), torch.cat(targets)
