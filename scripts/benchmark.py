"""How fast this is, as ratios within one run: `python scripts/benchmark.py losses` (a Markdown table; `--out` writes JSON)."""

import argparse
import json
import multiprocessing
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # also where the project is not installed

import torch
import torch.nn.functional as F
from torch import Tensor

from vgg_nll import hardware
from vgg_nll.losses import all_logit_nll, argmax_nll
from vgg_nll.progress import track

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "F.cross_entropy": F.cross_entropy,
    "argmax_nll": argmax_nll,
    "all_logit_nll": all_logit_nll,
}


def losses(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Forward and backward of each loss: milliseconds, time as a multiple of `F.cross_entropy`'s, and peak extra memory."""
    device = hardware.choose_device(args.device)
    results = []
    for rows, classes in args.sizes:
        logits, target = _batch(rows, classes, device)
        calls = {name: _forward_and_backward(loss, logits, target) for name, loss in LOSSES.items()}
        seconds = interleaved(calls, args.repeats, f"{rows}x{classes}", device)
        yardstick = statistics.median(seconds["F.cross_entropy"])
        for name, times in seconds.items():
            milliseconds = [round(1e3 * value, 3) for value in (min(times), statistics.median(times), max(times))]
            results.append(
                {"loss": name, "N": rows, "C": classes, "n": len(times)}
                | dict(zip(("min ms", "median ms", "max ms"), milliseconds, strict=True))
                | {"x F.cross_entropy": round(statistics.median(times) / yardstick, 2)}
                | {"extra memory / logits": round(peak_memory(name, rows, classes, device) / (4 * rows * classes), 2)}
            )
    return results


def interleaved(calls: dict[str, Callable[[], None]], repeats: int, name: str, device: torch.device) -> dict[str, list[float]]:
    """Seconds of every call, `repeats` times each, in turn, so that what else the machine does falls on all alike."""
    seconds: dict[str, list[float]] = {key: [] for key in calls}
    for i in track(range(-3, repeats), repeats + 3, name):  # three to warm up
        for key, call in calls.items():
            hardware.wait(device)
            start = time.perf_counter()
            call()
            hardware.wait(device)
            if i >= 0:
                seconds[key].append(time.perf_counter() - start)
    return seconds


def peak_memory(name: str, rows: int, classes: int, device: torch.device) -> int:
    """Bytes that forward and backward of a loss need at their peak, beside the logits and the target."""
    if device.type == "cuda":
        logits, target = _batch(rows, classes, device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        _forward_and_backward(LOSSES[name], logits, target)()
        return torch.cuda.max_memory_allocated(device) - before
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # a process's peak cannot be put back to zero
        return pool.apply(_peak_of_process, (name, rows, classes))


def _peak_of_process(name: str, rows: int, classes: int) -> int:
    cpu = torch.device("cpu")
    _forward_and_backward(LOSSES[name], *_batch(8, classes, cpu))()  # libraries and threads that the first call brings
    call = _forward_and_backward(LOSSES[name], *_batch(rows, classes, cpu))
    before = _memory("VmRSS")  # not the most it has held: it has given some of that back since
    call()
    return _memory("VmHWM") - before


def _memory(kind: str) -> int:
    """Bytes that this process holds (VmRSS), or the most that it has held (VmHWM); `getrusage` would count its parent's too."""
    status = Path("/proc/self/status").read_text()  # of Linux
    return 1024 * int(status.split(f"{kind}:")[1].split()[0])


def _batch(rows: int, classes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(rows, classes, generator=draw)
    target = torch.randint(0, classes, (rows,), generator=draw)
    return logits.to(device).requires_grad_(), target.to(device)


def _forward_and_backward(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor) -> Callable[[], None]:
    def call() -> None:
        logits.grad = None
        loss(logits, target).backward()

    return call


def _table(results: list[dict[str, Any]]) -> str:
    lines = [list(results[0]), ["---"] * len(results[0]), *([str(value) for value in row.values()] for row in results)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _size(text: str) -> tuple[int, int]:
    rows, classes = text.split("x")
    return int(rows), int(classes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("losses", help=losses.__doc__)
    command.set_defaults(function=losses)
    command.add_argument("--sizes", nargs="+", type=_size, default=[(256, 1000), (256, 32768)], help="rows x classes")
    command.add_argument("--repeats", type=int, default=40)
    command.add_argument("--device", default="auto")
    command.add_argument("--out", type=Path, help="a JSON file for the results")
    args = parser.parse_args()
    results = args.function(args)
    device = hardware.describe(hardware.choose_device(args.device))
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    print(f"{device}, torch {versions['torch']}\n\n{_table(results)}")
    if args.out is not None:
        args.out.write_text(json.dumps({"device": device, "versions": versions, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
