"""metrics.csv: whole rows, in order of steps, whatever killed the process before."""

import csv
import math
from pathlib import Path

import pytest

from vgg_nll.training.metrics_table import MetricsTable


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def row(step: int, accuracy: float = 0.5) -> dict[str, float]:
    return {"step": step, "accuracy": accuracy}


def test_rows(tmp_path: Path) -> None:
    table = MetricsTable(tmp_path / "metrics.csv")
    for step, value in ((0, 0.1), (6, 1 / 3), (12, math.nan)):
        table.add(row(step, value))
    found = rows_of(tmp_path / "metrics.csv")
    assert [line["step"] for line in found] == ["0", "6", "12"]
    assert float(found[1]["accuracy"]) == 1 / 3  # all digits
    assert found[2]["accuracy"] == ""


@pytest.mark.parametrize("torn", ["", "18,0.", "18", "18,0.5\n24"])
def test_a_resumed_run_replaces_what_it_does_again(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "metrics.csv"
    first = MetricsTable(path)
    for step in (0, 6, 12):
        first.add(row(step))
    path.write_text(path.read_text() + torn)
    second = MetricsTable(path)
    second.add(row(12, 0.75))
    second.add(row(18, 0.25))
    assert [(line["step"], line["accuracy"]) for line in rows_of(path)] == [
        *(("0", "0.5"), ("6", "0.5"), ("12", "0.75"), ("18", "0.25")),
    ]


@pytest.mark.parametrize("before", ["", "a,b\n1,2\n", "\0\n", "step,accuracy,more\n0,1,2\n", "é" * 5])
def test_a_file_that_is_not_ours_is_replaced(tmp_path: Path, before: str) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(before, encoding="latin-1")
    MetricsTable(path).add(row(6))
    assert [line["step"] for line in rows_of(path)] == ["6"]


def test_a_full_disk_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = MetricsTable(tmp_path / "missing" / "metrics.csv")
    for step in (0, 6):
        table.add(row(step))
    assert len(caplog.records) == 1
    assert "metrics.csv gets no more rows, training continues" in caplog.text
