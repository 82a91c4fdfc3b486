"""Structured vector scaling against probmetrics, against its own optimality, and on labels that leave nothing to fit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor

from vgg_nll.calibration import temperature, vector_scaling

CASES = json.loads(Path(__file__).with_name("decomposition_values.json").read_text(encoding="utf-8"))["cases"]


def right(images: int, classes: int) -> tuple[Tensor, Tensor]:
    label = torch.arange(images) % classes
    return 5 * torch.eye(classes)[label], label


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_probmetrics(case: dict[str, Any]) -> None:
    logits, label = torch.tensor(case["logits"], dtype=torch.float64), torch.tensor(case["labels"])
    found = vector_scaling.fit(logits, label)
    assert found.temperature == pytest.approx(case["temperature"], rel=1e-10)
    assert found.factor.tolist() == pytest.approx(case["factor"], abs=1e-6)
    assert found.shift.tolist() == pytest.approx(case["shift"], abs=1e-6)
    expected = found.factor.numpy() * log_softmax(logits.numpy() / found.temperature, axis=1) + found.shift.numpy()
    torch.testing.assert_close(found.apply(logits), torch.from_numpy(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("logits", "label"),
    [
        (*right(40, 4),),
        (right(40, 4)[0], (right(40, 4)[1] + 1) % 4),
        (right(40, 4)[0], torch.zeros(40, dtype=torch.long)),
        (*right(6, 2),),
        (*right(7, 30),),
        (*right(1, 3),),
        (torch.zeros(9, 3), torch.arange(9) % 3),
        (right(40, 4)[0] * torch.logspace(0, 5, 40)[:, None], right(40, 4)[1]),
    ],
    ids=["right", "wrong", "one class", "two classes", "N < C", "one image", "equal logits", "large logits"],
)
def test_the_gradient_is_zero(logits: Tensor, label: Tensor) -> None:
    """By autograd, of the objective as its docstring has it."""
    found = vector_scaling.fit(logits, label)
    v_and_b = torch.cat([found.factor - 1, found.shift]).requires_grad_()
    v, b = v_and_b.split(logits.shape[1])
    x = (logits.double() / temperature.fit(logits, label).temperature).log_softmax(1)
    loss = torch.nn.functional.cross_entropy((1 + v) * x + b, label) + len(v) / len(x) * (v.square().sum() + b.square().sum())
    loss.backward()
    assert v_and_b.grad.abs().max() < 1e-6 * max(1, x.abs().max().item())
    assert found.apply(logits).dtype == torch.float64 and found.apply(logits).isfinite().all()


def test_a_class_without_images_becomes_less_probable() -> None:
    logits, label = right(30, 3)
    found = vector_scaling.fit(torch.cat([logits, torch.full((30, 1), 4.0)], dim=1), label)
    assert found.shift[3] < min(found.shift[:3])


def test_finds_the_model_that_made_the_labels() -> None:
    """From 40,000 labels, log-probabilities are found to within 0.03 on average. Predictions change."""
    draw = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(40_000, 3, generator=draw, dtype=torch.float64)
    factor, shift = torch.tensor([0.8, 1.0, 1.2]), torch.tensor([-0.5, 0.0, 0.5])
    truth = (factor * logits.log_softmax(1) + shift).log_softmax(1)
    label = torch.multinomial(truth.exp(), 1, generator=draw)[:, 0]
    found = vector_scaling.fit(logits, label)
    assert (found.apply(logits).log_softmax(1) - truth).abs().mean() < 0.05
    before, after = (float((z.argmax(1) == label).double().mean()) for z in (logits, found.apply(logits)))
    assert after > before + 0.01
