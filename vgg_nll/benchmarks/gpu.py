"""`make gpu`: everything that waits for a GPU, part by part, each with its result in a JSON file."""

import argparse
import csv
import datetime
import json
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
import torchvision

from vgg_nll import hardware
from vgg_nll.errors import ConfigError
from vgg_nll.files import atomic_write

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "scripts/benchmark.py"
FASHION = Path("/usr/share/datasets/fashion-mnist")
TESTS = ["-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider", "-q", "-m", "gpu"]
TIME_OVER = 124  # the exit code that the command `timeout` has for it
TAIL = 2000  # characters of what a failed part has printed


@dataclass(frozen=True)
class Part:
    """One command.

    Args:
        kind: how its result is read: "benchmark" (of scripts/benchmark.py), "sweep" (of train.py -m), "tests" (of pytest).
        words: after the command; tiny: instead of these where there is no GPU, to see that the part runs.
        needs: a folder without which the part is left out.
    """

    name: str
    kind: str
    words: str
    tiny: str
    needs: Path | None = None


TINY_STEP = "--image-size 32 --classes 2 --batch-size 2 --repeats 1"
TINY_RUN = "model.width=0.0625 trainer.batch_size=8 trainer.steps=2"
BATCHES = {(224, 1000): (256, 128, 64), (32, 10): (128, 32, 512)}
PARTS = [
    Part("tests", "tests", "tests", "tests/test_hardware.py"),
    Part("startup", "benchmark", "startup", "startup --repeats 1"),
    Part("losses", "benchmark", "losses --sizes 64x1000 256x1000 32x10 128x10 512x10", "losses --sizes 8x5 --repeats 1"),
    *(
        Part(
            f"step_{model}_{size}_{batch}",
            "benchmark",
            f"step --model {model} --image-size {size} --classes {classes} --batch-size {batch} --compile",
            f"step --model {model} {TINY_STEP}",
        )
        for model in ("vgg16", "vgg16_bn")
        for (size, classes), batches in BATCHES.items()
        for batch in batches
    ),
    *(
        Part(
            f"trainer_{size}",
            "benchmark",
            f"trainer --image-size {size} --classes {classes} --batch-size {batch} --images {images}",
            f"trainer {TINY_STEP} --images 10",
        )
        for size, classes, batch, images in ((224, 1000, 256, 8540), (32, 10, 128, 21400))  # 20 and 100 steps an epoch
    ),
    Part("data", "benchmark", "data", "data --pictures 32 --size 60x40 --processes 0 --repeats 1"),
    Part("memory", "benchmark", "memory", "memory --image-size 32 --classes 2 --batch-sizes 2"),
    Part(
        "digits",
        "sweep",
        "seed=range(0,5) loss=argmax,all_logit trainer.compile=false,true",
        f"seed=0 loss=argmax,all_logit data=synthetic data.num_images=50 {TINY_RUN}",
    ),
    Part(
        "fashion",
        "sweep",
        "experiment=fashion_vgg16,fashion_vgg16_bn loss=argmax,all_logit",
        f"experiment=fashion_vgg16 loss=argmax data.train_images=40 {TINY_RUN}",
        FASHION,
    ),
]


