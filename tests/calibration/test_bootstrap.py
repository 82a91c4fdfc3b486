"""Intervals against loops over resamples, scipy, and simulations with known truths."""

import numpy as np
import pytest
import torch
from helpers.outputs import measure, sample
from numpy.polynomial import Polynomial
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score
from torch import Tensor

from vgg_nll.calibration.bootstrap import intervals, weighted_aurc
from vgg_nll.calibration.ranking import RankedImages, rank

AVERAGES = ("nll_argmax", "brier", "confidence", "accuracy", "overconfidence")


def resamples_of(count: int, resamples: int) -> np.ndarray:
    """The indices [B, N] that `intervals` draws with seed 0."""
    return torch.randint(count, (resamples, count), generator=torch.Generator().manual_seed(0)).numpy()


def test_averages_are_those_of_a_loop() -> None:
    """Student's t of each resample by numpy; its quantiles are values 25 and 975 of 1,000, from either end."""
    logits, label = sample(200)
    images = rank(logits, label)
    found, p = intervals(images), images.probabilities.numpy()
    brier = ((p - np.eye(10)[images.label]) ** 2).sum(1)
    columns = {"nll_argmax": -np.log(p[range(200), images.label]), "brier": brier, "confidence": p.max(1)}
    for name, x in columns.items():
        t = np.sort([(x[i].mean() - x.mean()) / (x[i].std(ddof=1) / 200**0.5) for i in resamples_of(200, 1000)])
        error = x.std(ddof=1) / 200**0.5
        low, high = found[f"{name}_interval"]
        assert low == pytest.approx(x.mean() - t[975] * error, rel=1e-9), name
        assert high == pytest.approx(x.mean() - t[24] * error, rel=1e-9), name


def test_accuracy_is_scipys_wilson() -> None:
    images = rank(*sample(200))
    right = int(images.correct.sum())
    expected = binomtest(right, 200).proportion_ci(method="wilson")
    assert intervals(images)["accuracy_interval"] == pytest.approx([expected.low, expected.high])


def test_overconfidence_by_hand() -> None:
    """Zou and Donner: d - sqrt((a - l_a)^2 + (u_b - b)^2 - 2 rho (a - l_a) (u_b - b)), for d = a - b."""
    images = rank(*sample(200))
    found = intervals(images)
    a, b = float(images.confidence.mean()), float(images.correct.mean())
    rho = np.corrcoef(images.confidence, images.correct)[0, 1]
    (l_a, u_a), (l_b, u_b) = found["confidence_interval"], found["accuracy_interval"]
    low = a - b - ((a - l_a) ** 2 + (u_b - b) ** 2 - 2 * rho * (a - l_a) * (u_b - b)) ** 0.5
    high = a - b + ((u_a - a) ** 2 + (b - l_b) ** 2 - 2 * rho * (u_a - a) * (b - l_b)) ** 0.5
    assert found["overconfidence_interval"] == pytest.approx([low, high])


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_auroc_solves_its_equation(decimals: int) -> None:
    """Newcombe's, multiplied out: a polynomial, whose roots next to the AUROC are the ends. With and without ties."""
    logits = torch.stack([sample(200)[0][:, 0].round(decimals=decimals), torch.zeros(200)], dim=1)
    images = rank(logits, sample(200)[1].clamp(max=1))
    right, seen = int(images.correct.sum()), roc_auc_score(images.correct, images.margin)
    a, half = Polynomial([0, 1]), 200 / 2 - 1
    variance = a * (1 - a) * ((2 - a) * (1 + a) + half * (1 - a) * (1 + a) + half * a * (2 - a)) / (right * (200 - right))
    roots = ((a - seen) ** 2 * (2 - a) * (1 + a) - 1.959963984540054**2 * variance).roots()
    real = np.sort(roots[abs(roots.imag) < 1e-12].real)
    expected = [real[real < seen].max(), real[real > seen].min()]
    assert intervals(images, resamples=2)["auroc_interval"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("labels", "low", "high"), [([0] * 30 + [1] * 3, 0.5, 1.0), ([1] * 3 + [0] * 30, 0.0, 0.5)])
