"""predictions.csv says what the network said."""

import csv
from collections import Counter
from pathlib import Path

import pytest
import torch

from vgg_nll.evaluation import metrics
from vgg_nll.evaluation.most_confident_errors import TopErrors
from vgg_nll.evaluation.predictions import HEAD, most_confident_errors, write_confusions, write_errors, write_predictions

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
