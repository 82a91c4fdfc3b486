"""Benchmarks, as ratios within one run: `python scripts/benchmark.py step` (`--help`: the others; `--out`: JSON)."""

import argparse
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vgg_nll import hardware
from vgg_nll.benchmarks.checkpointing import checkpointing
from vgg_nll.benchmarks.data import data
from vgg_nll.benchmarks.losses import losses
from vgg_nll.benchmarks.startup import startup
from vgg_nll.benchmarks.step import step
from vgg_nll.benchmarks.tensorboard import tensorboard
from vgg_nll.benchmarks.trainer import trainer
from vgg_nll.evaluation.report import format_table


def _table(results: list[dict[str, Any]]) -> str:
    return format_table(list(results[0]), [[str(value) for value in row.values()] for row in results], markdown=True)


def _size(text: str) -> tuple[int, int]:
    first, second = text.split("x")
    return int(first), int(second)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for function, options in OPTIONS.items():
        command = commands.add_parser(function.__name__, help=function.__doc__)
        command.set_defaults(function=function)
        for name, settings in (options | SHARED).items():
            command.add_argument(f"--{name}", **settings)
    args = parser.parse_args()
    with hardware.kernels(deterministic=False):
        results = args.function(args)
    device = hardware.describe(hardware.choose_device(args.device))
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    print(f"{device}, torch {versions['torch']}\n\n{_table(results)}")
    if args.out is not None:
        args.out.write_text(json.dumps({"device": device, "versions": versions, "results": results}, indent=2) + "\n")


LOSS_SIZES = [(128, 10), (256, 1000), (4096, 1000), (256, 32768)]
SHARED: dict[str, dict[str, Any]] = {
    "device": {"default": "auto"},
    "out": {"type": Path, "help": "a JSON file for the results"},
}
OPTIONS: dict[Callable[[argparse.Namespace], list[dict[str, Any]]], dict[str, dict[str, Any]]] = {
    data: {
        "pictures": {"type": int, "default": 128, "help": "JPEGs to write and read"},
        "size": {"type": _size, "default": (500, 400), "help": "of these, 4000x3000 for photographs"},
        "processes": {"type": int, "default": os.cpu_count(), "help": "that read pictures"},
        "repeats": {"type": int, "default": 5},
    },
    losses: {
        "sizes": {
            "nargs": "+",
            "type": _size,
            "default": LOSS_SIZES,
            "help": "rows x classes",
        },
        "threads": {"type": int, "default": 1, "help": "of a CPU"},
        "compile": {"action": "store_true", "help": "all of them with torch.compile (needs a compiler)"},
        "repeats": {"type": int, "default": 40},
    },
    checkpointing: {
        "image-size": {"type": int, "default": 224},
        "classes": {"type": int, "default": 1000},
        "batch-size": {"type": int, "default": 256},
        "steps": {"type": int, "default": 100, "help": "between two checkpoints; the writing should end within them"},
        "repeats": {"type": int, "default": 5},
        "folder": {"type": Path, "help": "where to write; default: the system's temporary folder"},
    },
    tensorboard: {
        "image-size": {"type": int, "default": 32},
        "classes": {"type": int, "default": 10},
        "images": {"type": int, "default": 180, "help": "of a validation"},
        "batch-size": {"type": int, "default": 32},
        "steps": {"type": int, "default": 234, "help": "of a run"},
        "validations": {"type": int, "default": 6, "help": "of a run"},
        "with-pictures": {"type": int, "default": 3, "help": "of these"},
        "repeats": {"type": int, "default": 5},
    },
    startup: {
        "repeats": {"type": int, "default": 5},
    },
    step: {
        "image-size": {"type": int, "default": 224},
        "classes": {"type": int, "default": 1000},
        "batch-size": {"type": int, "default": 16},
        "compile": {"action": "store_true", "help": "also with torch.compile (takes minutes, and needs a compiler)"},
        "repeats": {"type": int, "default": 10},
    },
    trainer: {
        "model": {"default": "vgg16"},
        "image-size": {"type": int, "default": 32},
        "classes": {"type": int, "default": 10},
        "images": {"type": int, "default": 1000, "help": "of the data set, three fifths of them for training"},
        "batch-size": {"type": int, "default": 32},
        "repeats": {"type": int, "default": 5, "help": "epochs"},
    },
}


if __name__ == "__main__":
    main()
