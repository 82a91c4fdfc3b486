"""Calibration errors: how far confidence is from accuracy, over bins of confidence.

Tensors of counts may have leading dimensions [...], one element for each set of labels that the same outputs are judged by.
"""

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
        bin_images, bin_confidence: [NUM_BINS], images and sum of confidences; bin_correct: [..., NUM_BINS], the correct images.
    """
    gaps = (bin_correct - bin_confidence).abs()
    return {"ece": gaps.sum(-1) / bin_images.sum(), "mce": (gaps / bin_images.clamp(min=1)).amax(-1)}


def classwise(class_bin_images: Tensor, class_bin_probability: Tensor) -> Tensor:
    """Returns the mean over classes of the ECE of each class's own probability (arXiv:1910.12656).

    Args:
        class_bin_images: [..., C, NUM_BINS], images of label c by the probability of class c.
        class_bin_probability: [C, NUM_BINS], the sum over all images of the probability of class c.
    """
    return (class_bin_images - class_bin_probability).abs().sum(-1).mean(-1) / class_bin_images.sum((-2, -1))


def adaptive(confidence: Tensor, correct: Tensor) -> Tensor:
    """Returns the ECE over bins of equally many images (arXiv:1904.01685).

    Args:
        confidence: [N], correct: [..., N], in order of confidence.
    """
    parts = zip(confidence.tensor_split(NUM_BINS), correct.tensor_split(NUM_BINS, dim=-1), strict=True)
    gaps = ((c.sum() - r.sum(-1)).abs() for c, r in parts)
    return sum(gaps, start=torch.zeros_like(correct[..., 0])) / len(confidence)
