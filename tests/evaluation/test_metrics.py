"""Metrics against scikit-learn and definitions; one value for every batch size."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.outputs import measure, sample
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    log_loss,
    roc_auc_score,
    top_k_accuracy_score,
)
from torch import nn

from vgg_nll.calibration import temperature
from vgg_nll.calibration.temperature import Scaled
from vgg_nll.evaluation.loop import predict_batches
from vgg_nll.evaluation.metrics import accuracy_coverage, compute, softmax_outputs, update
from vgg_nll.losses import all_logit_nll, argmax_nll
from vgg_nll.losses.softmax import margin


def test_against_references() -> None:
    logits, target = sample()
    values = measure(logits, target, 300)
    p = logits.double().softmax(1)
    assert values["accuracy"] == pytest.approx(accuracy_score(target, p.argmax(1)))
    assert values["top5_accuracy"] == pytest.approx(top_k_accuracy_score(target, p, k=5))
    assert values["nll_argmax"] == pytest.approx(log_loss(target, p), rel=1e-9)
    assert values["loss"] == pytest.approx(log_loss(target, p), rel=1e-6)
    assert values["nll_argmax_prediction"] == pytest.approx(-p.amax(1).log().mean().item())
    assert values["nll_all_logit"] == pytest.approx(all_logit_nll(logits.double(), target).item())
    one_hot = np.eye(10)[target]
    assert values["brier"] == pytest.approx(((p.numpy() - one_hot) ** 2).sum(1).mean())
    right = p.argmax(1) == target
    assert values["confidence"] == pytest.approx(p.amax(1).mean().item())
    assert values["confidence_correct"] == pytest.approx(p.amax(1)[right].mean().item())
    assert values["confidence_incorrect"] == pytest.approx(p.amax(1)[~right].mean().item())
    assert values["true_class_probability"] == pytest.approx(p[range(300), target].mean().item())
    assert values["margin"] == pytest.approx(margin(logits.double()).mean().item())


def test_ranking_and_margins_against_references() -> None:
    """scikit-learn, and definitions written out image by image."""
    logits, target = sample()
    values, p = measure(logits, target, 300), logits.double().softmax(1)
    confidence, right = p.amax(1).numpy(), (p.argmax(1) == target).numpy()
    assert values["auroc"] == pytest.approx(roc_auc_score(right, confidence))
    order = np.argsort(-confidence)
    risks = [1 - right[order[:k]].mean() for k in range(1, 301)]
    assert values["aurc"] == pytest.approx(np.mean(risks))
    margins = np.log(confidence) - np.log1p(-confidence)
    for name, q in (("margin_p05", 0.05), ("margin_p50", 0.5), ("margin_p95", 0.95)):
        assert values[name] == pytest.approx(np.quantile(margins, q))


def test_sums_by_class() -> None:
    logits, target = sample()
    sums = update(softmax_outputs(logits), target, torch.tensor(0.0))
    confidence, prediction = logits.double().softmax(1).max(1)
    for c in range(10):
        of_class = target == c
        assert sums.class_images[c] == of_class.sum()
        assert sums.class_correct[c] == (prediction[of_class] == c).sum()
        assert sums.class_confidence[c].item() == pytest.approx(confidence[of_class].sum().item())


def test_accuracy_against_coverage() -> None:
    logits, target = sample()
    confidence, prediction = logits.double().softmax(1).max(1)
    right = (prediction == target).numpy()[np.argsort(-confidence.numpy())]
    found = accuracy_coverage(update(softmax_outputs(logits), target, torch.tensor(0.0)))
    assert found.tolist() == pytest.approx([right[: k + 1].mean() for k in range(300)])


def test_confusion() -> None:
    logits, target = sample()
    sums = update(softmax_outputs(logits), target, torch.tensor(0.0))
    assert sums.confusion.tolist() == confusion_matrix(target, logits.argmax(1)).tolist()


def test_ties_in_confidence() -> None:
    """Four images of one confidence, two of them right: no order among them, whatever the margin of saturated ones."""
    same = compute(update(softmax_outputs(torch.tensor([[2.0, 0.0]] * 4)), torch.tensor([0, 1, 0, 1]), torch.tensor(0.0)))
    assert same["auroc"] == 0.5
    surer = torch.tensor([[60.0, 0.0], [50.0, 0.0]])  # both have a confidence of exactly 1, even in float64
    assert compute(update(softmax_outputs(surer), torch.tensor([0, 1]), torch.tensor(0.0)))["auroc"] == 1
    assert (
        compute(update(softmax_outputs(surer), torch.tensor([0, 1]), torch.tensor(0.0)))["aurc"] == 0.25
    )  # the surer one is right
    assert compute(update(softmax_outputs(surer), torch.tensor([1, 0]), torch.tensor(0.0)))["auroc"] == 0


@pytest.mark.parametrize("steps", [1, 4])
def test_order_among_equals_means_nothing(steps: int) -> None:
    """Images of one class after the other, as a folder has them, and a network that knows few margins, or a single one."""
    draw = torch.Generator().manual_seed(0)
    target = torch.arange(10).repeat_interleave(20)
    logits = torch.zeros(200, 10)
    logits[:, 0] = torch.randint(steps, (200,), generator=draw) / 2
    found = []
    for order in (torch.arange(200), torch.arange(199, -1, -1), torch.randperm(200, generator=draw)):
        found.append(compute(update(softmax_outputs(logits[order]), target[order], torch.tensor(0.0))))
    for name in found[0]:
        assert [values[name] for values in found] == pytest.approx([found[0][name]] * 3, nan_ok=True), name
    if steps == 1:
        assert found[0]["aurc"] == pytest.approx(0.9)
        assert found[0]["adaptive_ece"] == pytest.approx(0)  # a confidence of 0.1, and 0.1 right


@pytest.mark.parametrize("batch_size", [1, 7, 299])
def test_one_value_for_every_batch_size(batch_size: int) -> None:
    logits, target = sample()
    assert measure(logits, target, batch_size) == pytest.approx(measure(logits, target, 300), rel=1e-6)


def test_nothing_wrong_and_nothing_right() -> None:
    logits = torch.eye(3) * 5
    all_right = compute(update(softmax_outputs(logits), torch.tensor([0, 1, 2]), torch.tensor(0.0)))
    all_wrong = compute(update(softmax_outputs(logits), torch.tensor([1, 2, 0]), torch.tensor(0.0)))
    assert np.isnan(all_right["confidence_incorrect"])
    assert np.isnan(all_right["auroc"])
    assert np.isnan(all_wrong["auroc"])
    assert (all_right["aurc"], all_wrong["aurc"]) == (0, 1)
    assert all_right["accuracy"] == 1
    assert np.isnan(all_wrong["confidence_correct"])
    assert all_wrong["confidence_incorrect"] == pytest.approx(all_right["confidence"])


def test_fewer_than_five_classes() -> None:
    logits = torch.eye(3)
    assert compute(update(softmax_outputs(logits), torch.tensor([1, 2, 0]), torch.tensor(0.0)))["top5_accuracy"] == 1


@pytest.mark.parametrize(("label", "accuracy", "top5_accuracy"), [(0, 1.0, 1.0), (4, 0.0, 1.0), (5, 0.0, 0.0)])
def test_equal_logits_are_ranked_by_class(label: int, accuracy: float, top5_accuracy: float) -> None:
    """So that the top 5 hold the prediction."""
    values = measure(torch.zeros(4, 10), torch.full((4,), label), 4)
    assert (values["accuracy"], values["top5_accuracy"]) == (accuracy, top5_accuracy)


def test_permuted_rows_are_ties() -> None:
    """Their margins differ in the last bit, since a sum depends on its order."""
    draw = torch.Generator().manual_seed(0)
    row = torch.randn(50, generator=draw)
    logits = torch.stack([row[torch.randperm(50, generator=draw)] for _ in range(40)])
    assert len(margin(logits.double()).unique()) > 1
    target = logits.argmax(1)
    target[::2] = (target[::2] + 1) % 50
    values = measure(logits, target, 40)
    assert values["auroc"] == 0.5
    assert values["aurc"] == pytest.approx(0.5)


def test_nan_logits_are_not_hidden() -> None:
    logits, target = sample(30)
    logits[7, 3] = torch.nan
    values = measure(logits, target, 30)
    names = ("aurc", "auroc", "adaptive_ece", "ece", "margin", "margin_p05", "margin_p50", "confidence", "brier", "nll_argmax")
    assert {name: values[name] for name in names} == pytest.approx(dict.fromkeys(names, np.nan), nan_ok=True)


def test_one_possible_class_has_an_infinite_margin() -> None:
    logits = torch.full((3, 4), -torch.inf)
    logits[:, 1] = 1.0
    values = measure(logits, torch.tensor([1, 1, 0]), 3)
    assert [values[name] for name in ("margin", "margin_p05", "margin_p50", "margin_p95")] == [np.inf] * 4
    assert (values["confidence"], values["auroc"]) == (1.0, 0.5)


def test_refinement_is_the_nll_at_the_best_temperature() -> None:
    """Within half a percent of the least, whatever scale the logits have; and of half the sums each half of the images."""
    logits, target = sample(400)
    for scale in (0.2, 1.0, 5.0):
        values = measure(scale * logits, target, 100)
        best = temperature.fit(scale * logits, target).temperature
        least = float(argmax_nll(scale * logits.double() / best, target))
        assert least * (1 - 1e-5) <= values["refinement"] <= min(1.005 * least, values["nll_argmax"] * 1.005)
    assert measure(logits, target, 1)["refinement"] == pytest.approx(measure(logits, target, 400)["refinement"], rel=1e-12)


def test_no_temperature_changes_a_prediction() -> None:
    """Two float32 logits that differ by one digit stay apart."""
    model, images = nn.Identity(), torch.ones(3, 2)
    images[0, 1] = torch.nextafter(images[0, 1], torch.tensor(2.0))
    images[1, 0] = torch.nextafter(images[1, 0], torch.tensor(0.0))
    for value in (0.01, 0.3, 3.0, 7.77, 100.0):
        (batch,) = predict_batches(Scaled(model, value), [(images, torch.zeros(3))], torch.float32)
        assert batch[1].argmax(1).tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("certain", "unsure", "labels", "auroc", "aurc"),
    [(1, 1, [0, 0], 1.0, 0.25), (1, 1, [1, 2], 0.0, 0.75), (2, 2, [0, 0, 0, 0], 1.0, 5 / 24), (2, 1, [0, 1, 0], 0.75, 5 / 9)],
)
def test_an_infinite_margin_is_above_every_finite_one(
    certain: int, unsure: int, labels: list[int], auroc: float, aurc: float
) -> None:
    """It ties with its equals alone. Among the quantiles, what lies between it and a finite one is infinite."""
    logits = torch.tensor([[5.0, -torch.inf, -torch.inf]] * certain + [[1.0, 2.0, 3.0]] * unsure)
    values = measure(logits, torch.tensor(labels), len(labels))
    assert (values["auroc"], values["aurc"]) == pytest.approx((auroc, aurc))
    assert [values[name] for name in ("margin_p95", "margin_p50")] == [np.inf] * 2
    assert np.isfinite(values["adaptive_ece"])


def test_coverage_begins_with_the_infinite_margins() -> None:
    logits = torch.tensor([[9.0, 0.0, 0.0], [5.0, -torch.inf, -torch.inf], [1.0, 2.0, 3.0]])
    found = accuracy_coverage(update(softmax_outputs(logits), torch.tensor([1, 0, 0]), torch.tensor(0.0)))
    assert found.tolist() == pytest.approx([1, 1 / 2, 1 / 3])


def test_no_wrong_image_has_no_confidence() -> None:
    """Also if the two sums were added in another order, as a GPU does: one bit by 0 would be infinite."""
    logits, _ = sample()
    sums = update(softmax_outputs(logits), logits.argmax(1), torch.tensor(0.0))
    more = sums.confidence.nextafter(torch.tensor(torch.inf, dtype=torch.float64))
    assert np.isnan(compute(replace(sums, confidence=more))["confidence_incorrect"])
