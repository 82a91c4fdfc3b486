"""Rows of metrics, and the trajectories of single images."""

import csv
import math
from pathlib import Path

import pytest
import torch

from vgg_nll.evaluation.metrics import PerImageResults
from vgg_nll.training import history
from vgg_nll.training.history import count_flips, empty_trajectory, extend_trajectory

OF_TRAIN = {"loss": 0.5, "accuracy": 1.0, "nll_argmax": 0.5, "confidence": 0.75, "ece": 0.25, "brier": 9.0}


def test_a_row() -> None:
    """Step and epoch first; the flips, which the first validation does not have, last."""
    flips = torch.tensor([[[0.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [1.0, 0.0]]])
    row = history.row(6, 1.5, {"accuracy": 0.5, "loss": 2.0}, OF_TRAIN, flips)
    assert list(row)[:4] == ["step", "epoch", "accuracy", "loss"]
    assert (row["step"], row["epoch"], row["loss"]) == (6, 1.5, 2.0)
    assert {name: row[f"train_eval_{name}"] for name in OF_TRAIN if name != "brier"} == {
        name: value for name, value in OF_TRAIN.items() if name != "brier"
    }
    assert (row["flips_forgotten"], row["flips_learnt"]) == (0.5, 0.0)
    first = history.row(0, 0.0, {"loss": 2.0}, OF_TRAIN, flips[:1])
    assert math.isnan(first["flips_forgotten"])
    assert list(history.row(0, 0.0, {"loss": 2.0}, OF_TRAIN, empty_trajectory())) == list(first)


def test_losses_are_those_of_training() -> None:
    rows = [{"step": step, "epoch": step / 4, "loss": 1.0 / (step + 1)} for step in (0, 2, 4)]
    assert history.losses(rows) == [[0.5, 1 / 3], [1.0, 0.2]]


@pytest.mark.parametrize("before", [None, "", "a,b\n1,2\n", "\0", "step,accuracy\n0,0.25\n99,1\n12,0."])
def test_the_table_is_the_history_whatever_lay_there(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "metrics.csv"
    if before is not None:
        path.write_text(before)
    history.write(path, [{"step": 0, "accuracy": 1 / 3}, {"step": 6, "accuracy": math.nan}])
    with path.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["step"], float(first["accuracy"])) == ("0", 1 / 3)  # all digits
    assert (second["step"], second["accuracy"]) == ("6", "")


def test_a_metric_that_older_rows_do_not_have_is_empty_there(tmp_path: Path) -> None:
    """A run of an older version is resumed: no value moves into another column."""
    history.write(tmp_path / "metrics.csv", [{"step": 0, "loss": 2.0}, {"step": 6, "aurc": 0.5, "loss": 1.0}])
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"step": "0", "loss": "2.0", "aurc": ""},
            {"step": "6", "loss": "1.0", "aurc": "0.5"},
        ]


def test_a_full_disk_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    history.write(tmp_path / "missing" / "metrics.csv", [{"step": 0}])
    (record,) = caplog.records
    assert "metrics.csv was not written, training continues" in record.message


def images(correct: list[int], true_margin: list[float] | None = None) -> PerImageResults:
    zeros = torch.zeros(len(correct), dtype=torch.float64)
    margin = zeros if true_margin is None else torch.tensor(true_margin, dtype=torch.float64)
    return PerImageResults(zeros, zeros, torch.tensor(correct, dtype=torch.float64), margin, zeros, zeros)


def test_flips_are_of_the_last_two_validations() -> None:
    rows = extend_trajectory(empty_trajectory(), images([1, 1, 0, 0, 1]))
    assert count_flips(rows) == {}
    rows = extend_trajectory(rows, images([1, 0, 1, 1, 1], [1, -2, 3, 4, 5]))
    assert count_flips(rows) == {"flips/forgotten": 1 / 5, "flips/learnt": 2 / 5}
    assert rows[1].tolist() == [[1, -2, 3, 4, 5], [1, 0, 1, 1, 1]]
    rows = extend_trajectory(rows, images([1, 0, 1, 1, 1]))
    assert count_flips(rows) == {"flips/forgotten": 0, "flips/learnt": 0}


@pytest.mark.parametrize(("number", "kept"), [(1, 1), (512, 512), (513, 257), (5000, 500)])
def test_of_many_images_an_evenly_spread_part_is_kept(number: int, kept: int) -> None:
    rows = extend_trajectory(empty_trajectory(), images([1] * number, [float(k) for k in range(number)]))
    assert rows.shape == (1, 2, kept)
    assert len(set(rows[0, 0].diff().tolist())) <= 1


def test_other_images_begin_another_one() -> None:
    """A run that is resumed with other data, and resume_strict=false."""
    rows = extend_trajectory(empty_trajectory(), images([1, 1, 0]))
    assert extend_trajectory(rows, images([0, 1])).shape == (1, 2, 2)
