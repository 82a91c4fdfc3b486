"""Scores against the packages of reference_values.json, scikit-learn, and definitions written out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.outputs import measure, sample
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from vgg_nll.calibration.ranking import RankedImages, rank
from vgg_nll.calibration.scores import MIN_BANDWIDTH, debiased_rms_ce, ranking_scores, smooth_accuracy, smooth_ece

REFERENCE = json.loads(Path(__file__).with_name("reference_values.json").read_text(encoding="utf-8"))
CASES = ["flat", "moderate", "confident", "accurate"]


def reference(case: str) -> tuple[RankedImages, dict[str, Any]]:
    values = REFERENCE[case]
    logits, label = sample(gain=values["gain"])
    return rank(values["scale"] * logits.double(), label), values


def images(confidence: list[float], correct: list[int]) -> RankedImages:
    """Of two classes; the first one is predicted."""
    p = torch.tensor(confidence, dtype=torch.float64)
    return rank(torch.stack([torch.zeros_like(p), -p.logit()], dim=1), 1 - torch.tensor(correct))


@pytest.mark.parametrize("case", CASES)
def test_against_other_packages(case: str) -> None:
    """torch-uncertainty's area begins at a coverage of 1/N and is divided by 1 - 1/N: the first image's part is missing."""
    found, values = reference(case)
    assert debiased_rms_ce(found) == pytest.approx(values["debiased_rms_ce"], abs=1e-9)
    scores, count = ranking_scores(found), len(found.label)
    for name in ("e_aurc", "fpr_at_95_tpr", "coverage_at_risk_1", "coverage_at_risk_5"):
        assert scores[name] == pytest.approx(values[name], abs=1e-6), name
    first = (1 - float(found.correct[-1])) / (2 * count**2)
    assert scores["augrc"] == pytest.approx(values["augrc"] * (1 - 1 / count) + first, abs=1e-6)


def test_smooth_ece_is_relplots() -> None:
    """With the mesh of the release, which ends its search in steps of 1/1024, within 1e-3."""
    found, values = reference("flat")
    assert smooth_ece(found) == pytest.approx(values["smooth_ece"], abs=1e-6)
    assert smooth_ece(found) == pytest.approx(values["smooth_ece_released"], abs=1e-3)


@pytest.mark.parametrize("case", CASES)
def test_smooth_ece_by_quadrature(case: str) -> None:
    """Gaussians at every confidence and its mirror images. Confidences of 1 count in full, unlike in relplot 1.0.3."""
    found, _ = reference(case)
    confidence, residual = found.confidence.numpy(), (found.confidence - found.correct).numpy()
    s = smooth_ece(found)
    centres = np.concatenate([side * confidence + 2 * j for j in range(-2, 3) for side in (1, -1)])

    def smoothed(t: float) -> float:
        return abs(float((np.tile(residual, 10) * norm.pdf(t, centres, s)).mean() * 10))

    assert quad(smoothed, 0, 1, epsabs=1e-8, limit=200)[0] == pytest.approx(s, abs=1e-6)


@pytest.mark.parametrize(
    ("confidence", "correct", "expected"),
    [([1.0, 1.0], [1, 1], 0.0), ([1.0, 1.0], [0, 0], 1.0), ([0.9] * 10, [0] * 10, 0.9), ([1.0] * 4, [1, 1, 0, 0], 0.5)],
)
def test_smooth_ece_at_the_ends(confidence: list[float], correct: list[int], expected: float) -> None:
    """If all residuals have one sign in every place, no bandwidth changes the integral."""
    assert smooth_ece(images(confidence, correct)) == pytest.approx(expected, abs=1e-9)


def test_smooth_ece_of_a_small_error_is_at_the_least_bandwidth() -> None:
    assert smooth_ece(images([1 - 1e-5] * 50, [1] * 50)) == pytest.approx(1e-5, rel=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_augrc_in_closed_form(case: str) -> None:
    """(1 - AUROC) acc (1 - acc) + (1 - acc)^2 / 2, equation 5 of arXiv:2407.01032."""
    found, _ = reference(case)
    acc, auroc = float(found.correct.mean()), roc_auc_score(found.correct, found.margin)
    assert ranking_scores(found)["augrc"] == pytest.approx((1 - auroc) * acc * (1 - acc) + (1 - acc) ** 2 / 2, abs=1e-12)


@pytest.mark.parametrize("decimals", [0, 1])
def test_ties_of_ranks(decimals: int) -> None:
    """Few margins: against scikit-learn, and e_aurc against the metrics of evaluation less the best order."""
    logits, label = sample()
    logits = torch.stack([logits[:, 0].round(decimals=decimals), torch.zeros(300)], dim=1)
    label = label.clamp(max=1)
    found = rank(logits, label)
    scores = ranking_scores(found)
    right, margin = found.correct.numpy(), found.margin.numpy()
    fpr, tpr, _ = roc_curve(right, margin, drop_intermediate=False)
    assert scores["fpr_at_95_tpr"] == pytest.approx(fpr[tpr >= 0.95][0])
    acc, auroc = right.mean(), roc_auc_score(right, margin)
    assert scores["augrc"] == pytest.approx((1 - auroc) * acc * (1 - acc) + (1 - acc) ** 2 / 2, abs=1e-12)
    best = np.cumsum(np.sort(1 - right)) / np.arange(1, 301)
    assert scores["e_aurc"] == pytest.approx(measure(logits, label, 300)["aurc"] - best.mean(), abs=1e-12)


@pytest.mark.parametrize(
    ("correct", "at_1", "at_5"),
    [
        ([1] * 100, 1.0, 1.0),
        ([0] * 100, 0.0, 0.0),
        ([0] + [1] * 99, 1.0, 1.0),  # the most confident one is wrong: 1 of 100 in the end
        ([1] * 20 + [0] * 80, 0.2, 0.21),
        ([1] * 19 + [0] * 81, 0.19, 0.2),
    ],
)
def test_coverage_at_risk(correct: list[int], at_1: float, at_5: float) -> None:
    """The most confident image first."""
    scores = ranking_scores(images(list(np.linspace(0.99, 0.6, 100)), correct))
    assert (scores["coverage_at_risk_1"], scores["coverage_at_risk_5"]) == pytest.approx((at_1, at_5))


def test_coverage_of_ties() -> None:
    """One wrong image among 20 of one confidence: 5% at each of them; and none is below 1%."""
    scores = ranking_scores(images([0.8] * 20 + [0.6] * 20, [0] + [1] * 19 + [0] * 20))
    assert (scores["coverage_at_risk_1"], scores["coverage_at_risk_5"]) == pytest.approx((0, 0.5))


@pytest.mark.parametrize("right", [19, 20, 21, 100])
def test_95_of_100_right_images(right: int) -> None:
    """The right images have margins from 0.6 upwards; a wrong one is below each of them."""
    confidence = np.linspace(0.6, 0.99, right)
    found = images([*confidence, *(confidence - 1e-3)], [1] * right + [0] * right)
    fpr, tpr, _ = roc_curve(found.correct, found.margin, drop_intermediate=False)
    assert ranking_scores(found)["fpr_at_95_tpr"] == pytest.approx(fpr[tpr >= 0.95 - 1e-12][0])


@pytest.mark.parametrize(
    ("confidence", "correct", "expected"),
    [
        ([0.9], [1], np.nan),
        ([0.8] * 4, [1, 1, 1, 1], 0.2),
        ([0.75] * 4, [1, 1, 1, 0], 0.0),  # calibrated, less its bias: below 0
        ([0.9] * 4, [0, 0, 1, 1], (0.16 - 0.25 / 3) ** 0.5),
        ([0.6, 0.6, 0.9, 0.9], [1, 0, 0, 0], ((0.01 - 0.25 + 0.81) / 2) ** 0.5),
        ([0.6, 0.7, 0.9], [1, 1, 1], ((0.4 + 0.3 + 0.1) / 3)),
    ],
)
def test_debiased_rms_by_hand(confidence: list[float], correct: list[int], expected: float) -> None:
    assert debiased_rms_ce(images(confidence, correct)) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_the_smooth_curve() -> None:
    """Against means with SciPy's density, of the images and of their mirror images; nothing where no image is near."""
    found = rank(*sample(50))
    at, bandwidth = np.array([0.3, 0.6, 0.97]), 0.05
    confidence, correct = found.confidence.numpy(), found.correct.numpy()
    density = sum(norm.pdf(at[:, None], center, bandwidth) for center in (confidence, -confidence, 2 - confidence))
    expected = (density * correct).sum(1) / density.sum(1)
    curve = smooth_accuracy(found.confidence, found.correct, bandwidth, torch.from_numpy(at))
    np.testing.assert_allclose(curve.numpy(), expected, rtol=1e-12)
    at_all, one = torch.linspace(0, 1, 1001, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    alone, is_near = smooth_accuracy(0.9 * one, one, 0.0, at_all), (at_all - 0.9).abs() <= MIN_BANDWIDTH + 1e-9
    assert torch.equal(alone.isfinite(), is_near) and alone[is_near].eq(1).all()
