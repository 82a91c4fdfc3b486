"""scripts/benchmark.py: what it prints and writes, and the memory that it finds the losses to need."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest


def rows_of(script: Callable[..., int], tmp_path: Path, *arguments: object) -> list[dict]:
    """What a sub-command finds, as it stands in its JSON file."""
    out = tmp_path / "rows.json"
    assert script("benchmark", *arguments, "--device", "cpu", "--out", out) == 0
    return json.loads(out.read_text())["results"]


def test_losses(script: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Peak memory beside the logits: at most 4 times theirs, as for PyTorch's own."""
    rows = rows_of(script, tmp_path, "losses", "--repeats", "1", "--sizes", "256x32768")
    assert "| F.cross_entropy | 256 | 32768 | 1 |" in capsys.readouterr().out
    memory = {row["loss"]: row["extra memory / logits"] for row in rows}
    assert list(memory) == ["F.cross_entropy", "argmax_nll", "all_logit_nll"]
    assert all(1.0 <= buffers <= 4.0 for buffers in memory.values()), memory  # 1: the gradient itself
    assert {row["n"] for row in rows} == {1}


def test_saves(script: Callable[..., int], tmp_path: Path) -> None:
    sizes = ("--image-size", 32, "--classes", 3, "--batch-size", 2, "--steps", 2, "--repeats", 2)
    (row,) = rows_of(script, tmp_path, "saves", *sizes)
    assert row["MB"] == 176  # 14.7 million weights, and two moments for each
    assert 0 < row["stands still ms"] < 1e3 * row["step ms"]
    assert row["n"] == 2


def test_pages(script: Callable[..., int], tmp_path: Path) -> None:
    """What is drawn costs more than what is not; the run's cost is made of the medians."""
    rows = rows_of(script, tmp_path, "pages", "--repeats", 1, "--images", 20, "--batch-size", 2)
    step, numbers, drawn, end, run = (float(row["median s"]) for row in rows)
    assert 0 < numbers < drawn
    assert run == pytest.approx(3 * numbers + 3 * drawn + end, abs=0.01)
    assert step > 0


def test_step(script: Callable[..., int], tmp_path: Path) -> None:
    """Every row is of the same step, so speed and arithmetic go together; the textbook is its own yardstick."""
    sizes = ("--image-size", 32, "--classes", 3, "--batch-size", 2, "--repeats", 2)
    rows = rows_of(script, tmp_path, "step", *sizes)
    assert [rows[0]["step"], rows[-1]["step"]] == ["baseline loop", "this project's step"]
    assert rows[0]["x baseline"] == 1
    for row in rows:
        assert row["min images/s"] <= row["median"] <= row["max"]
        assert row["TFLOP/s"] == pytest.approx(row["median"] * 1.88e9 / 1e12, rel=0.05, abs=6e-4)  # of a 32x32 image's step
        assert 0 < row["% of a matrix product"] < 100


def test_data(script: Callable[..., int], tmp_path: Path) -> None:
    """Each source by itself and against the first of its kind; with and without processes."""
    rows = rows_of(script, tmp_path, "data", "--pictures", 32, "--processes", 1, "--repeats", 1)
    assert [row["processes"] for row in rows] == ["this one"] * 2 + [1] * 2 + ["this one"] * 4
    assert [row["x the first"] for row in rows[::2][:2]] == [1, 1]
    for row, first in zip(rows, [rows[0]] * 2 + [rows[2]] * 2 + [rows[4]] * 4, strict=True):
        assert 0 < row["min images/s"] == row["median"] == row["max"]
        assert row["x the first"] == pytest.approx(row["median"] / first["median"], rel=0.02)


@pytest.mark.soak  # six processes
def test_startup(script: Callable[..., int], tmp_path: Path) -> None:
    rows = rows_of(script, tmp_path, "startup", "--repeats", 1)
    torch_alone, helped, stepped = (row["median s"] for row in rows)
    assert 0 < helped < torch_alone < stepped
    assert [row["x import torch"] for row in rows] == pytest.approx([1, helped / torch_alone, stepped / torch_alone], rel=0.05)


@pytest.mark.soak  # two processes
def test_trainer(script: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pairs, and with what is due once an epoch an epoch takes longer."""
    plain = ("vgg_nll.benchmarks.trainer.seconds", lambda call: [call(), 0.5][1])  # the bare epoch: half a second
    monkeypatch.setattr(*plain)
    sizes = ("--images", 40, "--classes", 4, "--batch-size", 4, "--repeats", 2)
    rows = rows_of(script, tmp_path, "trainer", *sizes)
    assert [row["what"] for row in rows[::2]] == ["bare step"] * 2
    assert {row["n"] for row in rows} == {2}
    for bare, loop in zip(rows[::2], rows[1::2], strict=True):
        assert bare["min images/s"] == bare["max"] == 24 / 0.5
        assert loop["min images/s"] <= loop["median"] <= loop["max"]
        assert loop["% more time than the bare step"] == pytest.approx(
            100 * (48 / loop["median"] - 1), abs=1 + loop["max"] - loop["min images/s"]
        )
    assert rows[3]["max"] < rows[1]["min images/s"]
