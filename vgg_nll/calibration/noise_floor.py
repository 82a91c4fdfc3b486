"""What chance alone gives: the binned calibration errors of a twin that is calibrated by construction.

A binned error is never negative, so a perfectly calibrated network has one, too. It is the larger, the fewer the images are.
The twin has the outputs of the judged network, and labels that are drawn from these outputs. Its error is the noise floor.
"""

import torch
from torch import Tensor

from vgg_nll.calibration import bins
from vgg_nll.calibration.bins import NUM_BINS, bin_index
from vgg_nll.calibration.ranking import CHUNK, RankedImages, share_ties

DRAWS = 200
LARGEST_TABLE = 1 << 22  # elements of [draws, C, NUM_BINS] at a time: 32 MB
ROUNDING = 1e-12  # of two errors that count as equal


def noise_floor(images: RankedImages, *, seed: int = 0, draws: int = DRAWS) -> dict[str, float]:
    """Returns four figures for each of `ece`, `mce`, `adaptive_ece`, `classwise_ece`.

    `<name>_noise_floor` and `<name>_noise_floor_p95` are the mean and the 95th percentile over the twins. `<name>_excess` is
    the error less the mean. `<name>_p_value` is `(1 + number of twins with an error at least as large) / (1 + draws)`: if the
    outputs are calibrated, it is at most a with a probability of at most a (the resampling of arXiv:1902.06977, and Davison and
    Hinkley 1997, section 4.2).
    """
    observed = binned_errors(images, images.label[None])
    twins = binned_errors(images, draw_labels(images.probabilities, draws, seed))
    result = {}
    for name, errors in twins.items():
        error, floor = observed[name][0], errors.mean()
        result[f"{name}_noise_floor"] = floor
        result[f"{name}_noise_floor_p95"] = errors.quantile(0.95)
        result[f"{name}_excess"] = error - floor
        result[f"{name}_p_value"] = (1 + (errors >= error - ROUNDING).double().sum()) / (1 + draws)
    return {name: float(value) for name, value in result.items()}


def draw_labels(probabilities: Tensor, draws: int, seed: int) -> Tensor:
    """Returns labels [draws, N], those of image n drawn from row n of `probabilities` [N, C]; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    labels = []
    for rows in probabilities.split(CHUNK):
        cumulative = rows.cumsum(1)
        position = (
            torch.rand(len(rows), draws, dtype=torch.float64, generator=generator) * cumulative[:, -1:]
        )  # sums to about 1
        labels.append(torch.searchsorted(cumulative, position, right=True).clamp(max=rows.shape[1] - 1))
    return torch.cat(labels).T.contiguous()


def binned_errors(images: RankedImages, labels: Tensor) -> dict[str, Tensor]:
    """Returns `ece`, `mce`, `adaptive_ece` and `classwise_ece` of the outputs, each [D], for D sets of labels [D, N].

    The bins depend on the outputs only, so they are made once for all sets.
    """
    confidence = images.confidence
    of_confidence = bin_index(confidence)
    is_in_bin = torch.nn.functional.one_hot(of_confidence, NUM_BINS).double()  # [N, NUM_BINS]
    correct = (labels == images.prediction).double()  # [D, N]
    return bins.of_bins(is_in_bin.sum(0), correct @ is_in_bin, confidence @ is_in_bin) | {
        "adaptive_ece": bins.adaptive(confidence, share_ties(images.margin, correct)),
        "classwise_ece": _classwise(images.probabilities, labels),
    }


def _classwise(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Returns the class-wise ECE [D] of the outputs [N, C] for D sets of labels [D, N]."""
    classes = probabilities.shape[1]
    by_bin = torch.zeros(NUM_BINS, classes, dtype=torch.float64)
    for rows in probabilities.split(CHUNK):
        by_bin.scatter_add_(0, bin_index(rows), rows)
    cell = labels * NUM_BINS + bin_index(probabilities.gather(1, labels.T)).T  # [D, N], of the table of one set
    cells = classes * NUM_BINS
    errors = []
    for part in cell.split(max(1, LARGEST_TABLE // cells)):
        table = (part + cells * torch.arange(len(part))[:, None]).flatten().bincount(minlength=len(part) * cells)
        errors.append(bins.classwise(table.view(len(part), classes, NUM_BINS).double(), by_bin.T))
    return torch.cat(errors)


def expected_ece(bin_images: Tensor, bin_confidence: Tensor) -> Tensor:
    """Returns the expected ECE of a calibrated twin, from the sums of equal bins of confidence, without drawing.

    It is `sum_b E|S_b - n_b c_b| / N`, with `S_b` binomial of `n_b` images and their mean confidence `c_b`. With
    `m = floor(n c) + 1`, `E|S - n c| = 2 m binom(n, m) c^m (1 - c)^(n - m + 1)` (de Moivre 1730). It is exact if the
    confidences of a bin are equal, else an upper bound, by at most a few percent of itself, since a bin is narrow (Hoeffding
    1956). Unlike the mean over twins, it adds no noise of its own to a curve over a training.

    Args:
        bin_images, bin_confidence: [NUM_BINS], images and sum of confidences; float64.
    """
    n = bin_images
    c = (bin_confidence / n.clamp(min=1)).clamp(max=1)
    m = (n * c).floor() + 1
    log_binomial = torch.lgamma(n + 1) - torch.lgamma(m + 1) - torch.lgamma(n - m + 1)  # -inf if m = n + 1: nothing deviates
    deviation = 2 * m * torch.exp(log_binomial + torch.xlogy(m, c) + torch.special.xlog1py(n - m + 1, -c))
    return deviation.sum() / n.sum()