def test_auroc_at_its_ends_has_a_width(labels: list[int], low: float, high: float) -> None:
    """All three wrong images have the smallest margins, or the largest."""
    logits = torch.stack([torch.linspace(9, 1, 33), torch.zeros(33)], dim=1)
    ends = intervals(rank(logits, torch.tensor(labels)), resamples=2)["auroc_interval"]
    assert low < ends[0] + ends[1] < low + high + 0.5 and (high in ends or low in ends) and ends[1] - ends[0] > 0.1


@pytest.mark.parametrize("different", [7, 300])
def test_aurc_of_resamples_is_that_of_evaluation(different: int) -> None:
    """The images of a resample, put through the metrics of evaluation; few different rows tie."""
    logits, label = sample()
    images = rank(logits[torch.arange(300) % different], label)
    picks = resamples_of(300, 5)
    weights = torch.stack([torch.from_numpy(row).bincount(minlength=300) for row in picks]).double()
    for row, found in zip(picks, weighted_aurc(images, weights), strict=True):
        assert float(found) == pytest.approx(measure(images.probabilities[row].log(), images.label[row], 300)["aurc"])


def test_aurc_is_of_percentiles() -> None:
    images = rank(*sample())
    weights = torch.stack([torch.from_numpy(row).bincount(minlength=300) for row in resamples_of(300, 1000)]).double()
    values = weighted_aurc(images, weights).sort().values
    assert intervals(images)["aurc_interval"] == pytest.approx([float(values[24]), float(values[975])])


def test_resamples_depend_on_the_seed_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on how many fit into memory at a time."""
    images = rank(*sample())
    found = intervals(images)
    assert intervals(images, seed=1) != found
    monkeypatch.setattr("vgg_nll.calibration.bootstrap.BLOCK", 3000)
    again = intervals(images)
    assert {name: again[name] for name in found} == {name: pytest.approx(ends, rel=1e-12) for name, ends in found.items()}


def test_equal_confidences_have_an_interval_of_no_width() -> None:
    """And rounding gives it none; the accuracy still has its own."""
    found = intervals(rank(torch.zeros(70, 10), torch.arange(70) % 10))
    assert found["confidence_interval"] == pytest.approx([0.1, 0.1], abs=1e-12)
    assert found["brier_interval"] == pytest.approx([0.9, 0.9], abs=1e-12)
    assert found["overconfidence_interval"] == pytest.approx([0.1 - end for end in found["accuracy_interval"][::-1]])


def draw_images(population: Tensor, count: int, seed: int) -> RankedImages:
    """Rows of the population with replacement, labels from their probabilities."""
    draw = np.random.default_rng(seed)
    logits = population[torch.from_numpy(draw.integers(len(population), size=count))]
    p = logits.double().softmax(1).numpy()
    return rank(logits, torch.from_numpy((p.cumsum(1) > draw.random((count, 1))).argmax(1)))


def check_coverage(population: Tensor, count: int, repeats: int, fewest: float, resamples: int = 1000) -> None:
    """Calibrated outputs: the share of intervals of averages that hold the mean over the population."""
    p = population.double().softmax(1)
    truth = {
        "nll_argmax": -(p * p.log()).sum(1).mean(),
        "brier": (1 - p.square().sum(1)).mean(),
        "confidence": p.amax(1).mean(),
        "accuracy": p.amax(1).mean(),
        "overconfidence": 0.0,
    }
    found = [intervals(draw_images(population, count, seed), seed=seed, resamples=resamples) for seed in range(repeats)]
    for name, value in truth.items():
        inside = sum(ends[f"{name}_interval"][0] <= value <= ends[f"{name}_interval"][1] for ends in found) / repeats
        print(f"{name}, n = {count}: {100 * inside:.1f}% of {repeats}")
        assert inside >= fewest, name


def test_intervals_cover() -> None:
    check_coverage(sample(4000)[0], 100, 50, 0.86, resamples=200)  # 43 or less of 50 that hold with 95%: one in 270


@pytest.mark.soak
@pytest.mark.parametrize("count", [50, 359])
def test_intervals_cover_in_a_thousand_draws(count: int) -> None:
    check_coverage(sample(4000)[0], count, 1000, 0.93)


@pytest.mark.soak
def test_intervals_cover_less_if_few_images_are_wrong() -> None:
    """Four of 359, on average, with margins as a network's for the digits."""
    margin = (5.5 + 1.5 * torch.randn(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).abs()
    check_coverage(torch.stack([margin, torch.zeros_like(margin)], dim=1), 359, 1000, 0.9)
