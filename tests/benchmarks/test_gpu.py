"""`make gpu`: every part runs at a tiny size, the command is resumable, and its files are of one device."""

import functools
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.configs import ROOT
from helpers.processes import Run
from sweeps.fake import install

from vgg_nll.benchmarks import gpu

Script = Callable[..., int]
Captured = pytest.CaptureFixture[str]
REAL_ANSWER = gpu._answer


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parts whose commands were started; each answers with one row."""
    names: list[str] = []

    def answer(command: list[str], *_: object) -> tuple[int, str]:
        names.append(command[2])
        Path(command[-1]).write_text(json.dumps({"results": [{"n": 1}]}))
        return int(command[2] == "data"), "printed"

    monkeypatch.setattr(gpu, "_answer", answer)
    return names


def test_a_second_call_measures_what_is_missing(script: Script, tmp_path: Path, asked: list[str], capsys: Captured) -> None:
    out = tmp_path / "new/measured"
    options = ("--device", "cpu", "--out", out, "--parts", "losses", "data")
    assert script("gpu", *options) == 1
    losses, data = (json.loads((out / f"{name}.json").read_text()) for name in ("losses", "data"))
    assert losses.pop("device").startswith("CPU") and losses.pop("versions").keys() == {"torch", "torchvision", "python"}
    assert losses.pop("date") and losses.pop("seconds") >= 0
    assert losses == {"part": "losses", "words": "losses --sizes 8x5 --repeats 1", "exit_code": 0, "results": [{"n": 1}]}
    assert (data["exit_code"], data["results"], data["printed"]) == (1, [], "printed")
    said = capsys.readouterr()
    assert f"2/2  data: 0 s, failed: {out}/data.json" in said.out
    assert said.err == "1 parts have no result; the same command continues with them\n"
    assert script("gpu", *options) == 1
    assert asked == ["losses", "data", "data"]


def test_the_time_ends_a_part_and_the_rest(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    clock = iter([0.0, 0.0, 0.0, 60.0, 60.0])

    def answer(command: list[str], here: Path, seconds: float) -> tuple[int, str]:
        assert seconds == 60
        return REAL_ANSWER([sys.executable, "-c", "import time; time.sleep(60)"], here, 0.2)

    monkeypatch.setattr(gpu, "_answer", answer)
    monkeypatch.setattr("vgg_nll.benchmarks.gpu.time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert script("gpu", "--device", "cpu", "--out", tmp_path, "--minutes", 1, "--parts", "losses", "data") == 1
    found = json.loads((tmp_path / "losses.json").read_text())
    assert (found["exit_code"], found["printed"]) == (124, "the time was over")
    assert "2/2  data: not begun: the time is over" in capsys.readouterr().out
    assert not (tmp_path / "data.json").exists()


def test_figures_of_two_devices_are_not_mixed(
    script: Script, tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    options = ("--device", "cpu", "--out", tmp_path, "--parts", "losses")
    assert script("gpu", *options) == 0
    monkeypatch.setattr("vgg_nll.hardware.describe", lambda device: "another one")
    assert script("gpu", *options) == 1
    assert "losses.json is of CPU" in capsys.readouterr().err
    (tmp_path / "losses.json").write_text("{")
    assert script("gpu", *options) == 1
    assert "losses.json holds no result of a part; remove it, or name another folder" in capsys.readouterr().err
    assert asked == ["losses"]


def test_a_part_whose_files_are_not_there_is_left_out(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    part = gpu.Part("fashion", "sweep", "", "", tmp_path / "none")
    monkeypatch.setattr(gpu, "PARTS", [part])
    assert script("gpu", "--device", "cpu", "--out", tmp_path / "out") == 0
    assert f"1/1  fashion: left out: there is no {tmp_path}/none" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--parts", "steps"), "--parts steps: must be of tests startup losses"),
        (("--minutes", "0"), "--minutes: 0: must be an integer, at least 1"),
        (("--device", "tpu"), "tpu"),
        (("--out", ROOT / "train.py"), "is a file; name a folder"),
    ],
)
def test_bad_options(script: Script, tmp_path: Path, capsys: Captured, options: tuple[object, ...], message: str) -> None:
    assert script("gpu", "--out", tmp_path, *options) != 0
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


BENCHMARKS = [part for part in gpu.PARTS if part.kind == "benchmark"]
SWEEPS = [part for part in gpu.PARTS if part.kind == "sweep"]


@pytest.mark.parametrize("part", BENCHMARKS, ids=lambda part: part.name)
def test_words_of_benchmarks(part: gpu.Part, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kinds are known to the command."""
    name = part.words.partition(" ")[0]
    module = importlib.import_module(f"vgg_nll.benchmarks.{name}")
    measure = functools.wraps(getattr(module, name))(lambda args: [{"n": 1}])
    monkeypatch.setattr(module, name, measure)
    for words in (part.words, part.tiny):
        assert script("benchmark", *words.split(), "--device", "cpu", "--out", tmp_path / "rows.json") == 0


@pytest.mark.slow
@pytest.mark.parametrize("part", SWEEPS, ids=lambda part: part.name)
def test_words_of_sweeps(part: gpu.Part, command: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every job has a sound config."""
    launcher = install(monkeypatch)
    for name, words in (("whole", part.words), ("tiny", part.tiny)):
        root = () if part.needs is None else (f"data.root={tmp_path}",)
        assert command("-m", f"sweep={name}", "device=cpu", "launcher.jobs=1", *root, *words.split()) == 0
    assert launcher.calls


@pytest.mark.slow
def test_every_kind_of_part_runs(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `make gpu DEVICE=cpu`; but benchmarks in this process, and what they start forked, and narrow."""
    subprocess_run = subprocess.run

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if command[1] != str(ROOT / "train.py") or "-m" in command:
            return subprocess_run(command, **options)
        started = Run(tmp_path, *command[2:], "model.width=0.0625")
        return subprocess.CompletedProcess(command, started.end(), started.text(), "")

    def answer(command: list[str], here: Path, seconds: float) -> tuple[int, str]:
        if command[1] == str(gpu.PROGRAM):
            return script("benchmark", *command[2:]), ""
        return REAL_ANSWER(command, here, seconds)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(gpu, "_answer", answer)
    names = ("tests", "startup", "losses", "step_vgg16_224_256", "trainer_224", "data", "memory", "digits")
    out = tmp_path / "measured"
    code = script("gpu", "--device", "cpu", "--out", out, "--parts", *names)
    found = {path.stem: json.loads(path.read_text()) for path in out.iterdir()}
    assert code == 0, {name: part.get("printed") for name, part in found.items()}
    assert set(found) == set(names)
    assert all(part["results"] for part in found.values())
    assert [row["state"] for row in found["digits"]["results"]] == ["finished"] * 2
    assert [row["model"] for row in found["memory"]["results"]] == ["vgg16", "vgg16_bn"]
    assert all(row["GiB"] > 0 for row in found["memory"]["results"])
    commands = ["import torch", "train.py --help", "train.py, first step done"]
    assert [row["what"] for row in found["startup"]["results"]] == commands
    assert found["startup"]["results"][0]["x import torch"] == 1
    steps, loops = found["step_vgg16_224_256"]["results"], found["trainer_224"]["results"]
    assert (steps[0]["step"], steps[-1]["step"]) == ("baseline loop", "this project's step")
    assert [row["n"] for row in loops] == [1] * 4
    for row in (*steps, *loops):
        assert row["min images/s"] == row["median"] == row["max"]  # of one repeat, or one epoch
