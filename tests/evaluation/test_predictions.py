"""predictions.csv says what the network said."""

import csv
from collections import Counter
from pathlib import Path

import pytest
import torch
from helpers.outputs import sample

from vgg_nll.evaluation import metrics
from vgg_nll.evaluation.metrics import PerImageResults
from vgg_nll.evaluation.most_confident_errors import TopErrors
from vgg_nll.evaluation.predictions import (
    HEAD,
    SUSPICIOUS_HEAD,
    most_confident_errors,
    suspicious_labels,
    write_confusions,
    write_errors,
    write_predictions,
    write_suspicious_labels,
)

CLASSES = ["cat, small", "=1+1", "bird"]


def test_every_image_has_a_row(tmp_path: Path) -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 400.0, 0.0], [1.0, 0.0, 3.0]], dtype=torch.float64)
    target = torch.tensor([0, 1, 0])
    sums = metrics.update(metrics.softmax_outputs(logits), target, torch.tensor(0.0))
    sums += metrics.update(metrics.softmax_outputs(logits[:1]), torch.tensor([2]), torch.tensor(0.0))
    write_predictions(tmp_path / "predictions.csv", sums.by_image(), CLASSES, ["a/\x1b.png", "", "=b", "猫.png"])
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(HEAD)
    assert [row["path"] for row in rows] == ["a/\\x1b.png", "", "'=b", "猫.png"]
    assert [row["index"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["label"] for row in rows] == ["cat, small", "'=1+1", "cat, small", "bird"]  # a spreadsheet runs no formula
    assert [row["prediction"] for row in rows] == ["cat, small", "'=1+1", "bird", "cat, small"]
    assert [row["correct"] for row in rows] == ["1", "1", "0", "0"]
    odds = [z.double()[k] - torch.cat([z[:k], z[k + 1 :]]).logsumexp(0) for z, k in zip(logits, (0, 1, 2), strict=True)]
    assert torch.allclose(torch.tensor([float(row["margin"]) for row in rows[:3]], dtype=torch.float64), torch.stack(odds))
    wrong = logits[2][0] - logits[2][1:].logsumexp(0)
    assert abs(float(rows[2]["label_margin"]) - float(wrong)) < 1e-12
    assert rows[0]["label_margin"] == rows[0]["margin"]
    p = logits[2].softmax(0)
    assert [float(rows[2][name]) for name in ("confidence", "label_probability")] == pytest.approx([float(p[2]), float(p[0])])


def test_errors_and_confusions(tmp_path: Path) -> None:
    """The most confident error first, as in the figure; only labels and predictions that met have a row."""
    logits, target = 5 * torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).double(), torch.arange(40) % 3
    logits[7] = logits[4] = torch.tensor([0.0, 9.0, 0.0])  # wrong, equally sure
    target[4] = target[7] = 0
    outputs = metrics.softmax_outputs(logits)
    sums, top = metrics.update(outputs, target, torch.tensor(0.0)), TopErrors(40)
    top.update(torch.arange(40.0)[:, None], outputs, target)
    write_errors(tmp_path / "errors.csv", sums.by_image(), CLASSES, [str(k) for k in range(40)])
    with (tmp_path / "errors.csv").open(newline="") as file:
        found = [int(row["index"]) for row in csv.DictReader(file)]
    assert found == top.top.images[:, 0].int().tolist() == most_confident_errors(sums.by_image())
    assert found.index(4) == found.index(7) - 1
    write_confusions(tmp_path / "confusions.csv", sums.confusion, CLASSES)
    with (tmp_path / "confusions.csv").open(newline="") as file:
        cells = {(row["label"], row["prediction"]): int(row["images"]) for row in csv.DictReader(file)}
    names = ["cat, small", "'=1+1", "bird"]
    expected = Counter((names[t], names[k]) for t, k in zip(target.tolist(), logits.argmax(1).tolist(), strict=True))
    assert cells == expected


