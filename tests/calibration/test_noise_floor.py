"""The twin against other packages, exact sums, and simulations of calibrated outputs."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.outputs import measure, sample
from scipy.stats import binom, binomtest, norm
from torch import Tensor

from vgg_nll.calibration.bins import NUM_BINS, bin_index
from vgg_nll.calibration.noise_floor import binned_errors, draw_labels, expected_ece, noise_floor
from vgg_nll.calibration.ranking import RankedImages, rank

REFERENCE = json.loads(Path(__file__).with_name("reference_values.json").read_text(encoding="utf-8"))
NAMES = ("ece", "mce", "adaptive_ece", "classwise_ece")


def digits(count: int = 359) -> Tensor:
    """Logits [N, 2] with margins as a network's for the digits are: a folded normal distribution, mean confidence 98.85%."""
    quantile = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    margin = (5.5 + 1.5 * torch.from_numpy(norm.ppf(quantile))).abs()
    return torch.stack([margin, torch.zeros(count)], dim=1)


def calibrated(logits: Tensor, seed: int) -> RankedImages:
    """Outputs, and labels that are drawn from them by numpy."""
    draw = np.random.default_rng(seed)
    p = logits.double().softmax(1).numpy()
    label = (p.cumsum(1) > draw.random((len(p), 1))).argmax(1)
    return rank(logits, torch.from_numpy(label))


