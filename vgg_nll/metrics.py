"""What a network's outputs are worth: a batch gives sums, sums add up, sums give values.

Sums over images, never means of means, so every value is the same for any batch size. All in float64.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from vgg_nll.softmax import log_probabilities

NUM_BINS = 15


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
    # Equal bins over [0, 1]; the last one is closed, so that a confidence of exactly 1 has a bin.
    bins = (confidence * NUM_BINS).long().clamp(0, NUM_BINS - 1)  # NaN becomes a large negative number
    nothing = logits.new_zeros(NUM_BINS)
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
    )


def compute(sums: Sums) -> dict[str, float]:
    """Values per image, by the names of `metrics.json`.

    Natural logarithms; `brier` is the sum over classes of the squared error, in [0, 2]; `ece` is the expected calibration
    error over 15 equal bins of confidence, sum of |accuracy - confidence| weighted by images (Guo et al., 2017), as a
    fraction. `confidence_correct` is NaN where nothing was right, `confidence_incorrect` where nothing was wrong.
    """
    images = sums.images
    wrong = images - sums.correct
    values = {
        "accuracy": sums.correct / images,
        "top5_accuracy": sums.top5_correct / images,
        "loss": sums.loss / images,
        "nll_argmax": sums.nll_argmax / images,
        "nll_argmax_prediction": sums.nll_argmax_prediction / images,
        "nll_all_logit": sums.nll_all_logit / images,
        "brier": sums.brier / images,
        "ece": (sums.bin_correct - sums.bin_confidence).abs().sum() / images,
        "confidence": sums.confidence / images,
        "confidence_correct": sums.confidence_correct / sums.correct,
        "confidence_incorrect": (sums.confidence - sums.confidence_correct) / wrong,
        "true_class_probability": sums.true_class_probability / images,
        "margin": sums.margin / images,
    }
    if wrong == 0:  # the two sums may differ in the last bit, and 1e-16 / 0 is inf
        values["confidence_incorrect"] = torch.tensor(torch.nan)
    return {name: float(value) for name, value in values.items()}
