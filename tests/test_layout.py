"""The structure, from the source: imports point down, and each outside library has one home."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "vgg_nll"
LEVELS = {
    0: (
        *("errors", "softmax", "layers", "parameters", "schedule", "rng", "settings", "hardware"),
        *("signals", "watch", "tracking", "progress", "profiler"),
    ),
    1: ("checkpoint", "config", "model", "targets", "metrics", "mistakes", "data", "anatomy"),
    2: ("state", "saver", "run_folder", "report", "comparison", "losses", "pages"),
    3: ("engine",),
    4: ("embedding", "temperature"),
    5: ("logger",),
    6: ("trainer",),
    7: ("build", "provenance"),
    8: ("network", "resuming"),
    9: ("run", "evaluation", "prediction"),
    10: ("command", "benchmarks"),
}
LEVEL_OF = {module: level for level, modules in LEVELS.items() for module in modules}
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def part(path: Path) -> str:
    """vgg_nll/data/folder.py -> data; vgg_nll/run.py -> run."""
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


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    for name in imports(path):
        if name.startswith("vgg_nll."):
            target = name.split(".")[1]
            assert target == part(path) or LEVEL_OF[target] < LEVEL_OF[part(path)], f"{part(path)} imports {target}"


def test_every_module_has_a_level() -> None:
    assert {part(path) for path in SOURCES} == set(LEVEL_OF)


@pytest.mark.parametrize(
    ("libraries", "homes"),
    [
        (("tensorboard", "torch.utils.tensorboard"), {"tracking"}),
        (("hydra", "omegaconf"), {"config", "build", "run", "command", "resuming", "network"}),
        (("matplotlib",), {"tracking", "pages"}),  # pages: the type
        (("tqdm",), {"progress"}),
    ],
)
def test_outside_libraries_have_one_home(libraries: tuple[str, ...], homes: set[str]) -> None:
    users = {part(path) for path in SOURCES for name in imports(path) if name.startswith(libraries)}
    assert users == homes


@pytest.mark.parametrize("path", [*SOURCES, *(ROOT / "scripts").glob("*.py")], ids=lambda path: path.name)
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
    assert top <= {"train.py", "configs", "vgg_nll", "scripts", "tests", "docs", "Makefile", "pyproject.toml", "README.md"}


def test_importing_changes_nothing() -> None:
    """No seed, flag or device is set by importing any module."""
    modules = ", ".join(f"vgg_nll.{module}" for module in LEVEL_OF)
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
