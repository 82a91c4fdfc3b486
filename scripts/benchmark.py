"""Benchmarks, as ratios within one run: `python scripts/benchmark.py step` (`--help`: the others; `--out`: JSON)."""

import argparse
import datetime
import importlib
import json
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

from vgg_nll.cli.console import write_any_text
from vgg_nll.cli.error_messages import errors_as_lines
from vgg_nll.cli.scripts import count


def _size(text: str) -> tuple[int, int]:
    first, _, second = text.partition("x")
    try:
        return count(first), count(second)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text}: must be two integers, as in 500x400") from None


def _processes(text: str) -> int:
    return count(text, minimum=0)


def _several(text: str) -> int:
    return count(text, minimum=2)


def _file(text: str) -> Path:
    if not Path(text).absolute().parent.is_dir() or Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text}: must be a file in a folder that exists")
    return Path(text)


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text}: there is no such folder")
    return Path(text)


def main() -> None:
    write_any_text()
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (measures, options) in COMMANDS.items():
        command = commands.add_parser(name, help=measures, description=f"Measures {measures}.")
        command.set_defaults(name=name)
        for option, settings in (options | SHARED).items():
            command.add_argument(f"--{option}", **settings)
    args = parser.parse_args()
    import torch  # here, and the benchmark's module, too: --help should not wait for them

    from vgg_nll import hardware
    from vgg_nll.evaluation.report import format_table

    try:
        device = hardware.describe(hardware.choose_device(args.device))
    except ValueError as error:
        parser.error(str(error))
    with errors_as_lines(), hardware.deterministic_algorithms(enabled=False):
        results = getattr(importlib.import_module(f"vgg_nll.benchmarks.{args.name}"), args.name)(args)
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    table = format_table(list(results[0]), [[str(value) for value in row.values()] for row in results], markdown=True)
    print(f"{device}, torch {versions['torch']}\n\n{table}")
    if args.out is not None:
        of = {"words": shlex.join(_words()), "date": datetime.date.today().isoformat(), "device": device, "versions": versions}
        args.out.write_text(json.dumps(of | {"results": results}, indent=2) + "\n")


def _words() -> list[str]:
    """What was typed, without the file for the results."""
    words = sys.argv[1:]
    place = next((i for i, word in enumerate(words) if word == "--out"), len(words))
    return [word for word in [*words[:place], *words[place + 2 :]] if not word.startswith("--out=")]


LOSS_SIZES = [(128, 10), (256, 1000), (4096, 1000), (256, 32768)]
SHARED: dict[str, dict[str, Any]] = {
    "device": {"default": "auto"},
    "out": {"type": _file, "help": "a JSON file for the results"},
}
# The function `name` of the module `vgg_nll.benchmarks.name`: what it measures, and its options.
COMMANDS: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    "data": (
        "training images/s from JPEGs, against the usual PIL pipeline, and from data in memory, by augmentation",
        {
            "pictures": {"type": count, "default": 128, "help": "JPEGs to write and read"},
            "size": {"type": _size, "default": (500, 400), "help": "of these, 4000x3000 for photographs"},
            "profile": {"choices": ["none", "display_p3"], "default": "none", "help": "ICC profile of these"},
            "processes": {"type": _processes, "default": os.cpu_count(), "help": "that read pictures; 0: none beside this one"},
            "repeats": {"type": count, "default": 5},
        },
    ),
    "losses": (
        "forward and backward of each loss, and their memory, against F.cross_entropy",
        {
            "sizes": {
                "nargs": "+",
                "type": _size,
                "default": LOSS_SIZES,
                "help": "rows x classes",
            },
            "threads": {"type": count, "default": 1, "help": "of a CPU"},
            "compile": {"action": "store_true", "help": "all of them with torch.compile (needs a compiler)"},
            "repeats": {"type": count, "default": 40},
        },
    ),
    "checkpointing": (
        "how long a checkpoint blocks training, and how much longer the steps beside its writing take",
        {
            "image-size": {"type": count, "default": 224},
            "classes": {"type": count, "default": 1000},
            "batch-size": {"type": count, "default": 256},
            "steps": {"type": count, "default": 100, "help": "between two checkpoints; the writing should end within them"},
            "repeats": {"type": count, "default": 5},
            "folder": {"type": _folder, "help": "where to write; default: the system's temporary folder"},
        },
    ),
    "distributed": (
        "images/s of ranks that train together, and the bytes that they send, against one rank alone",
        {
            "ranks": {"type": _several, "default": 2},
            "image-size": {"type": count, "default": 224},
            "classes": {"type": count, "default": 1000},
            "batch-size": {"type": count, "default": 8, "help": "images of one rank"},
            "width": {"type": float, "default": 1.0, "help": "of VGG-16's channels; below 1 to try it"},
            "variants": {"nargs": "+", "metavar": "ROW", "help": "only these; default: every way to send gradients"},
            "repeats": {"type": count, "default": 5},
        },
    ),
    "tensorboard": (
        "the seconds for TensorBoard's pages, and their share of a default run",
        {
            "image-size": {"type": count, "default": 32},
            "classes": {"type": count, "default": 10},
            "images": {"type": count, "default": 180, "help": "of a validation"},
            "batch-size": {"type": count, "default": 32},
            "steps": {"type": count, "default": 234, "help": "of a run"},
            "validations": {"type": count, "default": 7, "help": "of a run"},
            "with-pictures": {"type": count, "default": 3, "help": "of these"},
            "repeats": {"type": count, "default": 5},
        },
    ),
    "memory": (
        "the memory of a training step, by batch size",
        {
            "image-size": {"type": count, "default": 224},
            "classes": {"type": count, "default": 1000},
            "batch-sizes": {"nargs": "+", "type": count, "default": [64, 128, 256]},
        },
    ),
    "startup": (
        "the seconds to the answer to --help, and to the first step of a default run",
        {
            "repeats": {"type": count, "default": 5},
        },
    ),
    "step": (
        "images/s of a training step, against torchvision's VGG-16 in the usual loops and a large matrix product",
        {
            "model": {"choices": ["vgg16", "vgg16_bn"], "default": "vgg16"},
            "image-size": {"type": count, "default": 224},
            "classes": {"type": count, "default": 1000},
            "batch-size": {"type": count, "default": 16},
            "compile": {"action": "store_true", "help": "also with torch.compile (takes minutes, and needs a compiler)"},
            "repeats": {"type": count, "default": 10},
        },
    ),
    "trainer": (
        "images/s of train.py, against its bare training step",
        {
            "model": {"default": "vgg16"},
            "image-size": {"type": count, "default": 32},
            "classes": {"type": count, "default": 10},
            "images": {"type": count, "default": 1000, "help": "of the data set, three fifths of them for training"},
            "batch-size": {"type": count, "default": 32},
            "repeats": {"type": count, "default": 5, "help": "epochs"},
        },
    ),
}


if __name__ == "__main__":
    main()
