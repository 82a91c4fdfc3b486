"""What a network's outputs are worth: a batch gives sums, sums add up, sums give values.

Sums over images, never means of means, so every value is the same for any batch size. All in float64. Memory does not grow
with the data set but for `scores`, three numbers an image, which curves and quantiles need.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from vgg_nll.softmax import log_probabilities

NUM_BINS = 15
MARGIN_QUANTILES = {"margin_p05": 0.05, "margin_p50": 0.5, "margin_p95": 0.95}


@dataclass
class Sums:
    """Additive over images; scalars are float64 tensors on the device of the logits, so nothing waits for it."""

    images: Tensor
    loss: Tensor  # of the loss that trains, times images
    correct: Tensor
    top5_correct: Tensor
    nll_argmax: Tensor
    nll_argmax_prediction: Tensor
    nll_all_logit: Tensor
    brier: Tensor
    confidence: Tensor
    confidence_correct: Tensor  # confidence, over the images that were right
    confidence_squared: Tensor
    true_class_probability: Tensor
    margin: Tensor
    bin_images: Tensor  # [NUM_BINS], by confidence
    bin_correct: Tensor  # [NUM_BINS]
    bin_confidence: Tensor  # [NUM_BINS]
    class_images: Tensor  # [C], by label
    class_correct: Tensor  # [C], by label
    class_confidence: Tensor  # [C], confidence of the prediction, by label
    class_bin_images: Tensor  # [C, NUM_BINS], of label c, by the probability of class c
    class_bin_probability: Tensor  # [C, NUM_BINS], of every image, by the probability of class c
    scores: tuple[Tensor, ...]  # one [3, B] a batch: confidence, margin, whether it was right

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})


def update(logits: Tensor, target: Tensor, loss: Tensor) -> Sums:
    """The sums of one batch.

    Args:
        logits: [B, C]; target: [B] class indices; loss: scalar, the mean over this batch of the loss that trains.
    """
    logits = logits.double()
    nll, complement_nll, margin = log_probabilities(logits)  # [B, C], [B, C], [B]
    probabilities = torch.exp(-nll)
    confidence, prediction = probabilities.max(dim=1)  # [B]
    correct = (prediction == target).double()
    is_target = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, target[:, None], True)
    top5 = logits.topk(min(5, logits.shape[1]), dim=1).indices
    bins = _bins(confidence)
    nothing, by_label = logits.new_zeros(NUM_BINS), logits.new_zeros(logits.shape[1])
    cells = _bins(probabilities) + NUM_BINS * torch.arange(logits.shape[1], device=logits.device)  # [B, C]
    in_cells = logits.new_zeros(logits.shape[1] * NUM_BINS)
    shape = (logits.shape[1], NUM_BINS)
    return Sums(
        images=torch.ones_like(confidence).sum(),
        loss=loss.double() * len(logits),
        correct=correct.sum(),
        top5_correct=(top5 == target[:, None]).sum().double(),
        nll_argmax=nll[is_target].sum(),
        nll_argmax_prediction=nll.amin(dim=1).sum(),
        nll_all_logit=torch.where(is_target, nll, complement_nll).sum(),
        brier=(probabilities - is_target.double()).square().sum(),
        confidence=confidence.sum(),
        confidence_correct=(confidence * correct).sum(),
        confidence_squared=confidence.square().sum(),
        true_class_probability=probabilities[is_target].sum(),
        margin=margin.sum(),
        bin_images=nothing.index_add(0, bins, torch.ones_like(confidence)),
        bin_correct=nothing.index_add(0, bins, correct),
        bin_confidence=nothing.index_add(0, bins, confidence),
        class_images=by_label.index_add(0, target, torch.ones_like(confidence)),
        class_correct=by_label.index_add(0, target, correct),
        class_confidence=by_label.index_add(0, target, confidence),
        class_bin_images=in_cells.index_add(0, cells[is_target], torch.ones_like(confidence)).view(shape),
        class_bin_probability=in_cells.index_add(0, cells.flatten(), probabilities.flatten()).view(shape),
        scores=(torch.stack([confidence, margin, correct]),),
    )


def compute(sums: Sums) -> dict[str, float]:
    """Values per image, by the names of `metrics.json`; errors of calibration are fractions, natural logarithms everywhere.

    * `brier`: sum over classes of the squared error, in [0, 2].
    * `ece`: expected calibration error, |accuracy - confidence| over 15 equal bins of confidence, weighted by their images
      (arXiv:1706.04599); `mce`: the largest of them; `adaptive_ece`: over 15 bins of equally many images (arXiv:1904.01685);
      `classwise_ece`: of the probability of each class, its mean over classes (arXiv:1910.12656).
    * `overconfidence`: mean confidence less accuracy.
    * `aurc`: area under risk against coverage, the mean error rate of the k most confident images over k = 1 to N
      (arXiv:1705.08500); `auroc`: the chance that a right prediction is more confident than a wrong one, ties count half.
    * `margin_p05`, `margin_p50`, `margin_p95`: quantiles of the margin.

    `confidence_correct` is NaN where nothing was right, `confidence_incorrect` where nothing was wrong, `auroc` in both.
    """
    images = sums.images
    wrong = images - sums.correct
    gaps = (sums.bin_correct - sums.bin_confidence).abs()
    values = {
        "accuracy": sums.correct / images,
        "top5_accuracy": sums.top5_correct / images,
        "loss": sums.loss / images,
        "nll_argmax": sums.nll_argmax / images,
        "nll_argmax_prediction": sums.nll_argmax_prediction / images,
        "nll_all_logit": sums.nll_all_logit / images,
        "brier": sums.brier / images,
        "ece": gaps.sum() / images,
        "mce": (gaps / sums.bin_images.clamp(min=1)).max(),
        "classwise_ece": (sums.class_bin_images - sums.class_bin_probability).abs().sum(1).mean() / images,
        "overconfidence": (sums.confidence - sums.correct) / images,
        "confidence": sums.confidence / images,
        "confidence_correct": sums.confidence_correct / sums.correct,
        "confidence_incorrect": (sums.confidence - sums.confidence_correct) / wrong,
        "true_class_probability": sums.true_class_probability / images,
        "margin": sums.margin / images,
    }
    if wrong == 0:  # the two sums may differ in the last bit, and 1e-16 / 0 is inf
        values["confidence_incorrect"] = torch.tensor(torch.nan)
    return {name: float(value) for name, value in (values | _of_scores(torch.cat(sums.scores, dim=1))).items()}


def _bins(probabilities: Tensor) -> Tensor:
    """Equal bins over [0, 1]; the last one is closed, so that exactly 1 has a bin. NaN goes into the first."""
    return (probabilities * NUM_BINS).long().clamp(0, NUM_BINS - 1)  # NaN becomes a large negative number


def _of_scores(scores: Tensor) -> dict[str, Tensor]:
    # From the least confident to the most, by the margin: it is in the same order, and goes on where confidence is 1.
    confidence, margin, correct = scores[:, scores[1].argsort(stable=True)]
    parts = zip(confidence.tensor_split(NUM_BINS), correct.tensor_split(NUM_BINS), strict=True)
    errors = (1 - correct.flip(0)).cumsum(0)
    right, wrong = margin[correct == 1], margin[correct == 0]
    below = torch.searchsorted(wrong, right).double() + torch.searchsorted(wrong, right, right=True)  # twice, ties half
    return {
        "adaptive_ece": sum((c.sum() - r.sum()).abs() for c, r in parts) / len(correct),
        "aurc": (errors / torch.arange(1, len(errors) + 1, device=errors.device)).mean(),
        "auroc": below.sum() / (2 * len(right) * len(wrong)) if len(right) and len(wrong) else torch.tensor(torch.nan),
    } | {name: margin.quantile(q) for name, q in MARGIN_QUANTILES.items()}
