"""Figures of the confidence in predictions: calibration without equal bins, and how well the margin ranks right and wrong ones.

All take `RankedImages`, and are of the prediction alone ("top-label").
"""

from itertools import pairwise

import torch
from torch import Tensor

from vgg_nll.calibration.bins import NUM_BINS
from vgg_nll.calibration.ranking import CHUNK, RankedImages, share_ties

MIN_BANDWIDTH = 0.001
NUM_FREQUENCIES = 2700  # exp(-(pi k bandwidth)^2 / 2) is less than 1e-15 beyond, for every bandwidth above the least
GRID = 8192  # intervals of [0, 1] for the integral
LEAST_IMAGES = 0.6  # the sum of their kernels: a single image counts up to a bandwidth away
ROUNDING = 1e-12  # of a sum of errors: shared ties need not add up to integers


def smooth_ece(images: RankedImages) -> float:
    """Returns the smooth ECE with automatic bandwidth (arXiv:2309.12236): the `s` with `smooth_ece_at(s) = s`.

    `smooth_ece_at` falls as the bandwidth `s` rises, so there is one such `s`. If it is below `MIN_BANDWIDTH`, the value at
    `MIN_BANDWIDTH` is returned. There are no bins whose edges matter.
    """
    from scipy.optimize import brentq  # takes as long to load as a small run's validation

    cosine_means = _cosine_means(images.confidence, images.confidence - images.correct)
    at_least = smooth_ece_at(cosine_means, MIN_BANDWIDTH)
    if at_least <= MIN_BANDWIDTH:
        return at_least
    return brentq(lambda bandwidth: smooth_ece_at(cosine_means, bandwidth) - bandwidth, MIN_BANDWIDTH, 1.0, xtol=1e-12)


def smooth_ece_at(cosine_means: Tensor, bandwidth: float) -> float:
    """Returns the integral over [0, 1] of `|r(t)|`, `r(t) = 1/N sum_i K(t, c_i) (c_i - correct_i)`.

    K is the Gaussian kernel of this bandwidth, reflected at 0 and at 1. Its cosine transform is known, so `r(t)` is
    `a_0 + 2 sum_k a_k exp(-(pi k bandwidth)^2 / 2) cos(pi k t)`.

    Args:
        cosine_means: `a_k` for k = 0, 1, ...: the mean over images of `(c_i - correct_i) cos(pi k c_i)`.
    """
    from scipy.fft import dct

    k = torch.arange(len(cosine_means), dtype=torch.float64)
    coefficients = cosine_means * torch.exp(-((torch.pi * bandwidth * k) ** 2) / 2)
    padded = torch.nn.functional.pad(coefficients, (0, GRID + 1 - len(k)))
    return float(torch.trapezoid(torch.from_numpy(dct(padded.numpy(), type=1)).abs(), dx=1 / GRID))


def _cosine_means(confidence: Tensor, residual: Tensor) -> Tensor:
    k = torch.pi * torch.arange(NUM_FREQUENCIES, dtype=torch.float64)
    parts = zip(confidence.split(CHUNK), residual.split(1024), strict=True)  # 22 MB at a time
    return sum((r @ torch.cos(c[:, None] * k) for c, r in parts), start=torch.zeros_like(k)) / len(confidence)


def smooth_accuracy(confidence: Tensor, correct: Tensor, bandwidth: float, at: Tensor) -> Tensor:
    """Returns the accuracy [T] at each confidence `t` of `at` [T], `sum_i K(t, c_i) correct_i / sum_i K(t, c_i)`: the curve of
    a reliability diagram without bins (arXiv:2309.12236). NaN where no image is near.

    Args:
        confidence, correct: [N]; bandwidth: of the kernel of `smooth_ece_at`, mostly the smooth ECE; `MIN_BANDWIDTH` at least.
    """
    columns = torch.stack([torch.ones_like(confidence), correct], dim=1)
    sums = torch.zeros(len(at), 2, dtype=torch.float64)
    for c, rows in zip(confidence.split(CHUNK), columns.split(CHUNK), strict=True):
        for center in (c, -c, 2 - c):  # itself, and its mirror images at 0 and at 1
            sums += torch.exp(-(((at[:, None] - center) / max(bandwidth, MIN_BANDWIDTH)) ** 2) / 2) @ rows
    return torch.where(sums[:, 0] < LEAST_IMAGES, torch.nan, sums[:, 1] / sums[:, 0])


