"""scripts/benchmark.py: the columns follow from the seconds, on a patched clock: no test asserts a speed."""

import functools
import importlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.clock import Clock
from helpers.configs import compose_config

from vgg_nll.benchmarks import timing
from vgg_nll.checkpoints.saver import CheckpointSaver
from vgg_nll.model import VGG16, summary
from vgg_nll.run_folder.record import DataRecord, RunRecord
from vgg_nll.training.evaluator import Evaluator
from vgg_nll.training.logger import TrainingLogger

Script = Callable[..., int]
CPU = torch.device("cpu")
PREPROCESSING = {"image_size": 32, "resize": 32, "mean": [0.0] * 3, "std": [1.0] * 3}
NARROW = functools.partial(VGG16, width=1 / 16)


def rows_of(script: Script, tmp_path: Path, *arguments: object) -> list[dict[str, Any]]:
    """Returns what a sub-command finds, from its JSON file."""
    out = tmp_path / "rows.json"
    assert script("benchmark", *arguments, "--device", "cpu", "--out", out) == 0
    results: list[dict[str, Any]] = json.loads(out.read_text())["results"]
    return results


def module_of(name: str) -> ModuleType:
    return importlib.import_module(f"vgg_nll.benchmarks.{name}")


def given_seconds(monkeypatch: pytest.MonkeyPatch, module: ModuleType, *seconds: list[float]) -> list[list[Any]]:
    """Replaces `interleaved` in a module: each call is made once, and has taken the next of `seconds`.

    Returns the list of the calls' names, one list for each use.
    """
    names: list[list[Any]] = []

    def interleaved(calls: Mapping[Hashable, Callable[[], object]], repeats: int, *_: object) -> dict[Hashable, list[float]]:
        for call in calls.values():
            call()
        names.append(list(calls))
        return dict(zip(calls, seconds, strict=True))

    monkeypatch.setattr(module, "interleaved", interleaved)
    return names


def test_calls_take_turns_and_the_first_three_warm_up(clock: Clock) -> None:
    turns: list[str] = []
    durations = {"a": iter([9.0, 9.0, 9.0, 1.0, 2.0]), "b": iter([8.0, 8.0, 8.0, 4.0, 3.0])}

    def call(name: str) -> None:
        turns.append(name)
        clock.now += next(durations[name])

    found = timing.interleaved({name: functools.partial(call, name) for name in "ab"}, 2, "calls", CPU)
    assert found == {"a": [1.0, 2.0], "b": [4.0, 3.0]}
    assert turns == ["a", "b"] * 5
    assert timing.seconds(clock.takes(0.25)) == 0.25


