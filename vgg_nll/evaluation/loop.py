"""The evaluation loop: every image once, everything computed once."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from vgg_nll.calibration.assess import assess
from vgg_nll.distributed.process_group import ALONE, Ranks
from vgg_nll.evaluation import metrics
from vgg_nll.evaluation.metrics import Sums
from vgg_nll.evaluation.most_confident_errors import MostConfidentErrors, TopErrors
from vgg_nll.evaluation.outputs import MAX_BYTES, SplitOutputs
from vgg_nll.losses import Loss
from vgg_nll.losses.softmax import as_float

log = logging.getLogger(__name__)
OnBatch = Callable[[Tensor, Tensor, Tensor], None]  # images [B, 3, H, W], logits [B, C], target [B]


@dataclass(frozen=True)
class Evaluation:
    """What one pass over a split gives: additive sums, the values of `metrics.compute`, the most confident errors; and, if they
    were asked for, the logits [N, C] on the CPU, float32 or float64, and the errors whose label is least probable.

    With the logits, the values have those of `calibration.assess`, too, and there are intervals: name -> [low, high].
    """

    sums: Sums
    values: Mapping[str, float]
    most_confident_errors: MostConfidentErrors
    logits: Tensor | None = None
    least_probable_labels: MostConfidentErrors | None = None
    intervals: Mapping[str, list[float]] = field(default_factory=dict)

    def figures(self) -> dict[str, float | list[float]]:
        """Returns values and intervals, as files hold them."""
        return {**self.values, **self.intervals}

    def outputs(self, files: Sequence[str]) -> SplitOutputs | None:
        """Returns what outputs.npz keeps of the split; None if the logits were not kept."""
        if self.logits is None:
            return None
        labels = self.sums.by_image().target.long()
        return SplitOutputs(self.logits.float().numpy(), labels.numpy(), np.array(files, dtype=str))


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    loss_function: Loss,
    batches: Iterable[tuple[Tensor, Tensor]],
    dtype: torch.dtype,
    ranks: Ranks = ALONE,
    *,
    keep_logits: bool = False,
    with_svs: bool = False,
    keep_mistakes: int = 0,
    on_batch: OnBatch | None = None,
) -> Evaluation:
    """Evaluates a model on all batches of (images [B, 3, H, W], target [B]), in eval mode; restores the model's mode.

    Args:
        dtype: torch.bfloat16 for autocast, torch.float32 for none.
        ranks: if several evaluate together, rank r is given the batches r, r + size, ...; all of them return the same, with the
            bits that one process gives, since sums are added in the order of the batches.
        keep_logits: those of all images, from which `calibration.assess` computes more; with_svs: its argument.
        keep_mistakes: so many of the errors, those whose label is least probable.
        on_batch: gets images, logits and target of every batch of this rank.

    Raises ValueError if there are no batches.
    """
    total = None
    errors, mistakes = TopErrors(), TopErrors(keep_mistakes, by_label=True)
    own = predict_batches(model, batches, dtype, on_batch)
    kept: list[Tensor] = []
    for images, logits, target in own if ranks.size == 1 else _of_all(own, next(model.parameters()).device, ranks):
        outputs = metrics.softmax_outputs(logits)
        errors.update(images, outputs, target)
        if keep_mistakes:
            mistakes.update(images, outputs, target)
        sums = metrics.update(outputs, target, loss_function(logits, target))
        total = sums if total is None else total + sums
        if keep_logits:
            kept.append(logits.cpu())
            if sum(part.nbytes for part in kept) > MAX_BYTES:
                log.warning(f"outputs.npz leaves this split out: its logits take more than {MAX_BYTES >> 20} MB")
                keep_logits, kept = False, []
    if total is None:
        raise ValueError("there are no images to evaluate")
    evaluation = Evaluation(
        total,
        metrics.compute(total),
        _joined(errors, ranks),
        least_probable_labels=_joined(mistakes, ranks) if keep_mistakes else None,
    )
    return _with_figures(evaluation, torch.cat(kept), with_svs) if kept else evaluation


def _with_figures(evaluation: Evaluation, logits: Tensor, with_svs: bool) -> Evaluation:
    """Returns the evaluation with its logits, and with what only they give."""
    found = assess(logits, evaluation.sums.by_image().target.long(), with_svs=with_svs)
    numbers = {name: value for name, value in found.items() if isinstance(value, float)}
    intervals = {name: value for name, value in found.items() if isinstance(value, list)}
    return replace(evaluation, values={**evaluation.values, **numbers}, logits=logits, intervals=intervals)


def _joined(errors: TopErrors, ranks: Ranks) -> MostConfidentErrors:
    """Returns what was kept, with the images of all ranks."""
    return errors.top._replace(images=ranks.all_reduce_sum(errors.top.images))


def _of_all(
    own: Iterator[tuple[Tensor, Tensor, Tensor]], device: torch.device, ranks: Ranks
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yields the batches of all ranks in their order; those of the others with zeros as images."""
    while True:
        batch = next(own, None)
        sent = None if batch is None else (batch[1].cpu(), batch[2].cpu(), batch[0].shape, batch[0].dtype)
        for rank, found in enumerate(ranks.gather(sent)):
            if found is None:
                return
            logits, target, shape, dtype = found
            zeros = torch.zeros((), dtype=dtype, device=device).expand(shape)
            images = zeros if batch is None or rank != ranks.rank else batch[0]
            yield images, logits.to(device), target.to(device)


def predict_batches(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], dtype: torch.dtype, on_batch: OnBatch | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yields (images, logits [B, C] in float32 or float64, target [B]) of every batch, in eval mode; restores the model's mode.

    The caller turns gradients off.
    """
    was_training = model.training
    model.eval()
    try:
        for images, target in batches:
            with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
                logits = as_float(model(images))
            if on_batch is not None:
                on_batch(images, logits, target)
            yield images, logits, target
    finally:
        model.train(was_training)