def debiased_rms_ce(images: RankedImages) -> float:
    """Returns the root mean square calibration error over bins of equally many images, less its bias (arXiv:1909.10155).

    The square is `sum_b n_b/N ((acc_b - conf_b)^2 - acc_b (1 - acc_b) / (n_b - 1))`; if it is negative, 0 is returned. The
    second term is what chance adds. Images of one confidence share a bin. A bin with one image adds nothing. There are 15 bins,
    or fewer, so that each has two images. NaN if there is one image only.
    """
    confidence, correct = images.confidence, images.correct
    if len(confidence) < 2:
        return torch.nan
    order = confidence.argsort()  # equal to the order of the margin but for rounding
    parts = confidence[order].tensor_split(min(NUM_BINS, len(confidence) // 2))
    upper = torch.stack([(low[-1] + high[0]) / 2 for low, high in pairwise(parts)] + [confidence.max()])
    of_image = torch.searchsorted(upper.unique(), confidence)
    size, sums_correct, sums_confidence = (
        torch.zeros(len(parts), dtype=torch.float64).index_add(0, of_image, values)
        for values in (torch.ones_like(confidence), correct, confidence)
    )
    has_two = size > 1
    n, acc, conf = size[has_two], (sums_correct / size)[has_two], (sums_confidence / size)[has_two]
    square = (n * ((acc - conf) ** 2 - acc * (1 - acc) / (n - 1))).sum() / len(confidence)
    return float(square.clamp(min=0).sqrt())


def ranking_scores(images: RankedImages) -> dict[str, float]:
    """Returns how well the margin tells right predictions from wrong ones; images of equal margin share their errors.

    With `E_k` errors among the k most confident of N images:

    - `e_aurc`: `1/N sum_k E_k/k`, less what it is if every wrong image comes last (arXiv:1805.08206).
    - `augrc`: `1/N sum_k (E_(k-1) + E_k) / 2N`, the area under the share of images that are accepted and wrong, over the share
      of accepted ones (arXiv:2407.01032); between 0 and 1/2.
    - `coverage_at_risk_1`, `coverage_at_risk_5`: the largest `k/N` with `E_k/k` at most 1%, 5%; 0 if there is none.
    - `fpr_at_95_tpr`: the share of wrong images with at least the margin that 95% of the right ones have; NaN if no image is
      right, or none is wrong.
    """
    wrong = 1 - images.correct
    errors = share_ties(images.margin, wrong).flip(0).cumsum(0)  # [N], E_k
    count, accepted = len(wrong), torch.arange(1, len(wrong) + 1, dtype=torch.float64)
    best_errors = (accepted - images.correct.sum()).clamp(min=0)
    result: dict[str, Tensor | float] = {
        "e_aurc": ((errors - best_errors) / accepted).mean(),
        "augrc": (errors.sum() - errors[-1] / 2) / count**2,
        "fpr_at_95_tpr": _fpr_at_95_tpr(images),
    }
    for percent in (1, 5):
        is_low = errors <= percent / 100 * accepted + ROUNDING
        result[f"coverage_at_risk_{percent}"] = (accepted * is_low).max() / count
    return {name: float(value) for name, value in result.items()}


def _fpr_at_95_tpr(images: RankedImages) -> float:
    right, wrong = images.margin[images.correct == 1], images.margin[images.correct == 0]  # in order
    if not len(right) or not len(wrong):
        return torch.nan
    accepted_right = -(-95 * len(right) // 100)  # 95% of them, rounded up
    return float((wrong >= right[-accepted_right]).double().mean())
