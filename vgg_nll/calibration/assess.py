"""All figures of how far a confidence may be trusted, from logits and labels."""

import torch
from torch import Tensor

from vgg_nll.calibration.bootstrap import intervals
from vgg_nll.calibration.decomposition import decompose
from vgg_nll.calibration.noise_floor import DRAWS, noise_floor
from vgg_nll.calibration.ranking import rank
from vgg_nll.calibration.scores import debiased_rms_ce, ranking_scores, smooth_ece


def assess(
    logits: Tensor, labels: Tensor, *, with_svs: bool = False, seed: int = 0, draws: int = DRAWS
) -> dict[str, float | list[float]]:
    """Returns the figures of `noise_floor`, `decompose`, `scores` and `bootstrap` by name; the same for the same seed.

    A figure that is not defined is NaN: `fpr_at_95_tpr` if no image is right or none is wrong, `debiased_rms_ce` and the parts
    of scores if there is one image, these parts if a logit is infinite, and all figures if a probability is NaN, as those of a
    logit of `+inf` are.

    Args:
        logits: [N, C], any floating type, N >= 1; labels: [N], int64.
        with_svs: whether scores are split by structured vector scaling, too, which takes most of the time.
        draws: labels that are drawn for each image.
    """
    images = rank(logits, labels)
    is_defined = not images.probabilities.isnan().any()
    if not is_defined:
        images = rank(torch.zeros_like(logits), labels)  # for the names
    figures: dict[str, float | list[float]] = {
        **decompose(logits, labels, seed=seed, with_svs=with_svs),
        **noise_floor(images, seed=seed, draws=draws),
        "smooth_ece": smooth_ece(images),
        "debiased_rms_ce": debiased_rms_ce(images),
        **ranking_scores(images),
        **intervals(images, seed=seed),
    }
    if is_defined:
        return figures
    return {name: [torch.nan] * 2 if isinstance(value, list) else torch.nan for name, value in figures.items()}
