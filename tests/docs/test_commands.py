"""Every command in README.md, CONTRIBUTING.md and docs/ runs as written (cut short), and so does every example."""

import doctest
import functools
import importlib
import math
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.configs import ROOT
from helpers.pictures import write_cifar, write_folder, write_idx, write_imagenet, write_table
from helpers.processes import start_ranks
from helpers.runs import edit_config, edit_record
from helpers.weights import publish
from PIL import Image, ImageChops
from torch.distributed.run import get_args_parser
from torchvision import datasets
from torchvision.models import vgg

from vgg_nll.benchmarks import gpu
from vgg_nll.calibration.temperature import Fitted
from vgg_nll.cli import launch
from vgg_nll.config.compose import composed, names_of
from vgg_nll.data.pictures.colour import in_srgb
from vgg_nll.data.pictures.profiles import rgb_profile
from vgg_nll.inference import trained_model
from vgg_nll.inference.saved_temperature import write_temperature
from vgg_nll.model import VGG16
from vgg_nll.tracking import dashboard

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    (page, language, text)
    for page in PAGES
    for language, text in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
]
LINES = [line.partition(" #")[0].strip() for _, language, text in BLOCKS if language == "sh" for line in text.splitlines()]
LINES = [line for line in dict.fromkeys(LINES) if line]  # some stand on several pages
COMPARED = [line for line in LINES if re.search(r"^python train.py .* name=(before|after)$", line)]
ANSWERS = [line for line in LINES if line.startswith("python train.py") and ("--help" in line or "--cfg" in line)]
TRAIN = [line for line in LINES if line.startswith("python train.py") and line not in COMPARED + ANSWERS]
BENCHMARKS = [line for line in LINES if line.startswith("python scripts/benchmark.py")]
BOARDS = [line for line in LINES if line.startswith("python scripts/board.py")]
ON_A_GPU = [line for line in LINES if line.startswith("python scripts/gpu.py")]
SCRIPTS = [line for line in LINES if line.startswith("python scripts/") and line not in BENCHMARKS + BOARDS + ON_A_GPU]
TORCHRUN = [line for line in LINES if line.startswith("torchrun ")]
STARTED = TORCHRUN + TRAIN + ANSWERS + COMPARED + BENCHMARKS + BOARDS + ON_A_GPU + SCRIPTS
OTHER = [line for line in LINES if line not in STARTED]
COMPLETION = 'eval "$(python train.py -sc install=bash)"'
# A new environment, without make: tests/wheel.sh installs the package in one.
BY_HAND = ("python3 -m venv .venv", "pip install -e .")
RUN = "runs/train/2026-01-31_12-00-00-000000_vgg16_all_logit"  # the run that all pages speak of
# The same run, but one step of it on few images, and no figures: tests/integration has a run with everything.
SHORT = ["trainer.steps=1", "trainer.batch_size=4", "trainer.eval_batch_size=60", "device=cpu", "tracking=none"]
NARROW = "model.width=0.0625"
Command = Callable[..., int]


def cut_short(line: str) -> list[str]:
    """Returns the arguments of a training command, with what makes it last for a moment only."""
    narrow = [NARROW] * ("model.weights" not in line)  # torchvision's weights fit the full width only
    short = {argument.partition("=")[0]: argument for argument in [*SHORT, *narrow]}
    arguments, is_first = [], True
    for argument in shlex.split(line)[2:]:
        swept = re.match(r"([\w.]+=[^,([]+)(,[^,]+)", argument)
        if swept:  # over two values of the first key
            argument, is_first = swept[1] + swept[2] * is_first, False
        arguments.append(re.sub(r"^search.trials=.*", "search.trials=2", argument))
    return [argument for argument in arguments if argument.partition("=")[0] not in short] + list(short.values())


