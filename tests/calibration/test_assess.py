"""Every figure at once, for outputs of every kind."""

import math

import pytest
import torch
from helpers.outputs import sample
from torch import Tensor

from vgg_nll.calibration.assess import assess
from vgg_nll.calibration.noise_floor import noise_floor
from vgg_nll.calibration.ranking import rank

LOGITS, LABEL = sample(60)
RIGHT = LOGITS.argmax(1)
CERTAIN = torch.zeros(60, 10).masked_fill(torch.nn.functional.one_hot(LABEL, 10) == 0, -torch.inf)
PARTS = {f"{part}_{score}" for part in ("refinement", "calibration") for score in ("nll", "brier")}
AUROC_TYPE = {"fpr_at_95_tpr", "auroc_interval"}
ALL_BUT_ACCURACY = {f"{name}_interval" for name in ("nll_argmax", "brier", "confidence", "overconfidence", "aurc", "auroc")}


def undefined(figures: dict[str, float | list[float]]) -> set[str]:
    """The names of figures that are NaN."""
    return {name for name, value in figures.items() if any(map(math.isnan, value if isinstance(value, list) else [value]))}


@pytest.mark.parametrize(
    ("logits", "label", "expected"),
    [
        (LOGITS, LABEL, set()),
        (LOGITS[:20], LABEL[:20], set()),
        (LOGITS[:1], RIGHT[:1], ALL_BUT_ACCURACY | PARTS | {"fpr_at_95_tpr", "debiased_rms_ce"}),
        (LOGITS[:2], RIGHT[:2], AUROC_TYPE),
        (LOGITS, torch.zeros_like(LABEL), set()),  # one class in the labels
        (LOGITS, RIGHT, AUROC_TYPE),
        (LOGITS, (RIGHT + 1) % 10, AUROC_TYPE),
        (LOGITS[:, :2], LABEL % 2, set()),
        (torch.zeros(60, 10), LABEL, set()),
        (1e4 * LOGITS, LABEL, set()),  # probabilities of exactly 0 and 1
        (CERTAIN, LABEL, AUROC_TYPE | PARTS),
        (
            CERTAIN,
            torch.cat([LABEL[:50], LABEL[50:] - 1]) % 10,
            {"nll_argmax_interval"} | PARTS,
        ),  # labels with a probability of 0
        (LOGITS.half(), LABEL, set()),
    ],
)
def test_what_is_undefined(logits: Tensor, label: Tensor, expected: set[str]) -> None:
    assert undefined(assess(logits, label, draws=20)) == expected


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_without_probabilities_all_figures_are_undefined(value: float) -> None:
    logits = LOGITS.clone()
    logits[3, 4] = value
    found = assess(logits, LABEL, draws=20)
    assert undefined(found) == set(found) == set(assess(LOGITS, LABEL, draws=20))


def test_figures_have_their_names_and_seed() -> None:
    found = assess(LOGITS, LABEL, seed=3, draws=50)
    names = {"ece_noise_floor", "ece_p_value", "smooth_ece", "debiased_rms_ce", "augrc", "e_aurc", "accuracy_interval"}
    assert names <= set(found)
    assert found == assess(LOGITS, LABEL, seed=3, draws=50) != assess(LOGITS, LABEL, seed=4, draws=50)
    assert found["mce_p_value"] == noise_floor(rank(LOGITS, LABEL), seed=3, draws=50)["mce_p_value"]


def test_the_order_of_the_images_means_nothing() -> None:
    """But to the folds of the parts of scores, which are drawn by place."""
    backwards = assess(LOGITS.flip(0), LABEL.flip(0), draws=20)
    for name, value in assess(LOGITS, LABEL, draws=20).items():
        assert backwards[name] == pytest.approx(
            value, rel=0.1 if name in PARTS else None, abs=0.05 if name in PARTS else None
        ), name
