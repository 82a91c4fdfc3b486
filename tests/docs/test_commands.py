"""Every command of the README runs as written (cut short), and its figures and examples are the code's own."""

import doctest
import math
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.configs import ROOT
from helpers.pictures import write_cifar, write_folder
from torchvision import datasets
from torchvision.models import vgg

from vgg_nll.inference.trained_model import open_network, write_temperature

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
LINES = [line.partition(" #")[0].strip() for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
LINES = list(dict.fromkeys(LINES))  # some stand there twice
TRAIN = [line for line in LINES if line.startswith("python train.py")]
SCRIPTS = [line for line in LINES if line.startswith("python scripts/")]
OTHER = [line for line in LINES if line not in TRAIN and line not in SCRIPTS]
# The same run, but one step of it on few images.
SHORT = ["trainer.epochs=4", "trainer.steps=1", "trainer.batch_size=4", "trainer.eval_batch_size=60", "device=cpu"]


@pytest.mark.parametrize("line", TRAIN)
def test_train_commands(
    line: str, command: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    arguments = shlex.split(line)[2:]
    resumed = next((a for a in arguments if a.startswith("resume=")), None)
    if "data=cifar10" in arguments:
        write_cifar(tmp_path / "data", datasets.CIFAR10, monkeypatch)
    if "data.root=pictures" in arguments:
        write_folder(tmp_path / "pictures")
        arguments += ["data.num_workers=0", "data.image_size=32"]
    if "model.weights=vgg16.pth" in arguments:
        torch.save({"features." + k: v for k, v in vgg.make_layers(vgg.cfgs["D"]).state_dict().items()}, tmp_path / "vgg16.pth")
    if resumed:  # what it resumes is a run that was made before
        folder = resumed.removeprefix("resume=")
        assert (
            command(
                "data=synthetic",
                "data.num_images=40",
                "data.num_classes=2",
                *SHORT,
                "model.width=0.0625",
                f"hydra.run.dir={folder}",
            )
            == 0
        )
        arguments += ["trainer.steps=2"]
    else:
        arguments += ["model.width=0.0625"] * ("weights" not in line)  # torchvision's fit the real one alone
        given = {argument.partition("=")[0] for argument in arguments}
        arguments += [argument for argument in SHORT if argument.partition("=")[0] not in given]
    assert command(*arguments) == 0, capfd.readouterr().err
    jobs = math.prod(argument.count(",") + 1 for argument in arguments) if "-m" in arguments else 1
    assert len(list(tmp_path.rglob("DONE"))) == jobs


# The same benchmark, but as small as it can be; each has a test of its own.
SMALL = {
    "data": ["--pictures", "32", "--processes", "0", "--repeats", "1"],
    "startup": ["--repeats", "1"],
    "step": ["--repeats", "1", "--batch-size", "2"],
    "trainer": ["--repeats", "1", "--images", "40", "--classes", "4", "--batch-size", "4"],
}
SLOW = ("benchmark.py startup", "benchmark.py trainer")  # processes


@pytest.mark.parametrize("line", [pytest.param(line, marks=[pytest.mark.soak] * line.endswith(SLOW)) for line in SCRIPTS])
def test_script_commands(
    line: str, script: Callable[..., int], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a run under the name that the README gives it, with a temperature, and a folder of pictures."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs/train/2026-01-31_12-00-00-000000"
    shutil.copytree(finished, run)
    write_temperature(open_network(run, device="cpu"), 1.5)
    write_folder(tmp_path / "pictures")
    _, path, *arguments = shlex.split(line)
    if path == "scripts/benchmark.py":
        arguments += ["--device", "cpu", *SMALL[arguments[0]]]
    assert script(Path(path).stem, *arguments) == 0


def test_other_commands_are_targets_and_tools() -> None:
    """The rest of the commands are make's (run by CI and by hand), and TensorBoard."""
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in OTHER:
        words = shlex.split(line)
        assert (words[0] == "make" and words[1] in targets) or words[:2] == [".venv/bin/tensorboard", "--logdir"], line


def test_tensorboard_starts() -> None:
    done = subprocess.run([sys.executable, "-m", "tensorboard.main", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("2.")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples(page: Path) -> None:
    examples = "".join(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL))
    test = doctest.DocTestParser().get_doctest(examples, {}, page.name, page.name, 0)
    assert doctest.DocTestRunner().run(test) == (0, len(test.examples))
    assert test.examples


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    assert targets
    for target in targets:
        assert (page.parent / target).exists(), target


def test_pictures_of_the_losses_are_made(tmp_path: Path) -> None:
    """Every picture that docs/losses.md shows, by the script that it names."""
    subprocess.run([sys.executable, str(ROOT / "scripts" / "plot_losses.py"), str(tmp_path)], cwd=tmp_path, check=True)
    made = {path.name for path in tmp_path.iterdir()}
    assert made == set(re.findall(r"\]\((\w+\.png)\)", (ROOT / "docs" / "losses.md").read_text()))
    assert all((tmp_path / name).stat().st_size > 5_000 for name in made)
