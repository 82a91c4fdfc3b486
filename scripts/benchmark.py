"""How fast this is, as ratios within one run: `python scripts/benchmark.py losses|saves` (a Markdown table; `--out`: JSON)."""

import argparse
import json
import multiprocessing
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # also where the project is not installed

import torch
import torch.nn.functional as F
from torch import Tensor

from vgg_nll import engine, hardware
from vgg_nll.losses import all_logit_nll, argmax_nll
from vgg_nll.model import VGG16, head_for
from vgg_nll.progress import track
from vgg_nll.saver import Saver
from vgg_nll.state import TrainState

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


def saves(args: argparse.Namespace) -> list[dict[str, Any]]:
    """What a save costs: how long training stands still, and how much longer the same steps take while it is written."""
    device = hardware.choose_device(args.device)
    dtype = hardware.choose_dtype("auto", device)
    hardware.keep_freed_memory()
    model = VGG16(args.classes, head=head_for(args.image_size)).to(device).to(memory_format=torch.channels_last)
    state = TrainState(model, torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True), device)
    images = torch.randn(args.batch_size, 3, args.image_size, args.image_size, device=device)
    target = torch.randint(0, args.classes, (args.batch_size,), device=device)

    def window(saver: Saver | None) -> tuple[float, float]:
        hardware.wait(device)
        start = time.perf_counter()
        if saver is not None:
            saver.save(state.state_dict(), best=False)
        stood_still = time.perf_counter() - start
        for _ in range(args.steps):
            options: dict[str, Any] = {"learning_rate": 1e-5, "clip_norm": 1.0, "accumulation_steps": 1, "dtype": dtype}
            engine.train_step(state, all_logit_nll, images, target, **options)
        hardware.wait(device)
        return time.perf_counter() - start, stood_still

    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        saver = Saver(Path(folder), device)
        windows = []  # seconds: without a save, with one, standing still, writing after the last step
        for _ in track(range(args.repeats + 1), args.repeats + 1, "saves"):
            windows.append((*window(None)[:1], *window(saver), _seconds(saver.wait)))
        saver.close()
        size = (Path(folder) / "last.pt").stat().st_size
    plain, saving, still, late = zip(*windows[1:], strict=True)  # the first one warms up
    cost = [with_save - without for with_save, without in zip(saving, plain, strict=True)]
    step = statistics.median(plain) / args.steps
    return [
        {"image": args.image_size, "classes": args.classes, "batch": args.batch_size, "n": args.repeats, "MB": size // 10**6}
        | {"step ms": round(1e3 * step, 1), "stands still ms": round(1e3 * statistics.median(still), 1)}
        | {f"{name} cost s": round(f(cost), 3) for name, f in (("min", min), ("median", statistics.median), ("max", max))}
        | {f"written within {args.steps} steps": sum(seconds < 0.01 for seconds in late)}
        | {"% at a save every 500 steps": round(100 * statistics.median(cost) / (500 * step), 2)}
    ]


def _seconds(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


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
    for function, options in OPTIONS.items():
        command = commands.add_parser(function.__name__, help=function.__doc__)
        command.set_defaults(function=function)
        for name, settings in (options | SHARED).items():
            command.add_argument(f"--{name}", **settings)
    args = parser.parse_args()
    results = args.function(args)
    device = hardware.describe(hardware.choose_device(args.device))
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    print(f"{device}, torch {versions['torch']}\n\n{_table(results)}")
    if args.out is not None:
        args.out.write_text(json.dumps({"device": device, "versions": versions, "results": results}, indent=2) + "\n")


SHARED: dict[str, dict[str, Any]] = {
    "device": {"default": "auto"},
    "out": {"type": Path, "help": "a JSON file for the results"},
}
OPTIONS: dict[Callable[[argparse.Namespace], list[dict[str, Any]]], dict[str, dict[str, Any]]] = {
    losses: {
        "sizes": {"nargs": "+", "type": _size, "default": [(256, 1000), (256, 32768)], "help": "rows x classes"},
        "repeats": {"type": int, "default": 40},
    },
    saves: {
        "image-size": {"type": int, "default": 224},
        "classes": {"type": int, "default": 1000},
        "batch-size": {"type": int, "default": 256},
        "steps": {"type": int, "default": 100, "help": "between two saves; the writing should end within them"},
        "repeats": {"type": int, "default": 5},
        "folder": {"type": Path, "help": "where to write; the system's temporary folder if it is left out"},
    },
}


if __name__ == "__main__":
    main()