def results(logits: torch.Tensor, target: torch.Tensor) -> PerImageResults:
    return metrics.update(metrics.softmax_outputs(logits), target, torch.tensor(0.0)).by_image()


def flipped(images: int, classes: int, seed: int, target: torch.Tensor) -> tuple[torch.Tensor, set[int]]:
    """Returns labels of which 5% were made wrong, and which."""
    draw = torch.Generator().manual_seed(seed)
    wrong = torch.randperm(images, generator=draw)[: round(0.05 * images)]
    labels = target.clone()
    labels[wrong] = (labels[wrong] + torch.randint(1, classes, (len(wrong),), generator=draw)) % classes
    return labels, set(wrong.tolist())


def found_first(order: list[int], wrong: set[int]) -> float:
    """Returns the precision among the first k, with k wrong labels."""
    return len(wrong & set(order[: len(wrong)])) / len(wrong)


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0, 100.0])
def test_wrong_labels_are_found_as_by_self_confidence(scale: float) -> None:
    """With 5% of the labels flipped, the first k are no worse than cleanlab's, from the same float32 probabilities; if those
    round to 0, on average better."""
    logits, target = sample(400)
    logits[range(400), target] += 4  # right on 90% of the images
    logits = scale * logits
    precision, reference = [], []
    for seed in range(20):
        labels, wrong = flipped(400, 10, seed, target)
        self_confidence = logits.softmax(1)[range(400), labels]  # cleanlab's score of a label: its p, ascending
        precision.append(found_first(suspicious_labels(results(logits, labels)), wrong))
        reference.append(found_first(self_confidence.argsort(stable=True).tolist(), wrong))
    assert min(precision) > 0.5
    if scale <= 3:
        assert precision == reference
    else:
        assert sum(precision) > sum(reference)


def test_the_order_differs_from_self_confidence_by_rounding_only() -> None:
    """No image stands before one with a smaller probability of its label, but for the last bits of p."""
    logits, target = sample(400)
    for scale in (1, 5, 30):
        labels, _ = flipped(400, 10, 0, target)
        order = suspicious_labels(results(scale * logits, labels))
        p = (scale * logits).double().softmax(1)[range(400), labels][order]
        assert sorted(order) == list(range(400))
        assert bool((p[1:] >= p[:-1] * (1 - 1e-12)).all())
        margin = (scale * logits).double()
        others = margin.masked_fill(torch.nn.functional.one_hot(labels, 10).bool(), -torch.inf).logsumexp(1)
        margin = (margin[range(400), labels] - others)[order]
        assert bool((margin[1:] >= margin[:-1] - 1e-12 * margin[:-1].abs()).all())
        if scale == 30:  # p is 1 for many, and their order is still that of the margin
            assert int((p == 1).sum()) > 50


def test_suspicious_labels_are_rows_with_names(tmp_path: Path) -> None:
    """Of labels whose p is at most 1/2, the least probable first; every wrong image is among them, and equal outputs too."""
    logits = torch.tensor([[4.0, 0, 0], [0, 0, 9], [0.1, 0, 0], [3, 3, -99], [0, 5, 0]])
    images = results(logits, torch.tensor([0, 1, 0, 1, 0]))
    write_suspicious_labels(tmp_path / "x.csv", images, CLASSES, [f"{k}.png" for k in range(5)])
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(SUSPICIOUS_HEAD)
    assert [row["path"] for row in rows] == ["1.png", "4.png", "2.png", "3.png"]
    assert [(row["label"], row["prediction"]) for row in rows[:2]] == [("'=1+1", "bird"), ("cat, small", "'=1+1")]
    p = logits.double().softmax(1)
    assert [float(row["label_probability"]) for row in rows] == pytest.approx(
        [float(p[1, 1]), float(p[4, 0]), float(p[2, 0]), 0.5]
    )
    assert float(rows[0]["label_margin"]) == pytest.approx(float(torch.logit(p[1, 1])))
