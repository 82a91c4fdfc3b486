"""scripts/benchmark.py: what it prints and writes, and the memory that it finds the losses to need."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT


def test_losses(tmp_path: Path) -> None:
    """Peak memory beside the logits: at most 4 times theirs, as for PyTorch's own."""
    command = ["scripts/benchmark.py", "losses", "--device", "cpu", "--repeats", "1", "--sizes", "256x32768"]
    done = subprocess.run(
        [sys.executable, *command, "--out", str(tmp_path / "losses.json")], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "| F.cross_entropy | 256 | 32768 | 1 |" in done.stdout
    content = json.loads((tmp_path / "losses.json").read_text())
    memory = {row["loss"]: row["extra memory / logits"] for row in content["results"]}
    assert list(memory) == ["F.cross_entropy", "argmax_nll", "all_logit_nll"]
    assert all(1.0 <= buffers <= 4.0 for buffers in memory.values()), memory  # 1: the gradient itself
    assert {row["n"] for row in content["results"]} == {1}


def test_saves(tmp_path: Path) -> None:
    sizes = ["--image-size", "32", "--classes", "3", "--batch-size", "2", "--steps", "2", "--repeats", "2"]
    command = [
        sys.executable,
        "scripts/benchmark.py",
        "saves",
        "--device",
        "cpu",
        *sizes,
        "--out",
        str(tmp_path / "saves.json"),
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    (row,) = json.loads((tmp_path / "saves.json").read_text())["results"]
    assert row["MB"] == 176  # 14.7 million weights, and two moments for each
    assert 0 < row["stands still ms"] < 1e3 * row["step ms"]
    assert row["n"] == 2


def test_pages(tmp_path: Path) -> None:
    """What is drawn costs more than what is not; the run's cost is made of the medians."""
    out = tmp_path / "pages.json"
    command = [sys.executable, "scripts/benchmark.py", "pages", "--device", "cpu", "--repeats", "1", "--images", "20"]
    subprocess.run([*command, "--batch-size", "2", "--out", str(out)], cwd=ROOT, check=True)
    rows = {row["what"]: row["median s"] for row in json.loads(out.read_text())["results"]}
    step, numbers, drawn, end, run = (float(seconds) for seconds in rows.values())
    assert 0 < numbers < drawn
    assert run == pytest.approx(3 * numbers + 3 * drawn + end, abs=0.01)
    assert step > 0


def test_step(tmp_path: Path) -> None:
    """Every row is of the same step, so speed and arithmetic go together; the textbook is its own yardstick."""
    out = tmp_path / "step.json"
    sizes = ["--image-size", "32", "--classes", "3", "--batch-size", "2", "--repeats", "2"]
    subprocess.run(
        [sys.executable, "scripts/benchmark.py", "step", "--device", "cpu", *sizes, "--out", str(out)], cwd=ROOT, check=True
    )
    rows = json.loads(out.read_text())["results"]
    assert [rows[0]["step"], rows[-1]["step"]] == ["textbook loop", "this project's step"]
    assert rows[0]["x textbook"] == 1
    for row in rows:
        assert row["min images/s"] <= row["median"] <= row["max"]
        assert row["TFLOP/s"] == pytest.approx(row["median"] * 1.88e9 / 1e12, rel=0.05, abs=6e-4)  # of a 32x32 image's step
        assert 0 < row["% of a matrix product"] < 100