def test_losses(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Also as a table, and in a JSON file with the machine and the versions."""
    module = module_of("losses")
    kept: list[bool] = []
    monkeypatch.setattr(module.hardware, "keep_freed_memory", lambda keep: kept.append(keep))
    monkeypatch.setattr(torch, "compile", lambda loss: pytest.fail("not asked for"))
    names = given_seconds(monkeypatch, module, [0.004, 0.001, 0.002], [0.006, 0.003, 0.003], [0.001, 0.001, 0.001])
    monkeypatch.setattr(module, "peak_memory", lambda name, rows, classes, device: 4 * rows * classes * len(name))
    rows = rows_of(script, tmp_path, "losses", "--repeats", 3, "--sizes", "8x5")
    assert names == [["F.cross_entropy", "argmax_nll", "all_logit_nll"]] * 2
    assert (kept, torch.get_num_threads()) == ([False, True], 1)
    columns = ("min ms", "median ms", "max ms", "x F.cross_entropy", "extra memory / logits")
    for memory in ("fresh", "kept"):
        assert {row["loss"]: [row[column] for column in columns] for row in rows if row["memory"] == memory} == {
            "F.cross_entropy": [1.0, 2.0, 4.0, 1.0, 15.0],
            "argmax_nll": [3.0, 3.0, 6.0, 1.5, 10.0],
            "all_logit_nll": [1.0, 1.0, 1.0, 0.5, 13.0],
        }
    assert {(row["N"], row["C"], row["n"]) for row in rows} == {(8, 5, 3)}
    printed = capsys.readouterr().out
    assert re.search(r"^\| argmax_nll +\| +8 \| +5 \| kept +\| +3 \| +3\.0 \| +3\.0 \| +6\.0 \|", printed, re.MULTILINE), (
        printed
    )
    content = json.loads((tmp_path / "rows.json").read_text())
    assert printed.startswith(f"{content['device']}, torch {torch.__version__}\n")
    assert content["versions"]["torch"] == torch.__version__


def test_compiled_losses(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, and no memory, which is that of the functions as they are."""
    module = module_of("losses")
    compiled: list[Any] = []
    monkeypatch.setattr(module.hardware, "keep_freed_memory", lambda keep: None)
    monkeypatch.setattr(torch, "compile", lambda loss: compiled.append(loss) or loss)
    given_seconds(monkeypatch, module, [0.002], [0.003], [0.001])
    rows = rows_of(script, tmp_path, "losses", "--compile", "--sizes", "8x5")
    assert compiled == list(module.LOSSES.values()) * 2
    assert all("extra memory / logits" not in row for row in rows)


@pytest.mark.slow  # three processes
def test_peak_memory_of_the_losses() -> None:
    """Beside the logits: at least the gradient, and at most 4 times the logits, as for PyTorch's own loss."""
    module = module_of("losses")
    found = {name: module.peak_memory(name, 256, 32768, CPU) / (4 * 256 * 32768) for name in module.LOSSES}
    assert all(1.0 <= buffers <= 4.0 for buffers in found.values()), found


def test_checkpointing(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """The cost is the time of the steps with a checkpoint less that without one. The first of each is left out."""
    module = module_of("checkpointing")
    monkeypatch.setattr(module, "VGG16", functools.partial(VGG16, width=1 / 4))
    monkeypatch.setattr(module, "train_step", clock.takes(0.25, module.train_step))
    copies, waits = iter([9.0, 0.125, 0.5, 0.25]), iter([9.0, 0.0, 0.02, 0.005])
    save, wait = CheckpointSaver.save, CheckpointSaver.wait

    def slow_save(self: CheckpointSaver, *args: Any, **kwargs: Any) -> None:
        save(self, *args, **kwargs)
        clock.now += next(copies)

    monkeypatch.setattr(CheckpointSaver, "save", slow_save)
    monkeypatch.setattr(module, "seconds", lambda waiting: (wait(waiting.__self__), next(waits))[1])
    sizes = ("--image-size", 32, "--classes", 3, "--batch-size", 2, "--steps", 2, "--repeats", 3)
    (row,) = rows_of(script, tmp_path, "checkpointing", *sizes)
    parameters = sum(p.numel() for p in VGG16(3, head="compact", width=1 / 4).parameters())
    assert row.pop("MB") == pytest.approx(3 * 4 * parameters / 1e6, abs=1)  # the weights, and two moments for each
    assert row == {
        "image": 32,
        "classes": 3,
        "batch": 2,
        "n": 3,
        "step ms": 250.0,
        "blocked ms": 250.0,
        "min cost s": 0.125,
        "median cost s": 0.25,
        "max cost s": 0.5,
        "written within 2 steps": 2,
        "% at a checkpoint every 500 steps": 0.2,  # 0.25 s of 125 s
    }


@pytest.mark.slow
def test_tensorboard(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost of a run: its validations without and with figures, and its end, as a part of its steps."""
    module = module_of("tensorboard")
    monkeypatch.setattr(module, "VGG16", NARROW)
    #                   warm-up                  a step, numbers, figures, gradients, end; twice
    durations = iter([9.0, 9.0, 9.0, 9.0, 9.0, 0.125, 0.01, 0.5, 0.001, 0.25, 0.125, 0.03, 1.5, 0.003, 0.75])
    monkeypatch.setattr(module, "seconds", lambda call: (call(), next(durations))[1])
    sizes = ("--images", 20, "--batch-size", 2, "--steps", 100, "--validations", 5, "--with-pictures", 2, "--repeats", 2)
    rows = rows_of(script, tmp_path, "tensorboard", *sizes)
    assert [list(row.values()) for row in rows] == [
        ["a step", 2, "0.1250", "0.1250", "0.1250"],
        ["scalars and histograms", 2, "0.0100", "0.0200", "0.0300"],
        ["the same and figures", 2, "0.5000", "1.0000", "1.5000"],
        ["gradients and norms", 2, "0.0010", "0.0020", "0.0030"],
        ["the end", 2, "0.2500", "0.5000", "0.7500"],
        ["a run", 2, "", "2.57", "20.53% of 100 steps"],  # 3 x 0.02 + 2 x 1 + 3 x 0.002 + 0.5, of 12.5 s
    ]


def test_step(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row is of the same step: speed, arithmetic and share go together; the baseline is compared with itself."""
    module, dtype = module_of("step"), torch.float32
    names = given_seconds(monkeypatch, module, [1.0, 0.5, 4.0], [0.5, 0.25, 0.5], [0.25, 0.25, 0.25])
    monkeypatch.setattr(module, "in_subprocess", lambda make, *args: module.nullcontext(make(*args)))
    monkeypatch.setattr(module, "VGG16", NARROW)
    monkeypatch.setattr("torchvision.models.vgg16", lambda weights: SimpleNamespace(features=torch.nn.Conv2d(3, 512, 3)))
    monkeypatch.setattr("vgg_nll.hardware.choose_dtype", lambda name, device: dtype)
    monkeypatch.setattr("vgg_nll.hardware.peak_flops", lambda device, dtype: 1e9)
    rows = rows_of(script, tmp_path, "step", "--image-size", 32, "--classes", 3, "--batch-size", 2, "--repeats", 3)
    variants = ["baseline loop", "float32, channels-last, fused SGD", "this project's step"]
    assert names == [[(name, dtype) for name in variants]]
    flops = summary.flops_per_image(VGG16(3, head="compact", width=1 / 16), 32)
    for row, name, speeds, times in zip(
        rows, variants, ([0.5, 2.0, 4.0], [4.0, 4.0, 8.0], [8.0, 8.0, 8.0]), (1.0, 2.0, 4.0), strict=True
    ):
        assert (row["step"], row["precision"], row["n"]) == (name, "float32", 3)
        assert [row["min images/s"], row["median"], row["max"]] == speeds
        assert row["TFLOP/s"] == round(flops * speeds[1] / 1e12, 3)
        assert row["% of a matrix product"] == round(100 * flops * speeds[1] / 1e9, 1) > 0
        assert row["x baseline"] == times


def data_rows(script: Script, tmp_path: Path, processes: int) -> list[dict[str, Any]]:
    arguments = ("--pictures", 32, "--size", "64x48", "--processes", processes, "--repeats", 2)
    return rows_of(script, tmp_path, "data", *arguments)


@pytest.mark.slow
def test_data(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images/s of each source, against the first of its kind."""
    module, kinds = module_of("data"), iter([[[4.0, 4.0], [2.0, 1.0]], [[1.0, 1.0], [2.0, 2.0], [4.0, 4.0], [0.5, 0.5]]])
    digits, large = 39 * 32, 37 * 32  # images of an epoch: whole batches of three fifths

    def interleaved(calls: Mapping[str, Callable[[], object]], *_: object) -> dict[str, list[float]]:
        for call in calls.values():
            call()
        return dict(zip(calls, next(kinds), strict=True))

    monkeypatch.setattr(module, "interleaved", interleaved)
    rows = data_rows(script, tmp_path, 0)
    assert [row["processes"] for row in rows] == ["this one"] * 6
    assert [list(row.values())[2:] for row in rows] == [
        [2, 8, 8, 8, 1.0],
        [2, 16, 21, 32, 2.67],  # 32 images in a median of 1.5 s
        [2, *[digits] * 3, 1.0],
        [2, *[large // 2] * 3, round(large / 2 / digits, 2)],
        [2, *[large // 4] * 3, round(large / 4 / digits, 2)],
        [2, *[large * 2] * 3, round(large * 2 / digits, 2)],
    ]
    assert [row["images"].partition(",")[0] for row in rows] == ["JPEG", "JPEG", "digits", "32x32", "32x32", "32x32"]


@pytest.mark.slow  # worker processes
def test_data_with_processes(script: Script, tmp_path: Path) -> None:
    rows = data_rows(script, tmp_path, 1)
    assert [row["processes"] for row in rows] == ["this one"] * 2 + [1] * 2 + ["this one"] * 4
    assert [row["x the first"] for row in (rows[0], rows[2], rows[4])] == [1, 1, 1]


def test_startup(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """Each command's own time; the start of all of them once, to read the disk, is left out."""
    module, commands = module_of("startup"), []
    monkeypatch.setattr(time, "time", clock)
    durations = iter([9.0, 9.0, 9.0, 1.0, 0.5, 3.0, 2.0, 0.25, 5.0])

    def run(command: list[str], **_: object) -> None:
        commands.append(command[1:3])
        clock.now += next(durations)

    monkeypatch.setattr(module.subprocess, "run", run)
    monkeypatch.setattr(module.event_files, "read_times", lambda folder, tag: [(1, clock.now)])
    rows = rows_of(script, tmp_path, "startup", "--repeats", 2)
    assert [list(row.values()) for row in rows] == [
        ["import torch", 2, 1.0, 1.5, 2.0, 1.0],
        ["train.py --help", 2, 0.25, 0.38, 0.5, 0.25],
        ["train.py, first step done", 2, 3.0, 4.0, 5.0, 2.67],
    ]
    program = str(module.PROGRAM)
    assert commands == [["-c", "import torch"], [program, "--help"], [program, "trainer.log_every_steps=1"]] * 3


@pytest.mark.slow
def test_trainer(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock, no_figures: None) -> None:
    """A step takes 1/4 s, the loop around it 1/16 s, a validation 2 s: epochs of 4 steps, as bare steps and as the loop."""
    module = module_of("trainer")
    asked: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        """Stands for the process: writes the record of a run of these overrides, with a narrow network."""
        assert command[:2] == [sys.executable, str(module.PROGRAM)]
        *overrides, folder = command[2:]
        asked.append(overrides)
        made = RunRecord.new(compose_config(*overrides, "model.width=0.0625", "trainer.precision=float32"))
        place = Path(folder.removeprefix("hydra.run.dir="))
        place.mkdir()
        replace(made, data=DataRecord(["a"], {}, ""), preprocessing=PREPROCESSING).write(place)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(module, "subprocess", SimpleNamespace(run=run))
    monkeypatch.setattr(module, "train_step", clock.takes(0.25, module.train_step))
    monkeypatch.setattr(TrainingLogger, "advance", clock.takes(0.0625))
    monkeypatch.setattr(Evaluator, "evaluate", clock.takes(1.0, Evaluator.evaluate))  # validation and training images
    monkeypatch.setattr("vgg_nll.hardware.peak_flops", lambda device, dtype: 1e9)
    sizes = ("--image-size", 32, "--classes", 2, "--images", 40, "--batch-size", 6)
    rows = rows_of(script, tmp_path, "trainer", *sizes, "--repeats", 2)
    plain, validated = module.LOOPS
    assert [row.pop("what") for row in rows] == ["bare step", plain, "bare step", validated]
    assert [list(row.values()) for row in rows] == [
        [2, 24.0, 24.0, 24.0, 0.0, 0.0],  # 24 images in 1 s
        [2, 19.2, 19.2, 19.2, 25.0, 20.0],  # in 1.25 s
        [2, 24.0, 24.0, 24.0, 0.0, 0.0],
        [2, 7.4, 7.4, 7.4, 225.0, 69.2],  # in 3.25 s: the validation of the epoch before counts
    ]
    assert all({"trainer.epochs=3", "trainer.steps=1"} <= set(overrides) for overrides in asked)  # an epoch to warm up
    assert ["trainer.validate_every_epochs=1" in overrides for overrides in asked] == [False, True]


def test_distributed_rows_are_known(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    assert script("benchmark", "distributed", "--device", "cpu", "--variants", "float16") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: --variants 'float16': must be of 'float32', 'float32, buckets of 100 MB', ")


@pytest.mark.slow
def test_distributed(script: Script, tmp_path: Path) -> None:
    """Every row; the bytes are those of the gradients, half of them, or hardly any."""
    sizes = ("--image-size", 32, "--classes", 3, "--batch-size", 2, "--width", 0.25)
    rows = {row["sent"]: row for row in rows_of(script, tmp_path, "distributed", *sizes, "--repeats", 1)}
    assert [row["ranks"] for row in rows.values()] == [2] * 5
    gradients = 4 * sum(p.numel() for p in VGG16(3, head="compact", width=0.25).parameters()) / 1e6
    sent = {name: row["MB sent, a rank and step"] / gradients for name, row in rows.items()}
    assert sent.pop("bfloat16") == pytest.approx(0.5, rel=0.1)
    assert sent.pop("PowerSGD") < 0.05
    assert list(sent.values()) == pytest.approx([1.0] * 3, rel=0.1)
