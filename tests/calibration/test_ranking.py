"""What each image got, against the metrics of evaluation; ties."""

import pytest
import torch
from helpers.outputs import sample

from vgg_nll.calibration.ranking import merge_rounded, rank, share_ties
from vgg_nll.evaluation.metrics import softmax_outputs
from vgg_nll.losses import argmax_nll


def test_images_are_in_order_of_the_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Computed a few at a time."""
    monkeypatch.setattr("vgg_nll.calibration.ranking.CHUNK", 7)
    logits, label = sample(100)
    images, outputs = rank(logits, label), softmax_outputs(logits)
    order = outputs.margin.argsort()
    assert torch.equal(images.margin, outputs.margin[order])
    assert torch.equal(images.probabilities, outputs.probabilities[order])
    assert torch.equal(images.confidence, outputs.probabilities.amax(1)[order])
    assert torch.equal(images.prediction, logits.argmax(1)[order])
    assert torch.equal(images.correct, (logits.argmax(1) == label)[order].double())
    assert float(images.nll.mean()) == pytest.approx(float(argmax_nll(logits.double(), label)))


def test_margins_that_differ_by_rounding_are_equal() -> None:
    margin = torch.tensor([0.1, 0.1 + 1e-16, 0.2, 0.2 + 1e-11, 40.0, 40.0 + 1e-14, torch.inf, torch.inf], dtype=torch.float64)
    expected = [0.1, 0.1, 0.2, 0.2 + 1e-11, 40.0, 40.0, torch.inf, torch.inf]
    assert merge_rounded(margin).tolist() == expected


def test_ties_share_their_mean_in_every_row() -> None:
    margin = torch.tensor([1.0, 2.0, 2.0, 3.0, 3.0, 3.0])
    values = torch.tensor([[1.0, 1.0, 0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    assert share_ties(margin, values).flatten().tolist() == pytest.approx([1, 0.5, 0.5, 1 / 3, 1 / 3, 1 / 3, 0, 0, 0, 1, 1, 1])
