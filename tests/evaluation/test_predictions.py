"""predictions.csv says what the network said."""

import csv
from pathlib import Path

import torch

from vgg_nll.evaluation import metrics
from vgg_nll.evaluation.predictions import write_predictions


def test_every_image_has_a_row(tmp_path: Path) -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 400.0, 0.0], [1.0, 0.0, 3.0]], dtype=torch.float64)
    target = torch.tensor([0, 1, 0])
    sums = metrics.update(metrics.softmax_outputs(logits), target, torch.tensor(0.0))
    sums += metrics.update(metrics.softmax_outputs(logits[:1]), torch.tensor([2]), torch.tensor(0.0))
    write_predictions(tmp_path / "predictions.csv", sums.by_image(), ["cat, small", "=1+1", "bird"])
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["index", "label", "prediction", "correct", "margin", "true_margin"]
    assert [row["index"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["label"] for row in rows] == ["cat, small", "'=1+1", "cat, small", "bird"]  # a spreadsheet runs no formula
    assert [row["prediction"] for row in rows] == ["cat, small", "'=1+1", "bird", "cat, small"]
    assert [row["correct"] for row in rows] == ["1", "1", "0", "0"]
    odds = [z.double()[k] - torch.cat([z[:k], z[k + 1 :]]).logsumexp(0) for z, k in zip(logits, (0, 1, 2), strict=True)]
    assert torch.allclose(torch.tensor([float(row["margin"]) for row in rows[:3]], dtype=torch.float64), torch.stack(odds))
    wrong = logits[2][0] - logits[2][1:].logsumexp(0)
    assert abs(float(rows[2]["true_margin"]) - float(wrong)) < 1e-12
    assert rows[0]["true_margin"] == rows[0]["margin"]
