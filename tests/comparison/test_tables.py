"""The cells of the tables, against the numbers that were written."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from vgg_nll.comparison import tables
from vgg_nll.comparison.grouping import Group, group_runs
from vgg_nll.comparison.runs import find
from vgg_nll.evaluation.registry import View, shown_in

MakeRun = Callable[..., Path]


def groups_in(folder: Path) -> list[Group]:
    """The groups of all runs in a folder."""
    return group_runs(find([folder])[0])[0]


@pytest.mark.parametrize("width", range(20, 110, 3))
def test_no_number_is_cut(width: int) -> None:
    """In a narrow terminal: words are cut, numbers stay whole, or their column is left out."""
    numbers = ["93.591 ± 0.1234", "-0.41 to +0.37", "1.5", "none (n = 1)", "-"]
    head = [f"a long title of column {k}" for k in range(5)] + ["settings"]
    rows = [[*numbers, "optimizer.lr=0.0123456 trainer.epochs=1234567"], [*numbers[::-1], "default"]]
    found = tables.fitted(tables.Table(head, rows), width, [head[0]])
    for row in found.rows:
        for cell in row:
            assert cell in numbers or cell == "default" or not re.search(r"\d…|…[\d.]", cell)
    first = int(len(found.head) < len(head))
    assert [row[: 5 - first] for row in found.rows] == [numbers[first:], numbers[::-1][first:]]


def test_overview(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path / "a", "argmax", values={"accuracy": 0.97, "confidence_incorrect": 0.5}, seconds=60.97)
    make_run(tmp_path / "b", "argmax", 1, values={"accuracy": 0.99, "confidence_incorrect": math.nan})  # no errors
    make_run(tmp_path / "c", "all_logit", values={"accuracy": 0.98, "confidence_incorrect": math.nan})
    make_run(tmp_path / "d", "all_logit", done=False)
    table = tables.overview(groups_in(tmp_path))
    low, high = (98 + sign * math.tan(math.pi * 0.475) for sign in (-1, 1))  # the standard error is 1
    assert table.head == (
        *("data", "model", "loss", "settings", "n", "test accuracy %", "95% interval", "minimum"),
        *("NLL (argmax)", "ECE %", "confidence %", "confidence on wrong images %", "margin", "seconds"),
    )
    assert table.rows == [
        (
            *("digits", "vgg16", "all_logit", "default", "1", "98.00", "none (n = 1)", "98.00"),
            *("0.2500", "25.00", "25.00", "-", "0.25", "60 to 60"),
        ),
        (
            *("digits", "vgg16", "argmax", "default", "2", "98.00 ± 1.41", f"{low:.2f} to {high:.2f}", "97.00"),
            *("0.2500", "25.00", "25.00", "50.00", "0.25", "60 to 61"),
        ),
    ]


def test_overview_without_a_test_split(tmp_path: Path, make_run: MakeRun) -> None:
    for seed in range(2):
        make_run(tmp_path / f"{seed}", "argmax", seed, test=None, reliability=None)
    table = tables.overview(groups_in(tmp_path))
    assert "accuracy %" in table.head and "test accuracy %" not in table.head
    (row,) = table.rows
    assert row[:7] == ("digits (validation)", "vgg16", "argmax", "default", "2", "25.00 ± 0.00", "none (no spread)")


def test_means(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path / "a", "argmax", 0, values={"ece": 0.01, "confidence_incorrect": 0.6, "aurc": math.nan})
    make_run(tmp_path / "b", "argmax", 1, values={"ece": 0.03, "confidence_incorrect": math.nan, "aurc": math.nan})
    (group,) = groups_in(tmp_path)
    table = tables.means(group)
    rows = {row[0]: row[1] for row in table.rows}
    half = math.tan(math.pi * 0.475)
    assert table.head == ("metric", "argmax (n = 2)")
    assert rows["ECE %"] == f"2.00 ± 1.41 ({2 - half:.2f} to {2 + half:.2f})"
    assert rows["confidence on wrong images %"] == "60.00, n = 1"
    assert rows["AURC"] == "-"
    assert rows.keys() == {metric.head for metric in shown_in(View.COMPARISON)}


@pytest.mark.parametrize("loss", ["argmax", "all_logit"])
def test_every_metric_of_a_real_run_has_a_value(real_runs: Path, loss: str) -> None:
    """A metric that is renamed in metrics.json must not become a column of "-"."""
    (group,) = groups_in(real_runs)
    table = tables.means(group)
    column = table.head.index(f"{loss} (n = 2)")
    assert [row[0] for row in table.rows if row[column] == "-"] == []
