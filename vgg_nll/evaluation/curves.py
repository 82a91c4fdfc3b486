"""Precision against recall, over thresholds that are equal in log-odds."""

import torch
from torch import Tensor

from vgg_nll.evaluation.metrics import Sums


def precision_recall(sums: Sums) -> Tensor:
    """Returns [C, 6, T]: true and false positives, true and false negatives, precision and recall at each threshold.

    An image counts as class c if `log(p_c / (1 - p_c)) >= (k - 63) / 2`, and for k = 0 always. Equal steps of p would put most
    images of a trained network between two thresholds. Precision is 1 if no image is predicted as the class; recall is NaN for
    a class without images.
    """
    # From the largest threshold down: a threshold counts the images of all those above it.
    positive, tp = (counts.flip(1).cumsum(1).flip(1) for counts in (sums.threshold_images, sums.threshold_positives))
    of_class, images = tp[:, :1], positive[:, :1]
    fp, fn = positive - tp, of_class - tp
    precision = (tp / positive).masked_fill(positive == 0, 1.0)
    return torch.stack([tp, fp, images - of_class - fp, fn, precision, tp / of_class], dim=1)


def average_precision(sums: Sums) -> Tensor:
    """Returns [C]: the sum over thresholds of precision times the gain in recall, as scikit-learn's `average_precision_score`.

    Scores within half a unit of log-odds count as equal. NaN for a class without images.
    """
    curves = precision_recall(sums)
    precision, recall = curves[:, 4], curves[:, 5]
    return (precision * -torch.diff(recall, append=torch.zeros_like(recall[:, :1]))).sum(1)