def sums_of_bins(confidence: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the images of each bin, and the sum of their confidences."""
    is_in_bin = torch.nn.functional.one_hot(bin_index(confidence), NUM_BINS).double()
    return is_in_bin.sum(0), confidence @ is_in_bin


@pytest.mark.parametrize("case", ["flat", "moderate", "confident", "accurate"])
def test_errors_are_netcals(case: str) -> None:
    values = REFERENCE[case]
    logits, label = sample(gain=values["gain"])
    images = rank(values["scale"] * logits.double(), label)
    found = binned_errors(images, images.label[None])
    assert float(found["ece"]) == pytest.approx(values["ece"], abs=1e-9)
    assert float(found["mce"]) == pytest.approx(values["mce"], abs=1e-9)


@pytest.mark.parametrize("rounded", [False, True])
def test_errors_of_many_sets_of_labels_are_those_of_evaluation(rounded: bool) -> None:
    """Also with ties: few different rows."""
    logits, label = sample()
    if rounded:
        logits = logits[torch.arange(300) % 7]
    images = rank(logits, label)
    sets = draw_labels(images.probabilities, 5, 3)
    found = binned_errors(images, sets)
    for k, labels in enumerate(sets):
        expected = measure(images.probabilities.log(), labels, 300)
        assert {name: float(found[name][k]) for name in NAMES} == pytest.approx({name: expected[name] for name in NAMES})


def test_figures_follow_from_the_errors() -> None:
    images = rank(*sample())
    observed = binned_errors(images, images.label[None])
    twins = binned_errors(images, draw_labels(images.probabilities, 99, 5))
    found = noise_floor(images, seed=5, draws=99)
    for name in NAMES:
        errors, value = twins[name].numpy(), float(observed[name])
        assert found[f"{name}_noise_floor"] == pytest.approx(errors.mean())
        assert found[f"{name}_noise_floor_p95"] == pytest.approx(np.quantile(errors, 0.95))
        assert found[f"{name}_excess"] == pytest.approx(value - errors.mean())
        assert found[f"{name}_p_value"] == (1 + sum(e >= value for e in errors)) / 100
    assert len(found) == 16


def test_labels_have_the_distribution_of_the_outputs() -> None:
    """Chi squared with 9 degrees of freedom, of 20,000 labels of each of 3 rows; a probability of 0 is never drawn."""
    p = torch.tensor([[0.0, 0.5, 0.2, 0.0, 0.3] * 2, [0.1] * 10, [0.91] + [0.01] * 9], dtype=torch.float64)
    p[0] /= 2
    labels = draw_labels(p, 20_000, 0)
    for n, row in enumerate(p):
        counts = labels[:, n].bincount(minlength=10)
        assert not counts[row == 0].any()
        expected = 20_000 * row[row > 0]
        assert float(((counts[row > 0] - expected) ** 2 / expected).sum()) < 27.9  # one in a thousand


def test_labels_depend_on_the_seed_only() -> None:
    p = rank(*sample()).probabilities
    first, again, other = (draw_labels(p, 3, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_one_draw_at_a_time_and_all_at_once_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    images = rank(*sample())
    together = noise_floor(images)
    monkeypatch.setattr("vgg_nll.calibration.noise_floor.LARGEST_TABLE", 1)
    assert noise_floor(images) == together


@pytest.mark.parametrize(
    ("n", "c"), [(1, 0.5), (10, 0.05), (20, 0.95), (359, 0.9971), (1000, 0.3), (50, 1.0), (50, 0.0), (4, 0.5)]
)
def test_expected_ece_of_equal_confidences_is_exact(n: int, c: float) -> None:
    k = np.arange(n + 1)
    expected = (binom.pmf(k, n, c) * abs(k - n * c)).sum() / n
    images, confidence = torch.zeros(2, NUM_BINS, dtype=torch.float64)
    images[7], confidence[7] = n, n * c
    assert float(expected_ece(images, confidence)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_expected_ece_of_unequal_confidences_is_a_bound() -> None:
    """Against the exact distribution of the right images of each bin, added image by image: at most 2% above, never below."""
    confidence = rank(digits(), torch.zeros(359, dtype=torch.long)).confidence
    exact = 0.0
    for b in bin_index(confidence).unique():
        members = confidence[bin_index(confidence) == b].numpy()
        pmf = np.ones(1)
        for c in members:
            pmf = np.convolve(pmf, [1 - c, c])
        exact += (pmf * abs(np.arange(len(pmf)) - members.sum())).sum() / 359
    found = float(expected_ece(*sums_of_bins(confidence)))
    assert exact <= found <= 1.02 * exact
    twins = binned_errors(rank(digits(), torch.zeros(359, dtype=torch.long)), draw_labels(digits().softmax(1), 400, 0))["ece"]
    assert float(twins.mean()) == pytest.approx(exact, abs=4 * float(twins.std()) / 20)


def test_the_digits_have_a_floor() -> None:
    """359 images that are right in 98.85% of the cases: an ECE of 0.79%, and 1.38% at the 95th percentile, by chance alone."""
    found = noise_floor(rank(digits(), torch.zeros(359, dtype=torch.long)), draws=1000)
    assert found["ece_noise_floor"] == pytest.approx(0.0079, abs=0.0003)
    assert found["ece_noise_floor_p95"] == pytest.approx(0.0138, abs=0.0010)


@pytest.mark.parametrize(
    "logits",
    [torch.tensor([[40.0, 0.0]] * 60), torch.tensor([[0.0, -torch.inf]] * 60), torch.tensor([[0.0, -torch.inf]])],
)
def test_certain_outputs_have_no_floor(logits: Tensor) -> None:
    """All right: as calibrated as can be. All wrong: no twin is."""
    right, wrong = (noise_floor(rank(logits, torch.full((len(logits),), k)), draws=99) for k in (0, 1))
    for name in NAMES:
        assert right[f"{name}_noise_floor"] == pytest.approx(0, abs=1e-12)
        assert right[f"{name}_p_value"] == 1
        assert (wrong[f"{name}_excess"], wrong[f"{name}_p_value"]) == pytest.approx((1, 0.01))


def check_p_values(repeats: int, draws: int) -> None:
    """Of calibrated outputs of ten classes: P(p <= 0.05) and P(p <= 0.5) within the limits of a binomial count.

    That of MCE may be less: the error of a bin with one image takes two values, so many twins tie.
    """
    logits, _ = sample(120)
    p_values = [noise_floor(calibrated(logits, seed), seed=seed, draws=draws) for seed in range(repeats)]
    for name in NAMES:
        values = np.array([figures[f"{name}_p_value"] for figures in p_values])
        for level in (0.05, 0.5):
            count = int((values <= level).sum())
            print(f"{name}: P(p <= {level}) = {count / repeats:.3f} of {repeats}")
            side = "greater" if name == "mce" else "two-sided"
            assert binomtest(count, repeats, level, side).pvalue > 1e-3, (name, level, count)


def test_p_values_are_uniform() -> None:
    check_p_values(50, 99)


@pytest.mark.soak
def test_p_values_are_uniform_in_a_thousand_draws() -> None:
    check_p_values(1000, 199)


def test_overconfident_outputs_are_found() -> None:
    """Labels from the outputs at half the logits: every binned error is above its floor."""
    logits, _ = sample()
    truth = calibrated(logits / 2, 0)
    judged = rank(2 * truth.probabilities.log(), truth.label)
    found = noise_floor(judged)
    assert all(found[f"{name}_excess"] > 0 for name in NAMES)
    assert [found[f"{name}_p_value"] for name in ("ece", "adaptive_ece", "classwise_ece")] == [1 / 201] * 3
    assert math.isfinite(found["mce_p_value"])
