"""Refinement and calibration against probmetrics, on scores that are known, and on images that leave nothing to learn."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.outputs import sample
from torch import Tensor

from vgg_nll.calibration import MAX_TEMPERATURE
from vgg_nll.calibration.decomposition import decompose, random_folds

CASES = json.loads(Path(__file__).with_name("decomposition_values.json").read_text(encoding="utf-8"))["cases"]
NAMES = {f"{part}_{score}{end}" for part in ("refinement", "calibration") for score in ("nll", "brier") for end in ("", "_svs")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_probmetrics(case: dict[str, Any]) -> None:
    logits, label = torch.tensor(case["logits"], dtype=torch.float64), torch.tensor(case["labels"])
    found = decompose(logits, label)
    assert found.keys() == case["decomposition"].keys() == NAMES
    assert found == pytest.approx(case["decomposition"], abs=1e-6)
    for name, value in case["as_is"].items():  # other folds, no smoothing of the fit, a mixture instead
        ours = name.removesuffix("_ts-mix_cv-5").replace("calib-err", "calibration").replace("logloss", "nll")
        assert found[ours] == pytest.approx(value, abs=0.05)


@pytest.mark.parametrize("suffix", ["", "_svs"])
def test_parts_sum_to_the_score(suffix: str) -> None:
    draw = torch.Generator().manual_seed(0)
    logits, label = 3 * torch.randn(83, 4, generator=draw), torch.randint(4, (83,), generator=draw)
    found = decompose(logits, label)
    p = logits.double().softmax(1)
    one_hot = torch.nn.functional.one_hot(label, 4)
    nll = float(torch.nn.functional.cross_entropy(logits.double(), label))
    brier = float((p - one_hot).square().sum(1).mean())
    assert found[f"refinement_nll{suffix}"] + found[f"calibration_nll{suffix}"] == pytest.approx(nll, rel=1e-12)
    assert found[f"refinement_brier{suffix}"] + found[f"calibration_brier{suffix}"] == pytest.approx(brier, rel=1e-12)


def test_without_vector_scaling_the_rest_is_the_same() -> None:
    logits, target = sample(80)
    whole = decompose(logits, target)
    assert decompose(logits, target, with_svs=False) == {name: v for name, v in whole.items() if not name.endswith("_svs")}
    assert len(whole) == 8


def test_a_seed_gives_the_folds() -> None:
    draw = torch.Generator().manual_seed(0)
    logits, label = torch.randn(83, 4, generator=draw), torch.randint(4, (83,), generator=draw)
    assert decompose(logits, label) == decompose(logits, label, seed=0) != decompose(logits, label, seed=1)


@pytest.mark.parametrize("images", [2, 4, 7, 83])
def test_folds_are_of_one_size(images: int) -> None:
    fold = random_folds(images, 0)
    count = fold.bincount()
    assert len(count) == min(5, images) and count.max() - count.min() <= 1
    assert images < 83 or not torch.equal(fold, random_folds(images, 1))


@pytest.mark.parametrize("images", [2, 3, 9, 40])
@pytest.mark.parametrize(("what", "shift"), [("right", 0), ("wrong", 1), ("one class", None)])
def test_defined_on_few_and_on_extreme_labels(images: int, what: str, shift: int | None) -> None:
    true = torch.arange(images) % 3
    logits = 6 * torch.eye(3)[true]
    label = torch.zeros_like(true) if shift is None else (true + shift) % 3
    found = decompose(logits, label)
    assert found.keys() == NAMES and all(map(math.isfinite, found.values()))
    if what == "right":  # one wrong image more is expected: confidence falls, and the score rises
        assert found["calibration_nll"] < 0 and found["refinement_nll"] < 2 / images
    if what == "wrong":  # no temperature is better than the constant prediction
        assert math.log(3) < found["refinement_nll"] < math.log(3) + 6 / MAX_TEMPERATURE


@pytest.mark.parametrize("logits", [torch.zeros(0, 3), torch.zeros(1, 3), torch.tensor([[0.0, math.inf]]).repeat(9, 1)])
def test_nan_if_nothing_can_be_fitted(logits: Tensor) -> None:
    found = decompose(logits, torch.zeros(len(logits), dtype=torch.long))
    assert found.keys() == NAMES and all(map(math.isnan, found.values()))


@pytest.mark.parametrize("draws", [pytest.param(50, marks=pytest.mark.slow), pytest.param(1000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_the_known_excess_is_recovered(draws: int, factor: float) -> None:
    """Labels drawn from `softmax(z)`, outputs `softmax(factor z)`: the excess is the KL divergence of the two, 0 for factor 1.

    What is missing is the cost of the fit: 1 / (2 n) for one parameter, with n = 287 images of four folds; less than 19 / (2 n)
    for SVS, whose 20 parameters are penalised, and count as 19, since a common shift changes nothing.
    """
    excess, found = [], []
    for seed in range(draws):
        draw = torch.Generator().manual_seed(seed)
        logits = 2 * torch.randn(359, 10, generator=draw, dtype=torch.float64)
        log_p, log_q = logits.log_softmax(1), (factor * logits).log_softmax(1)
        label = torch.multinomial(log_p.exp(), 1, generator=draw)
        parts = decompose(factor * logits, label[:, 0])
        found.append([parts["calibration_nll"], parts["calibration_nll_svs"]])
        of_labels, divergence = (log_p - log_q).gather(1, label).mean(), (log_p.exp() * (log_p - log_q)).sum(1).mean()
        excess.append([of_labels, divergence])
    of_labels, divergence = torch.tensor(excess, dtype=torch.float64).T
    temperature, svs = torch.tensor(found, dtype=torch.float64).T

    def error(values: Tensor) -> float:
        return 4 * float(values.std()) / math.sqrt(draws) + 1e-4

    cost = 1 / (2 * 287)
    assert float((divergence - temperature).mean()) == pytest.approx(cost, abs=error(divergence - temperature))
    # The excess on the labels that were drawn has the same noise as the score, so this is sharper.
    assert float((of_labels - temperature).mean()) == pytest.approx(cost, abs=error(of_labels - temperature))
    assert cost < float((of_labels - svs).mean()) < 19 * cost
    assert float(divergence.mean()) == pytest.approx(0.0 if factor == 1 else 0.29, abs=0.02)
