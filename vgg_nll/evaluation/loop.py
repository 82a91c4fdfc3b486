"""The evaluation loop: every image once, everything computed once."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vgg_nll.evaluation import metrics
from vgg_nll.evaluation.metrics import Sums
from vgg_nll.evaluation.mistakes import Misclassified, MostConfidentErrors
from vgg_nll.losses import Loss


@dataclass(frozen=True)
class Evaluation:
    """What one pass over a split gives: additive sums, the values of `metrics.compute`, and the most confident errors."""

    sums: Sums
    values: Mapping[str, float]
    mistakes: Misclassified


@torch.inference_mode()
def evaluate(model: nn.Module, loss_function: Loss, batches: Iterable[tuple[Tensor, Tensor]], dtype: torch.dtype) -> Evaluation:
    """Evaluates a model on all batches of (images [B, 3, H, W], target [B]), in eval mode; restores the model's mode.

    Args:
        dtype: torch.bfloat16 for autocast, torch.float32 for none.

    Raises ValueError if there are no batches.
    """
    total = None
    mistakes = MostConfidentErrors()
    for images, logits, target in predict_batches(model, batches, dtype):
        outputs = metrics.softmax_outputs(logits)
        mistakes.update(images, outputs, target)
        sums = metrics.update(outputs, target, loss_function(logits, target))
        total = sums if total is None else total + sums
    if total is None:
        raise ValueError("there are no images to evaluate")
    return Evaluation(total, metrics.compute(total), mistakes.top)


def predict_batches(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], dtype: torch.dtype
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yields (images, logits [B, C] in float32, target [B]) of every batch, in eval mode; restores the model's mode.

    The caller turns gradients off.
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
