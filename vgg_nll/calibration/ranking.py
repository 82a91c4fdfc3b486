"""Logits and labels -> what each image got, in order of confidence, and what a tie means."""

from typing import NamedTuple

import torch
from torch import Tensor

from vgg_nll.losses import log_probabilities

ROUNDING = 1e-12  # of a margin, relative: a sum over classes depends on their order in its last bits
CHUNK = 1024  # images at a time: the logarithms of all of them would need several times the memory of the outputs


class RankedImages(NamedTuple):
    """N images, the least confident first; float64."""

    probabilities: Tensor  # [N, C]
    margin: Tensor  # [N], log(p / (1 - p)) of the prediction; equal for those that differ by rounding only
    prediction: Tensor  # [N]
    label: Tensor  # [N]
    nll: Tensor  # [N], -log p of the label

    @property
    def confidence(self) -> Tensor:
        """[N], the probability of the prediction."""
        return self.probabilities.gather(1, self.prediction[:, None])[:, 0]

    @property
    def correct(self) -> Tensor:
        """[N], 1 if right, else 0."""
        return (self.prediction == self.label).double()


def rank(logits: Tensor, labels: Tensor) -> RankedImages:
    """Returns what each image got, in order of the margin, which still grows when the confidence rounds to 1.

    Args:
        logits: [N, C], without NaN and `+inf`; labels: [N].
    """
    probabilities, margins, nlls = [], [], []
    for rows, label in zip(logits.split(CHUNK), labels.split(CHUNK), strict=True):
        nll, _, margin = log_probabilities(rows.double())
        probabilities.append(torch.exp(-nll))
        margins.append(margin)
        nlls.append(nll.gather(1, label[:, None])[:, 0])
    margin = torch.cat(margins)
    order = margin.argsort(stable=True)
    return RankedImages(
        torch.cat(probabilities)[order],
        merge_rounded(margin[order]),
        logits.argmax(dim=1)[order],  # the first of equal logits
        labels[order],
        torch.cat(nlls)[order],
    )


def merge_rounded(margin: Tensor) -> Tensor:
    """Returns margins [N], which are in order; those that differ from the one before by rounding only are made equal to it."""
    is_tie = (margin - margin.roll(1) <= ROUNDING * (1 + margin.abs())) & margin.isfinite()  # equal infinite ones are equal
    first = torch.arange(len(margin)).masked_fill(is_tie, 0).cummax(0).values
    return margin[first]


def share_ties(margin: Tensor, values: Tensor) -> Tensor:
    """Returns `values` with their mean over equal margins: the order of these says nothing.

    Args:
        margin: [N], in order; values: [..., N].
    """
    _, group, size = margin.unique_consecutive(return_inverse=True, return_counts=True)
    return (values.new_zeros(*values.shape[:-1], len(size)).index_add(-1, group, values) / size)[..., group]
