"""scripts/benchmark.py: what it prints and writes. A clock that ticks once a look makes every time known."""

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vgg_nll.model import VGG16, summary

Script = Callable[..., int]


class Ticking:
    """A clock on which a second passes with every look."""

    def __init__(self) -> None:
        self._seconds = itertools.count()

    def perf_counter(self) -> float:
        return float(next(self._seconds))


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every measured call takes exactly a second."""
    for module in ("timing", "checkpointing"):
        monkeypatch.setattr(f"vgg_nll.benchmarks.{module}.time", Ticking())


def rows_of(script: Script, tmp_path: Path, *arguments: object) -> list[dict[str, Any]]:
    """What a sub-command finds, as it stands in its JSON file."""
    out = tmp_path / "rows.json"
    assert script("benchmark", *arguments, "--device", "cpu", "--out", out) == 0
    found: list[dict[str, Any]] = json.loads(out.read_text())["results"]
    return found


@pytest.mark.usefixtures("ticking")
def test_losses(script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Peak memory beside the logits: at most 4 times theirs, as for PyTorch's own."""
    rows = rows_of(script, tmp_path, "losses", "--repeats", "2", "--sizes", "256x32768")
    assert re.search(r"\| F\.cross_entropy +\| +256 +\| +32768 +\| +2 \|", capsys.readouterr().out)
    assert [row["loss"] for row in rows] == ["F.cross_entropy", "argmax_nll", "all_logit_nll"]
    for row in rows:
        assert [row[key] for key in ("n", "min ms", "median ms", "max ms", "x F.cross_entropy")] == [2, 1000, 1000, 1000, 1]
        assert 1.0 <= row["extra memory / logits"] <= 4.0  # 1: the gradient itself


@pytest.mark.usefixtures("ticking")
def test_checkpointing(script: Script, tmp_path: Path) -> None:
    """A window of two steps takes two looks at the clock, its checkpoint one of them; the writing then takes one more."""
    sizes = ("--image-size", 32, "--classes", 3, "--batch-size", 2, "--steps", 2, "--repeats", 2)
    (row,) = rows_of(script, tmp_path, "checkpointing", *sizes)
    assert row["MB"] == 176  # 14.7 million weights, and two moments for each
    assert (row["n"], row["step ms"], row["blocked ms"]) == (2, 1000, 1000)
    assert [row[f"{name} cost s"] for name in ("min", "median", "max")] == [0, 0, 0]
    assert row["written within 2 steps"] == 0


@pytest.mark.usefixtures("ticking")
def test_tensorboard(script: Script, tmp_path: Path) -> None:
    """The run's cost is made of the medians: three validations of each kind, and the end."""
    rows = rows_of(script, tmp_path, "tensorboard", "--repeats", 1, "--images", 20, "--batch-size", 2)
    assert [float(row["median s"]) for row in rows] == [1, 1, 1, 1, 3 + 3 + 1]
    assert rows[-1]["max s"] == f"{100 * 7 / 234:.2f}% of 234 steps"


@pytest.mark.usefixtures("ticking")
def test_step(script: Script, tmp_path: Path) -> None:
    """Speed and arithmetic go together; the baseline is its own yardstick."""
    sizes = ("--image-size", 32, "--classes", 3, "--batch-size", 2, "--repeats", 2)
    rows = rows_of(script, tmp_path, "step", *sizes)
    assert [rows[0]["step"], rows[-1]["step"]] == ["baseline loop", "this project's step"]
    flops = summary.flops_per_image(VGG16(3, head="compact"), 32)
    for row in rows:
        assert [row[key] for key in ("n", "min images/s", "median", "max", "x baseline")] == [2, 2, 2, 2, 1]
        assert row["TFLOP/s"] == round(2 * flops / 1e12, 3)


@pytest.mark.slow
@pytest.mark.usefixtures("ticking")
def test_data(script: Script, tmp_path: Path) -> None:
    """Each source by itself and against the first of its kind; with and without processes."""
    rows = rows_of(script, tmp_path, "data", "--pictures", 32, "--processes", 1, "--repeats", 1)
    assert [row["processes"] for row in rows] == ["this one"] * 2 + [1] * 2 + ["this one"] * 4
    images = [32] * 4 + [1258 // 32 * 32] + [1200 // 32 * 32] * 3
    assert [row["min images/s"] for row in rows] == [row["max"] for row in rows] == images
    assert [row["x the first"] for row in rows] == [1] * 5 + [round(1184 / 1248, 2)] * 3


@pytest.mark.slow  # six processes
def test_startup(script: Script, tmp_path: Path) -> None:
    rows = rows_of(script, tmp_path, "startup", "--repeats", 1)
    assert [row["what"] for row in rows] == ["import torch", "train.py --help", "train.py, first step done"]
    first = rows[0]["median s"]
    assert [row["x import torch"] for row in rows] == pytest.approx([row["median s"] / first for row in rows], rel=0.05)


@pytest.mark.slow  # two processes
def test_trainer(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop beside the bare step, in pairs."""
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
