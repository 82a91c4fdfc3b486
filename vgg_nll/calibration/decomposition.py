"""Proper scores in two parts: calibration, which recalibration takes away, and refinement, which is left (arXiv:2501.19195)."""

import math

import numpy as np
import torch
from torch import Tensor

from vgg_nll.calibration import vector_scaling

FOLDS = 5
SCORES = ("nll", "brier")
SUFFIXES = ("", "_svs")  # temperature scaling, structured vector scaling


def decompose(logits: Tensor, target: Tensor, *, seed: int = 0) -> dict[str, float]:
    """Splits the NLL and the Brier score of N images: `score = refinement_<score> + calibration_<score>`.

    `refinement_<score>` is the mean score after recalibration: the logits of each of 5 folds are recalibrated by what was
    fitted to the other folds. `calibration_<score>` is what this takes away from the mean score of the outputs as they are. The
    calibrator is `temperature.fit`; figures with the suffix `_svs` are those of `vector_scaling.fit`.

    A calibration part may be negative: the calibrator is fitted to n = 4 N / 5 images, and costs NLL on those that it has not
    seen: about `1 / (2 n)` for the temperature, up to `(2 C - 1) / (2 n)` for SVS. If the outputs are calibrated, nothing pays
    for that. The `_svs` figures also count it as calibration if a class is predicted too often; predictions may change. True
    refinement may be less than either: another calibrator may take away more.

    Folds are drawn by the seed, and not stratified: in stratified folds, the frequencies of labels, with their noise, are the
    same in all of them. The shift of SVS then fits that noise and is rewarded for it (in a simulation with N = 359 and C = 10,
    calibrated outputs had a `calibration_brier_svs` of 0.0013 +- 0.0001 over 400 draws; with these folds, -0.0029).

    Args:
        logits: [N, C]; target: [N].

    Returns:
        `refinement_nll`, `calibration_nll`, `refinement_brier`, `calibration_brier`, and these with the suffix `_svs`. The NLL
        is in nats; the Brier score is the sum over classes, 0 to 2. All are NaN for fewer than 2 images, which leave none to
        fit to, and if a logit is not finite.
    """
    defined = len(target) >= 2 and bool(logits.isfinite().all())
    before, *after = _cross_fitted(logits.double(), target, seed) if defined else [[math.nan, math.nan]] * 3
    figures = {}
    for suffix, recalibrated in zip(SUFFIXES, after, strict=True):
        for score, whole, left in zip(SCORES, before, recalibrated, strict=True):
            figures[f"refinement_{score}{suffix}"], figures[f"calibration_{score}{suffix}"] = left, whole - left
    return figures


def _cross_fitted(logits: Tensor, target: Tensor, seed: int) -> list[list[float]]:
    """Returns the mean scores: of the outputs as they are, after each fold's temperature, after its vector scaling; [3, 2]."""
    fold = random_folds(len(target), seed).to(logits.device)
    at_temperature, at_svs = torch.zeros(2, len(SCORES), dtype=torch.float64, device=logits.device)
    for k in range(FOLDS):
        fitted = vector_scaling.fit(logits[fold != k], target[fold != k])
        held_out, label = logits[fold == k], target[fold == k]
        at_temperature += _scores(held_out / fitted.temperature, label)
        at_svs += _scores(fitted.apply(held_out), label)
    return [(sums / len(target)).tolist() for sums in (_scores(logits, target), at_temperature, at_svs)]


def random_folds(images: int, seed: int) -> Tensor:
    """Returns the fold of each image [N], 0 to 4, or to N - 1 if that is less; their sizes differ by one at most."""
    order = np.random.default_rng(seed).permutation(images)
    fold = torch.empty(images, dtype=torch.long)
    fold[order] = torch.arange(images) % FOLDS
    return fold


def _scores(logits: Tensor, target: Tensor) -> Tensor:
    """Returns the sums over images of the NLL and of the Brier score, [2]."""
    log_p = torch.log_softmax(logits, dim=1)
    label = target[:, None]
    nll = -log_p.gather(1, label).sum()
    p = log_p.exp_()
    brier = p.square().sum() - 2 * p.gather(1, label).sum() + len(target)
    return torch.stack([nll, brier])
