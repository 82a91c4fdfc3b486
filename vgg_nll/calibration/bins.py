"""Calibration errors: how far confidence is from accuracy, over bins of confidence."""

import torch
from torch import Tensor

NUM_BINS = 15


def bin_index(probabilities: Tensor) -> Tensor:
    """Returns the equal bin over [0, 1] of each probability; the last bin is closed, so that 1 has one. NaN goes into bin 0."""
    return (probabilities * NUM_BINS).long().clamp(0, NUM_BINS - 1)  # NaN becomes a large negative number


def of_bins(bin_images: Tensor, bin_correct: Tensor, bin_confidence: Tensor) -> dict[str, Tensor]:
    """Returns the metrics that follow from equal bins of confidence, by name (arXiv:1706.04599).

    `ece` is `sum_b n_b/N |acc_b - conf_b|`, and `mce` is `max_b |acc_b - conf_b|`.

    Args:
        bin_images, bin_correct, bin_confidence: per bin [NUM_BINS], the images, the correct ones, the sum of confidences.
    """
    gaps = (bin_correct - bin_confidence).abs()
    return {"ece": gaps.sum() / bin_images.sum(), "mce": (gaps / bin_images.clamp(min=1)).max()}


def classwise(class_bin_images: Tensor, class_bin_probability: Tensor) -> Tensor:
    """Returns the mean over classes of the ECE of each class's own probability (arXiv:1910.12656).

    Args:
        class_bin_images: [C, NUM_BINS], images of label c by the probability of class c.
        class_bin_probability: [C, NUM_BINS], the sum over all images of the probability of class c.
    """
    return (class_bin_images - class_bin_probability).abs().sum(1).mean() / class_bin_images.sum()


def adaptive(confidence: Tensor, correct: Tensor) -> Tensor:
    """Returns the ECE over bins of equally many images (arXiv:1904.01685).

    Args:
        confidence, correct: [N], in order of confidence.
    """
    parts = zip(confidence.tensor_split(NUM_BINS), correct.tensor_split(NUM_BINS), strict=True)
    gaps = ((c.sum() - r.sum()).abs() for c, r in parts)
    return sum(gaps, start=torch.zeros_like(correct[0])) / len(correct)
