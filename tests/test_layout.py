"""The structure, from the source: modules are small, what is public is documented, imports change nothing.

The levels of the rooms and the homes of outside libraries are in pyproject.toml, and checked by import-linter in `make lint`.
"""

import ast
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.configs import ROOT

import vgg_nll

PACKAGE = ROOT / "vgg_nll"
SOURCES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """vgg_nll/data/splits.py -> data; vgg_nll/rng.py -> rng."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Dotted names of everything that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_torchs_tensorboard_has_one_home() -> None:
    """import-linter knows PyTorch as a whole alone, and all rooms may import that."""
    users = {room(path) for path in SOURCES for name in imports(path) if name.startswith("torch.utils.tensorboard")}
    assert users == {"tracking"}


def test_few_files_read_a_config() -> None:
    """From the typed line to the first step. The others are of other ways: sweeps, help, errors, finished runs, benchmarks."""
    names = {"cfg", "DictConfig"}
    files = {
        str(path.relative_to(PACKAGE))
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if names & {getattr(node, "id", None), getattr(node, "attr", None), getattr(node, "arg", None)}
    }
    of_a_run = {
        *("cli/launch.py", "cli/arguments.py", "cli/resume.py", "config/compose.py", "config/schema.py", "config/rules.py"),
        *("run_folder/record.py", "run/train.py", "run/setup.py", "run/build.py", "run/announce.py"),
    }
    others = {
        *("cli/sweep.py", "cli/help_page.py", "cli/error_messages.py", "benchmarks/trainer.py"),
        *("inference/evaluate.py", "inference/pictures.py"),
    }
    assert files == of_a_run | others
    assert len(of_a_run) <= 12


def test_the_model_alone_knows_its_names() -> None:
    """The names of its parameters and of its pretrained weights: whoever needs one asks the model."""
    parameter = re.compile(r"(features|classifier|avgpool)$|.*\b(features|classifier)\.", re.DOTALL)
    found = set()
    for path in SOURCES:
        if room(path) != "model":
            text = path.read_text()
            strings = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
            named = [value for value in strings if isinstance(value, str) and parameter.match(value)]
            found |= {f"{path.name}: {name}" for name in named + re.findall(r"VGG\d+_\w+|IMAGENET1K\w*", text)}
    assert not found


@pytest.mark.parametrize("path", [*SOURCES, *(ROOT / "scripts").glob("*.py")], ids=lambda path: str(path.relative_to(ROOT)))
def test_size(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 250
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{path.name}: {node.name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_everything_public_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


def test_top_level_is_as_agreed() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    top = {name.split("/")[0] for name in tracked if not name.startswith(".")}
    folders = {"configs", "vgg_nll", "scripts", "tests", "docs"}
    pages = {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff"}
    assert top == {"train.py", "Makefile", "pyproject.toml"} | folders | pages


@pytest.mark.slow
def test_importing_changes_nothing() -> None:
    """No seed, flag or device is set by importing any module."""
    modules = ", ".join(module.name for module in pkgutil.walk_packages(vgg_nll.__path__, "vgg_nll."))
    code = f"""
import torch
def look():
    return (torch.random.get_rng_state().tolist(), torch.get_num_threads(), torch.get_default_dtype(),
            torch.get_default_device(), torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark,
            torch.get_float32_matmul_precision(), torch.is_grad_enabled(), torch.cuda.is_initialized())
before = look()
import {modules}
assert look() == before
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_number_waits_for_the_device(path: Path) -> None:
    """`torch.where(condition, 0.0, x)` copies the 0.0 to a CUDA device, and the host waits for it; `masked_fill` does not."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.where":
            for argument in node.args:
                number = argument.operand if isinstance(argument, ast.UnaryOp) else argument
                assert not isinstance(number, ast.Constant), ast.unparse(node)
