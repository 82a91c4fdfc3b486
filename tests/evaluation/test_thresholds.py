"""What a threshold costs: counted by hand, with scipy's interval."""

import csv
import math
from pathlib import Path

import pytest
import torch
from helpers.outputs import sample
from scipy import stats

from vgg_nll.evaluation import metrics
from vgg_nll.evaluation.metrics import PerImageResults
from vgg_nll.evaluation.thresholds import THRESHOLDS, threshold_rows, threshold_table, write_thresholds


def results(logits: torch.Tensor, target: torch.Tensor) -> PerImageResults:
    return metrics.update(metrics.softmax_outputs(logits), target, torch.tensor(0.0)).by_image()


def of_confidence(*values: float, correct: int = 1) -> PerImageResults:
    """Images of two classes with these confidences; the first `correct` of them are right."""
    p = torch.tensor(values, dtype=torch.float64)
    target = torch.tensor([0] * correct + [1] * (len(values) - correct))
    return results(torch.stack([p, 1 - p], dim=1).log(), target)


def test_rows_are_those_of_a_count() -> None:
    logits, target = sample(500)
    logits = 2 * logits
    rows = threshold_rows(results(logits, target))
    p = logits.double().softmax(1)
    assert [row.threshold for row in rows] == list(THRESHOLDS)
    for row in rows:
        answered = [k for k in range(500) if float(p[k].max()) >= row.threshold]
        right = sum(int(p[k].argmax()) == int(target[k]) for k in answered)
        interval = stats.binomtest(right, len(answered)).proportion_ci(method="wilson")
        assert (row.images, row.coverage) == (len(answered), len(answered) / 500)
        assert (row.accuracy, row.low, row.high) == pytest.approx((right / len(answered), interval.low, interval.high))


def test_rows_that_answer_the_same_images_are_left_out() -> None:
    rows = threshold_rows(of_confidence(0.96, 0.97, 0.98, correct=2))
    assert [(row.threshold, row.images) for row in rows] == [(0.0, 3), (0.99, 0)]
    assert math.isnan(rows[1].accuracy) and rows[0].accuracy == pytest.approx(2 / 3)


@pytest.mark.parametrize(("p", "number"), [(0.9, 1), (0.8999, 0)])
def test_an_image_at_the_threshold_is_answered(p: float, number: int) -> None:
    rows = threshold_rows(of_confidence(p, 0.95))
    assert next(row.images for row in rows if row.threshold == 0.9 or row.threshold == 0) == 2
    assert {row.threshold: row.images for row in rows}.get(0.9, 2) == 1 + number


def test_all_right_and_nothing_but_nan() -> None:
    (everything, *_) = threshold_rows(of_confidence(0.6, 0.7, correct=2))
    assert (everything.accuracy, everything.high) == (1.0, 1.0) and 0 < everything.low < 1
    nan = threshold_rows(results(torch.full((3, 2), torch.nan), torch.zeros(3, dtype=torch.long)))
    assert [(row.threshold, row.images) for row in nan] == [(0.0, 3), (0.5, 0)]


def test_table_and_file(tmp_path: Path) -> None:
    rows = threshold_rows(of_confidence(0.6, 0.95, correct=2))
    lines = threshold_table(rows).splitlines()
    assert lines[0].split("  ")[0] == "threshold"
    assert [line.split()[0] for line in lines[1:]] == ["0", "0.8", "0.99"]
    assert lines[1].split()[1:3] == ["100.0", "100.00"] and lines[3].split() == ["0.99", "0.0", "-", "-", "0"]
    write_thresholds(tmp_path / "x.csv", rows)
    with (tmp_path / "x.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [float(row["threshold"]) for row in found] == [0, 0.8, 0.99]
    assert [row["images"] for row in found] == ["2", "1", "0"]
    assert float(found[1]["low"]) == rows[1].low and found[2]["accuracy"] == ""