def write_inputs(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> list[str]:
    """Writes what a command reads into `folder`; returns the arguments that it needs besides."""
    if "data=cifar10" in line:
        write_cifar(folder / "data", datasets.CIFAR10, monkeypatch)
    if "model.weights=vgg16.pth" in line:
        torch.save({"features." + k: v for k, v in vgg.make_layers(vgg.cfgs["D"]).state_dict().items()}, folder / "vgg16.pth")
    if "experiment=finetune" in line and "model.weights" not in line:
        publish(folder, VGG16(1000, head="paper", width=1 / 16), monkeypatch)
    if f"resume={RUN}" in line:
        tiny = ["data=synthetic", "data.num_images=40", "data.num_classes=2", NARROW, *SHORT]
        assert command(*tiny, f"hydra.run.dir={RUN}") == 0
        return ["trainer.steps=2"]
    if "mnist" in line:
        write_idx(folder / "data")
    if "data=imagenet" in line:
        write_imagenet(folder / "imagenet")
        return [f"data.root={folder}/imagenet", "data.num_workers=0", "data.image_size=32"]
    if "data.root=pictures" in line:
        write_folder(folder / "pictures")
        write_table(folder / "pictures/labels.csv")
        return ["data.num_workers=0", "data.image_size=32"]
    return []


TRAIN = list({tuple(cut_short(line)): line for line in TRAIN}.values())  # two may be one when cut short


@pytest.mark.slow
@pytest.mark.parametrize("line", TRAIN)
def test_train_commands(
    line: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    more = write_inputs(line, tmp_path, monkeypatch, command)
    resumes = f"resume={RUN}" in line  # and has the config of the run
    arguments = [*(shlex.split(line)[2:] if resumes else cut_short(line)), *more]
    assert command(*arguments) == 0, capfd.readouterr().err
    jobs = math.prod(argument.count(",") + 1 for argument in arguments) if "-m" in arguments else 1
    jobs = 2 if "search=optuna" in arguments else jobs
    assert len(list(tmp_path.rglob("DONE"))) == jobs


@pytest.mark.parametrize("line", ANSWERS)
def test_answers(line: str, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*shlex.split(line)[2:]) == 0
    printed = capsys.readouterr().out
    assert "all_logit" in printed or "num_images: 100" in printed
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def as_on_the_pages(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the run that the pages speak of, its temperature, a sweep, and a folder of pictures."""
    monkeypatch.chdir(tmp_path)
    for folder in (RUN, "runs/sweeps/losses/loss=all_logit,seed=0"):
        shutil.copytree(finished, tmp_path / folder)
    for sweep, key, values in (("models", "model", ("vgg16", "vgg16_bn")), ("rates", "optimizer.lr", (0.1, 0.01))):
        for value in values:
            copy = Path(shutil.copytree(finished, tmp_path / f"runs/sweeps/{sweep}/{key}={value}"))
            if key == "model":
                edit_record(copy, choices={key: value})
            else:
                edit_config(copy, **{key: value})
    write_temperature(trained_model.load(tmp_path / RUN, device="cpu"), Fitted(1.5, 1.5, 1.5, 500))
    write_folder(tmp_path / "pictures")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("line", SCRIPTS)
def test_script_commands(line: str, script: Command, as_on_the_pages: Path) -> None:
    _, path, *arguments = shlex.split(line)
    assert script(Path(path).stem, *arguments) == 0


@pytest.mark.parametrize("line", BOARDS)
def test_board_commands(
    line: str, script: Command, as_on_the_pages: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The link is printed, and TensorBoard takes the place of the process, on the same port."""
    started: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda program, words: started.append(words))
    _, path, *arguments = shlex.split(line)
    assert script(Path(path).stem, *arguments) == 0
    link = capsys.readouterr().out.split()[1]
    ((*_, folder, option, images, port, number),) = started
    assert (folder, option, images, port) == (*(arguments or ["runs"]), *dashboard.OPTIONS, "--port")
    assert link == dashboard.link(names_of("loss"), int(number))


def test_a_port_that_is_taken(script: Command, as_on_the_pages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        assert script("board", "--port", taken.getsockname()[1]) == 1
        assert "another program has it; name a free one" in capsys.readouterr().err
    assert script("board", "no/such/folder") == 1
    assert "no/such/folder: there is no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("line", BENCHMARKS)
def test_benchmark_commands(
    line: str, script: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The options are known. tests/benchmarks runs the benchmarks themselves."""
    _, _, name, *options = shlex.split(line)
    module = importlib.import_module(f"vgg_nll.benchmarks.{name}")
    calls: list[Namespace] = []

    @functools.wraps(getattr(module, name))
    def measure(args: Namespace) -> list[dict[str, Any]]:
        calls.append(args)
        return [{"n": 1}]

    monkeypatch.setattr(module, name, measure)
    assert script("benchmark", name, *options) == 0, capsys.readouterr().err
    assert len(calls) == 1


@pytest.mark.parametrize("line", ON_A_GPU)
def test_gpu_commands(line: str, script: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The options and the parts are known. tests/benchmarks runs the parts themselves."""
    calls: list[Namespace] = []
    monkeypatch.setattr(gpu, "measure", lambda args: calls.append(args) or 0)
    assert script("gpu", *shlex.split(line)[2:]) == 0
    assert len(calls) == 1


def test_every_benchmark_is_on_a_page(script: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert script("benchmark", "--help") == 0
    offered = set(re.findall(r"^    (\w+)", capsys.readouterr().out, re.MULTILINE))
    assert offered == {shlex.split(line)[2] for line in BENCHMARKS}


def test_other_commands_are_targets_and_tools() -> None:
    """make's targets are run by CI and by hand; the rest starts a tool, or is tested below."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    tools = {
        ". .venv/bin/activate",
        COMPLETION,
        *BY_HAND,
        "pre-commit install",
        "sbatch train.sbatch",  # its text is below
    }
    for line in OTHER:
        program, *words = line.split()
        assert line in tools or program == "diff" or (program == "make" and words and targets.issuperset(words)), line


@pytest.mark.slow
@pytest.mark.parametrize("line", TORCHRUN)
def test_torchrun_commands(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    """Torchrun knows the options, and two ranks train with the rest. tests/integration starts torchrun itself."""
    options, _, overrides = line.partition(" train.py ")
    more = write_inputs(line, tmp_path, monkeypatch, command)
    words = [*(shlex.split(overrides) if "resume=" in line else cut_short(f"python train.py {overrides}")), *more]
    known = get_args_parser().parse_args([*shlex.split(options)[1:], "train.py", *words])
    if "--nnodes" in line:
        assert (known.nnodes, known.nproc_per_node, known.rdzv_endpoint) == ("2", "8", "node1:29500")
        return
    assert (known.standalone, known.nproc_per_node, known.training_script) == (True, "2", "train.py")
    ranks = start_ranks(tmp_path, 2, *words)
    assert [rank.end() for rank in ranks] == [0, 0], "\n".join(rank.text() for rank in ranks)
    assert "on 2 ranks with 2 images each" in ranks[0].text()
    assert len(list(tmp_path.rglob("DONE"))) == 1


def test_the_sbatch_file() -> None:
    """It is a script, and torchrun knows its options."""
    (text,) = (text for _, language, text in BLOCKS if language == "bash")
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0
    line = text.replace("\\\n", " ").partition("srun torchrun ")[2]
    options, _, overrides = line.partition(" train.py ")
    known = get_args_parser().parse_args(
        [*shlex.split(options.replace("$SLURM_NNODES", "4")), "train.py", *shlex.split(overrides)]
    )
    assert (known.nnodes, known.nproc_per_node, known.max_restarts) == ("4", "8", 3)
    assert composed(shlex.split(overrides), "train").trainer.batch_size == 2048


@pytest.mark.slow
def test_tab_completes(tmp_path: Path) -> None:
    """As the page says, in a bash that is told what was typed."""
    typed = "python train.py loss=al"
    line = (
        f"{COMPLETION}; COMP_LINE='{typed}' COMP_POINT={len(typed)} COMP_CWORD=2; hydra_bash_completion; echo ${{COMPREPLY[@]}}"
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert done.stdout.strip() == "loss=all_logit", done.stderr


@pytest.mark.slow
def test_tensorboard_starts() -> None:
    done = subprocess.run([sys.executable, "-m", "tensorboard.main", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("2.")


def test_console_command_is_train_py() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["vgg-nll"].partition(":")
    assert getattr(importlib.import_module(module), function) is launch.main
    assert "from vgg_nll.cli.launch import main" in (ROOT / "train.py").read_text()


@pytest.mark.slow
def test_two_runs_compare_as_contributing_says(command: Command, tmp_path: Path) -> None:
    """The commands that show a refactor to be bit-identical find no difference but those that the page names."""
    assert len(COMPARED) == 2
    for line in COMPARED:
        assert command(*cut_short(line)) == 0
    (difference,) = (line for line in OTHER if line.startswith("diff "))
    found = subprocess.run(["bash", "-c", difference], cwd=tmp_path, capture_output=True, text=True).stdout
    keys = set(re.findall(r'^[<>]\s+"(\w+)', found, re.MULTILINE))
    (allowed,) = re.findall(r"Only (.*) may differ", (ROOT / "CONTRIBUTING.md").read_text())
    assert {"run"} <= keys <= set(re.findall(r"`(\w+)`", allowed))


def python_blocks(page: Path) -> list[str]:
    return [text for its, language, text in BLOCKS if its == page and language == "python"]


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=lambda page: page.name)
def test_python_examples(page: Path, as_on_the_pages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Examples with a prompt give what they show. Those without predict with the run that the page speaks of."""
    sessions = "\n".join(text for text in python_blocks(page) if ">>>" in text)
    test = doctest.DocTestParser().get_doctest(sessions, {}, page.name, page.name, 0)
    result = doctest.DocTestRunner().run(test)
    assert result == (0, len(test.examples)), capsys.readouterr().out
    for text in python_blocks(page):
        if ">>>" in text or "onnxruntime" in text:
            continue
        names: dict[str, Any] = {}
        exec(text, names)
        found, network = names["found"], names["network"]
        p = found.probabilities.amax(dim=1)
        assert found.probabilities.shape == (len(found.classes), 2)
        torch.testing.assert_close(found.probabilities.sum(dim=1), torch.ones_like(p))
        torch.testing.assert_close(found.margin, torch.log(p / (1 - p)))
        best = found.probabilities.argmax(dim=1).tolist()
        assert found.classes == tuple(network.class_names[k] for k in best)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P"])
def test_the_program_of_the_page_converts_colours(mode: str) -> None:
    (text,) = (text for text in python_blocks(ROOT / "docs/pictures.md") if "onnxruntime" in text)
    program: dict[str, Any] = {}
    exec(text[: text.index("session")].replace("import onnxruntime", ""), program)
    picture = Image.effect_mandelbrot((40, 40), (-2, -1, 1, 1), 30).convert(mode)
    for icc in (rgb_profile((0.31, 0.33, 0.7, 0.29, 0.1, 0.8, 0.1, 0.1), (1.0,)), b"nonsense", None):
        picture.info["icc_profile"] = icc
        expected = in_srgb(picture).convert("RGBA")
        got = program["in_srgb"](picture)
        assert np.asarray(ImageChops.difference(got, expected)).max() <= 1
        assert icc is None or icc == b"nonsense" or got.convert("RGB").tobytes() != picture.convert("RGB").tobytes()


@pytest.mark.slow
def test_the_program_of_the_page_says_what_predict_says(
    script: Command, as_on_the_pages: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It needs onnxruntime and Pillow; the temperature is inside. Pillow and PyTorch round a resized pixel differently."""
    (text,) = (text for text in python_blocks(ROOT / "docs/pictures.md") if "onnxruntime" in text)
    assert set(re.findall(r"^(?:import|from) ([\w, ]+?)(?: as| import|$)", text, re.MULTILINE)) == {
        "io, json, sys",
        "numpy",
        "onnxruntime",
        "PIL",
    }
    assert script("export", RUN, "--output", "model.onnx", "--temperature") == 0
    pictures = sorted(str(path) for path in Path("pictures/test").rglob("*.png"))
    for path, mode in zip(pictures, ("RGB", "L", "P", "LA"), strict=False):  # colours far from sRGB
        Image.open(path).convert(mode).save(path, icc_profile=rgb_profile((0.31, 0.33, 0.7, 0.29, 0.1, 0.8, 0.1, 0.1), (0.6,)))
    capsys.readouterr()
    assert script("predict", RUN, *pictures, "--temperature", "--csv", "--top", "1") == 0
    expected = [line.split(",") for line in capsys.readouterr().out.splitlines()[1:]]
    monkeypatch.setattr(sys, "argv", ["program.py", *pictures])
    exec(text, {})
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert [path for path, _ in lines] == pictures
    for (_, said), (_, _, name, confidence, *_) in zip(lines, expected, strict=True):
        found, p = said.rsplit(" ", 1)
        assert found == name or abs(float(p) - 0.5) < 0.01
        assert float(p) == pytest.approx(float(confidence), abs=0.01)
