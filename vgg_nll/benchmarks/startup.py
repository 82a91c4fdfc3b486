"""The time until a command answers."""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from vgg_nll.benchmarks.timing import seconds
from vgg_nll.benchmarks.trainer import PROGRAM
from vgg_nll.progress import track
from vgg_nll.tracking import event_files, tags


def startup(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures the seconds that a process takes for `import torch`, for `--help`, and to the first step of the default run."""
    with tempfile.TemporaryDirectory() as parent:

        def run(*command: str) -> None:
            subprocess.run([sys.executable, *command], capture_output=True, check=True, cwd=parent)

        def first_step(i: int) -> float:
            folder, start = Path(parent) / str(i), time.time()
            options = ["trainer.log_every_steps=1", "trainer.steps=1", f"device={args.device}", f"hydra.run.dir={folder}"]
            run(str(PROGRAM), *options)
            return event_files.read_times(folder, tags.LOSS_TRAIN)[0][1] - start

        times: dict[str, list[float]] = {"import torch": [], "train.py --help": [], "train.py, first step done": []}
        for i in track(range(args.repeats + 1), args.repeats + 1, "starts"):
            found = (seconds(lambda: run("-c", "import torch")), seconds(lambda: run(str(PROGRAM), "--help")), first_step(i))
            for values, value in zip(times.values(), found, strict=True):
                values.append(value)
    return [
        {"what": name, "n": args.repeats}
        | {f"{word} s": round(f(values[1:]), 2) for word, f in (("min", min), ("median", statistics.median), ("max", max))}
        | {"x import torch": round(statistics.median(values[1:]) / statistics.median(times["import torch"][1:]), 2)}
        for name, values in times.items()  # the first one of each reads the disk
    ]
