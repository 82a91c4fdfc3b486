"""The median rule, and a run that it stops."""

import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from helpers.configs import TINY
from helpers.runs import train, train_config
from hypothesis import given
from hypothesis import strategies as st

from vgg_nll.run_folder import checked_json, paths
from vgg_nll.run_folder.record import DataRecord, RunRecord
from vgg_nll.training.pruning import MIN_RUNS, MedianRule, Pruned

PREPROCESSING = {"image_size": 32, "resize": 32, "mean": [0.0] * 3, "std": [1.0] * 3}
LOSS = {"_target_": "a.Loss", "eps": 0.0}


def write_run(folder: Path, history: list[list[float]], loss: dict[str, Any] = LOSS, done: bool = True) -> None:
    folder.mkdir(parents=True)
    record = RunRecord("x", "", {}, [], {"data": {}, "loss": loss}, DataRecord(["a"], {}, ""), PREPROCESSING)
    record.write(folder)
    checked_json.write(folder / paths.METRICS, {"validation_losses": history}, "x")
    if done:
        (folder / paths.DONE).touch()


def is_pruned(folder: Path, epoch: float, loss: float) -> bool:
    try:
        MedianRule(folder, LOSS).check(epoch, loss)
    except Pruned:
        return True
    return False


@pytest.mark.parametrize(
    ("epoch", "loss", "expected"),
    [
        (1, 2.0, False),  # the median itself
        (1, 2.0001, True),
        (2, 0.9, False),
        (2, 1.1, True),
        (1.5, 2.1, True),  # the last value at or before
        (9, 1.1, True),
        (0.5, 99.0, False),  # nobody was there
    ],
)
def test_above_the_median(tmp_path: Path, epoch: float, loss: float, expected: bool) -> None:
    for k, first in enumerate((1.0, 2.0, 3.0)):
        write_run(tmp_path / str(k), [[1.0, first], [2.0, first / 2]])
    assert is_pruned(tmp_path, epoch, loss) == expected


@given(st.lists(st.floats(0, 10), min_size=MIN_RUNS, max_size=9), st.floats(0, 10))
def test_the_median_is_that_of_the_standard_library(values: list[float], loss: float) -> None:
    class Rule(MedianRule):
        def _histories(self) -> Any:
            return [[(1.0, value)] for value in values]

    rule = Rule(Path(), LOSS)
    if loss > statistics.median(values):
        with pytest.raises(Pruned):
            rule.check(1.0, loss)
    else:
        rule.check(1.0, loss)


def test_who_counts(tmp_path: Path) -> None:
    """Finished runs of the same loss, three at least; damaged ones are passed over."""
    for k in range(MIN_RUNS - 1):
        write_run(tmp_path / str(k), [[1.0, 1.0]])
    write_run(tmp_path / "other loss", [[1.0, 1.0]], loss={"_target_": "b.Loss"})
    write_run(tmp_path / "running", [[1.0, 1.0]], done=False)
    write_run(tmp_path / "damaged", [[1.0, 1.0]])
    (tmp_path / "damaged" / paths.METRICS).write_text("{")
    assert not is_pruned(tmp_path, 1, 9)
    write_run(tmp_path / "third", [[1.0, 1.0]])
    assert is_pruned(tmp_path, 1, 9)
    MedianRule(None, LOSS).check(1, math.inf)


@pytest.mark.slow
def test_a_run_is_pruned(tmp_path: Path) -> None:
    """At its second validation, with its curve and its state; another command with the rule off finishes it."""
    quick = (*TINY, "tracking=none", "trainer.epochs=3", "trainer.batch_size=8")
    losses = train(tmp_path / "s/whole", *quick)["validation_losses"]
    assert [epoch for epoch, _ in losses] == [1.0, 2.0, 3.0]
    for k in range(MIN_RUNS):
        worse, better = losses[0][1] + 1, losses[1][1] - 1
        write_run(tmp_path / "s" / str(k), [[1.0, worse], [2.0, better]], loss=run_loss(tmp_path / "s/whole"))
    folder = tmp_path / "s/pruned"
    with pytest.raises(FileNotFoundError):  # there are no metrics
        train(folder, *quick, f"trainer.prune_against={tmp_path / 's'}")
    assert "epoch 2: the validation loss" in (folder / paths.PRUNED).read_text()
    assert not (folder / paths.DONE).exists() and not (folder / paths.FAILED).exists()
    from helpers.configs import compose_config

    cfg = compose_config(*quick, f"resume={folder}")
    train_config(cfg, folder)
    assert (folder / paths.DONE).exists() and not (folder / paths.PRUNED).exists()
    assert checked_json.read(folder / paths.METRICS)["validation_losses"] == losses


def run_loss(folder: Path) -> dict[str, Any]:
    loss: dict[str, Any] = RunRecord.open(folder).config["loss"]
    return loss