def measure(args: argparse.Namespace) -> int:
    """Runs the parts that have no result in `args.out` yet, for `args.minutes` at most; returns how many have none after that.

    Each part's file holds the words of its command, the date, the device, versions, seconds, the exit code and `results`, rows
    of a table. A part that failed has the end of what it printed instead, and is repeated by the next call.
    """
    device = hardware.choose_device(args.device)
    end = time.monotonic() + 60 * args.minutes
    args.out.mkdir(parents=True, exist_ok=True)
    chosen = [part for part in _different(device) if not args.parts or part.name in args.parts]
    missing = 0
    for number, part in enumerate(chosen, 1):
        start, file = time.monotonic(), args.out / f"{part.name}.json"
        if _is_done(file, part, device):
            outcome = "measured before"
        elif part.needs is not None and not part.needs.is_dir():
            outcome = f"left out: there is no {part.needs}"
        elif start >= end:
            outcome, missing = "not begun: the time is over", missing + 1
        else:
            found = _measure(part, device, args.out.absolute() / part.name, end)
            atomic_write(file, json.dumps(found, indent=2) + "\n")
            missing += found["exit_code"] != 0
            outcome = f"{found['seconds']:.0f} s" + ("" if found["exit_code"] == 0 else f", failed: {file}")
        print(f"{number}/{len(chosen)}  {part.name}: {outcome}", flush=True)
    if missing:
        print(f"{missing} parts have no result; the same command continues with them", file=sys.stderr)
    return missing


def _different(device: torch.device) -> list[Part]:
    """Returns the parts, each command once: at tiny sizes, some are the same."""
    return list({(part.kind, _words(part, device)): part for part in reversed(PARTS)}.values())[::-1]


def _answer(command: list[str], here: Path, seconds: float) -> tuple[int, str]:
    """Returns the exit code of a command, and what it has printed; if the time is over, it is killed; jobs of sweeps save."""
    try:
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return TIME_OVER, "the time was over"
    return done.returncode, done.stdout + done.stderr


def _is_done(file: Path, part: Part, device: torch.device) -> bool:
    """Raises ConfigError if the file is of another device, or of another command: its figures would not go together."""
    if not file.is_file():
        return False
    try:
        found = json.loads(file.read_text())
        code, *of = (found[name] for name in ("exit_code", "device", "words"))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"--out: {file} holds no result of a part; remove it, or name another folder") from error
    if of != [hardware.describe(device), _words(part, device)]:
        raise ConfigError(f"--out: {file} is of {', '.join(map(str, of))}; name another folder, or remove it")
    return bool(code == 0)


def _measure(part: Part, device: torch.device, folder: Path, end: float) -> dict[str, Any]:
    """Runs a part in a folder that stays until the part has come to its end: a sweep goes on where it was."""
    start = time.monotonic()
    folder.mkdir(exist_ok=True)
    code, printed = _answer(_command(part, device, folder), ROOT if part.kind == "tests" else folder, end - start)
    rows = READERS[part.kind](folder) if code == 0 else []
    if code == 0:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "part": part.name,
        "words": _words(part, device),
        "date": datetime.date.today().isoformat(),
        "device": hardware.describe(device),
        "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__, "python": platform.python_version()},
        "seconds": round(time.monotonic() - start, 1),
        "exit_code": code,
        "results": rows,
    } | ({} if code == 0 else {"printed": printed[-TAIL:]})


def _words(part: Part, device: torch.device) -> str:
    return part.words if device.type == "cuda" else part.tiny


def _command(part: Part, device: torch.device, folder: Path) -> list[str]:
    words = _words(part, device).split()
    if part.kind == "tests":
        return [sys.executable, "-m", "pytest", *TESTS, *words, f"--junitxml={folder}/tests.xml"]
    if part.kind == "benchmark":
        return [sys.executable, str(PROGRAM), *words, "--device", device.type, "--out", str(folder / "rows.json")]
    return [sys.executable, str(ROOT / "train.py"), "-m", "sweep=gpu", f"device={device.type}", "launcher.jobs=1", *words]


def _of_benchmark(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "rows.json").read_text())["results"]
    return rows


def _of_sweep(folder: Path) -> list[dict[str, Any]]:
    """One row for each job: its overrides and what it reached."""
    with next(folder.rglob("sweep.csv")).open(newline="") as file:
        return list(csv.DictReader(file))


def _of_tests(folder: Path) -> list[dict[str, Any]]:
    suite = next(ElementTree.parse(folder / "tests.xml").iter("testsuite"))
    return [{name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}]


READERS = {"benchmark": _of_benchmark, "sweep": _of_sweep, "tests": _of_tests}
