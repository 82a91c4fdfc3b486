"""One evaluation: no files, no config, no logging."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from vgg_nll.evaluation import metrics
from vgg_nll.losses import Loss

OnBatch = Callable[[Tensor, Tensor, Tensor], None]


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    loss_function: Loss,
    batches: Iterable[tuple[Tensor, Tensor]],
    dtype: torch.dtype,
    on_batch: OnBatch | None = None,
) -> metrics.Sums:
    """Sums over all batches of (images [B, 3, H, W], target [B]), in evaluation mode; puts the model's mode back.

    Args:
        on_batch: is shown the images, logits and target of every batch.

    Raises ValueError where there are no batches.
    """
    total = None
    for images, logits, target in outputs(model, batches, dtype):
        if on_batch is not None:
            on_batch(images, logits, target)
        sums = metrics.update(logits, target, loss_function(logits, target))
        total = sums if total is None else total + sums
    if total is None:
        raise ValueError("there are no images to evaluate")
    return total


def outputs(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], dtype: torch.dtype
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(images, logits [B, C] in float32, target [B]) of every batch, in evaluation mode; puts the model's mode back.

    No gradients: the caller turns them off.
    """
    was_training = model.training
    model.eval()
    try:
        for images, target in batches:
            with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
                logits = model(images)
            yield images, logits.float(), target
    finally:
        model.train(was_training)
