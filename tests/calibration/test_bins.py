"""Calibration errors against torchmetrics, and against sums by hand."""

import math

import numpy as np
import pytest
import torch
from helpers.outputs import measure, sample
from torchmetrics.functional.classification import multiclass_calibration_error

from vgg_nll.calibration import bins
from vgg_nll.calibration.bins import NUM_BINS
from vgg_nll.evaluation.metrics import compute, softmax_outputs, update


def test_against_references() -> None:
    """torchmetrics, and definitions written out image by image."""
    logits, target = sample()
    values, p = measure(logits, target, 300), logits.double().softmax(1)
    confidence, right = p.amax(1).numpy(), (p.argmax(1) == target).numpy()
    for name, norm in (("ece", "l1"), ("mce", "max")):
        expected = multiclass_calibration_error(p, target, num_classes=10, n_bins=NUM_BINS, norm=norm)
        assert values[name] == pytest.approx(expected.item(), abs=1e-6)
    assert values["overconfidence"] == pytest.approx(confidence.mean() - right.mean())
    parts = np.array_split(np.argsort(confidence), NUM_BINS)
    adaptive = sum(len(part) * abs(right[part].mean() - confidence[part].mean()) for part in parts) / 300
    assert values["adaptive_ece"] == pytest.approx(adaptive)
    classwise = []
    for c in range(10):
        bins = np.minimum((p[:, c].numpy() * NUM_BINS).astype(int), NUM_BINS - 1)
        cells = [bins == b for b in range(NUM_BINS) if (bins == b).any()]
        is_class = (target == c).numpy()
        classwise.append(sum(cell.mean() * abs(is_class[cell].mean() - p[:, c].numpy()[cell].mean()) for cell in cells))
    assert values["classwise_ece"] == pytest.approx(np.mean(classwise))


def test_certainty_has_a_bin() -> None:
    """Confidence of exactly 1 counts in the last bin: sure and wrong half of the time is an ECE of 1/2."""
    logits = torch.tensor([[1e4, 0.0, 0.0]]).repeat(4, 1)
    sums = update(softmax_outputs(logits), torch.tensor([0, 0, 1, 2]), torch.tensor(0.0))
    assert sums.bin_images.tolist() == [0] * (NUM_BINS - 1) + [4]
    assert compute(sums)["ece"] == pytest.approx(0.5)
    assert compute(sums)["confidence"] == 1.0


def test_lowest_confidence_has_a_bin() -> None:
    sums = update(softmax_outputs(torch.zeros(2, 100)), torch.tensor([0, 1]), torch.tensor(0.0))
    assert sums.bin_images.tolist() == [2] + [0] * (NUM_BINS - 1)


@pytest.mark.parametrize(
    ("probability", "expected"),
    [(0.0, 0), (0.066, 0), (0.067, 1), (0.5, 7), (0.933, 13), (0.934, 14), (1.0, 14), (math.nan, 0)],
)
def test_bins(probability: float, expected: int) -> None:
    """Of width 1/15, each with its lower end, the last one with 1, too."""
    assert bins.bin_index(torch.tensor([probability], dtype=torch.float64)).tolist() == [expected]


def test_expected_and_maximum_by_hand() -> None:
    """4 images with a confidence of 0.55, 3 right; and 6 with 0.7, 2 right. Empty bins count for nothing."""
    confidence = torch.tensor([0.55] * 4 + [0.7] * 6, dtype=torch.float64)
    logits = torch.stack([confidence.logit(), torch.zeros(10)], dim=1)  # of class 0, which is the prediction
    values = measure(logits, torch.tensor([0, 0, 0, 1, 0, 0, 1, 1, 1, 1]), 10)
    assert values["ece"] == pytest.approx(0.4 * 0.2 + 0.6 * (0.7 - 1 / 3))
    assert values["mce"] == pytest.approx(0.7 - 1 / 3)
    assert values["overconfidence"] == pytest.approx(0.64 - 0.5)


def test_classwise_by_hand() -> None:
    """Class 0: 2 of 4 images, and a sum of probabilities of 1 in the same bin. Class 1: 2 images in one bin, 3 in another."""
    images, probability = torch.zeros(2, 2, NUM_BINS, dtype=torch.float64)
    images[0, 5], probability[0, 5] = 2, 1.0
    images[1, 9], probability[1, 12] = 2, 3.0
    assert float(bins.classwise(images, probability)) == pytest.approx((1 + 2 + 3) / 2 / 4)


def test_adaptive_by_hand() -> None:
    """31 images: the first of 15 bins holds 3 of them, the others 2 each. All confidences are 0.5."""
    confidence = torch.full((31,), 0.5, dtype=torch.float64)
    correct = torch.zeros(31, dtype=torch.float64)
    correct[:3] = 1  # the first bin: 3 right of 3; the others: none
    assert float(bins.adaptive(confidence, correct)) == pytest.approx((3 * 0.5 + 28 * 0.5) / 31)
    correct[3] = 1  # one right of two is what 0.5 says
    assert float(bins.adaptive(confidence, correct)) == pytest.approx((3 * 0.5 + 26 * 0.5) / 31)
