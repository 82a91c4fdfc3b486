"""Metrics against torchmetrics, scikit-learn and definitions; one value for every batch size."""

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    log_loss,
    roc_auc_score,
    top_k_accuracy_score,
)
from torchmetrics.functional.classification import multiclass_calibration_error

from vgg_nll.evaluation.calibration import NUM_BINS
from vgg_nll.evaluation.metrics import accuracy_coverage, compute, softmax_outputs, update
from vgg_nll.losses import all_logit_nll, argmax_nll
from vgg_nll.losses.softmax import margin


def sample(images: int = 300, classes: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    target = torch.randint(classes, (images,), generator=draw)
    logits = 2 * torch.randn(images, classes, generator=draw)
    logits[range(images), target] += 2
    return logits, target


def measure(logits: torch.Tensor, target: torch.Tensor, batch_size: int) -> dict[str, float]:
    total = None
    for part, part_target in zip(logits.split(batch_size), target.split(batch_size), strict=True):
        sums = update(softmax_outputs(part), part_target, argmax_nll(part, part_target))
        total = sums if total is None else total + sums
    return compute(total)


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
    ece = multiclass_calibration_error(p, target, num_classes=10, n_bins=NUM_BINS)
    assert values["ece"] == pytest.approx(ece.item(), abs=1e-6)
    right = p.argmax(1) == target
    assert values["confidence"] == pytest.approx(p.amax(1).mean().item())
    assert values["confidence_correct"] == pytest.approx(p.amax(1)[right].mean().item())
    assert values["confidence_incorrect"] == pytest.approx(p.amax(1)[~right].mean().item())
    assert values["true_class_probability"] == pytest.approx(p[range(300), target].mean().item())
    assert values["margin"] == pytest.approx(margin(logits.double()).mean().item())


def test_calibration_against_references() -> None:
    """torchmetrics, scikit-learn, and definitions written out image by image."""
    logits, target = sample()
    values, p = measure(logits, target, 300), logits.double().softmax(1)
    confidence, right = p.amax(1).numpy(), (p.argmax(1) == target).numpy()
    mce = multiclass_calibration_error(p, target, num_classes=10, n_bins=NUM_BINS, norm="max")
    assert values["mce"] == pytest.approx(mce.item(), abs=1e-6)
    assert values["overconfidence"] == pytest.approx(confidence.mean() - right.mean())
    assert values["auroc"] == pytest.approx(roc_auc_score(right, confidence))
    order = np.argsort(-confidence)
    risks = [1 - right[order[:k]].mean() for k in range(1, 301)]
    assert values["aurc"] == pytest.approx(np.mean(risks))
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
