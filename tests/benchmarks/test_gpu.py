"""`make gpu`: every part runs at a tiny size, the command is resumable, and its files are of one device."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.configs import ROOT

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


@pytest.mark.slow
def test_every_part_runs(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `make gpu DEVICE=cpu`, but benchmarks in this process; tests and sweeps in others."""

    def answer(command: list[str], here: Path, seconds: float) -> tuple[int, str]:
        if command[1] == str(gpu.PROGRAM):
            return script("benchmark", *command[2:]), ""
        return REAL_ANSWER(command, here, seconds)

    monkeypatch.setattr(gpu, "_answer", answer)
    code = script("gpu", "--device", "cpu", "--out", tmp_path)
    found = {path.stem: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert code == 0, {name: part.get("printed") for name, part in found.items()}
    kinds = {name.split("_")[0] for name in found}
    assert kinds == {part.name.split("_")[0] for part in gpu.PARTS if part.needs is None or part.needs.is_dir()}
    assert all(part["results"] for part in found.values())
    assert [row["state"] for row in found["digits"]["results"]] == ["finished"] * 2
    assert [row["model"] for row in found["memory"]["results"]] == ["vgg16", "vgg16_bn"]
    assert all(row["GiB"] > 0 for row in found["memory"]["results"])
    commands = ["import torch", "train.py --help", "train.py, first step done"]
    assert [row["what"] for row in found["startup"]["results"]] == commands
    assert found["startup"]["results"][0]["x import torch"] == 1
    steps = [part["results"] for name, part in found.items() if name.startswith("step")]
    assert all((rows[0]["step"], rows[-1]["step"]) == ("baseline loop", "this project's step") for rows in steps)
    loops = next(part["results"] for name, part in found.items() if name.startswith("trainer"))
    assert [row["n"] for row in loops] == [1] * 4
    for row in (*loops, *(row for rows in steps for row in rows)):
        assert row["min images/s"] == row["median"] == row["max"]  # of one repeat, or one epoch
