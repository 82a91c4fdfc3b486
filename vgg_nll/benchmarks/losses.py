"""Compares the losses with `F.cross_entropy`: time and memory of forward and backward."""

import argparse
import functools
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vgg_nll import hardware
from vgg_nll.benchmarks.timing import interleaved
from vgg_nll.losses import all_logit_nll, argmax_nll

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "F.cross_entropy": F.cross_entropy,
    "argmax_nll": argmax_nll,
    "all_logit_nll": all_logit_nll,
}


def losses(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns one row per size, state of the allocator and loss, for forward and backward together.

    A row holds milliseconds, the median of the ratios to the `F.cross_entropy` of the same turn, and the peak extra memory as a
    multiple of the logits' size (not with `--compile`). On a CPU the allocator decides much: "fresh" maps buffers of 128 KiB or
    more again for every call, as a new process does; "kept" keeps freed memory, as a run of this trainer does.
    """
    device = hardware.choose_device(args.device)
    torch.set_num_threads(args.threads)
    results = []
    for memory in ("fresh", "kept") if device.type == "cpu" else ("kept",):
        hardware.keep_freed_memory(keep=memory == "kept")
        for rows, classes in args.sizes:
            results += _compare(rows, classes, memory, args, device)
    if not args.compile:
        for row in results:
            row["extra memory / logits"] = _extra_memory(row["loss"], row["N"], row["C"], device)
    return results


def _compare(rows: int, classes: int, memory: str, args: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    logits, target = _batch(rows, classes, device)
    functions = {name: torch.compile(loss) for name, loss in LOSSES.items()} if args.compile else LOSSES
    calls = {name: _forward_and_backward(loss, logits, target) for name, loss in functions.items()}
    seconds = interleaved(calls, args.repeats, f"{rows}x{classes}, {memory}", device)
    results = []
    for name, times in seconds.items():
        ratios = [time / baseline for time, baseline in zip(times, seconds["F.cross_entropy"], strict=True)]
        milliseconds = [round(1e3 * value, 3) for value in (min(times), statistics.median(times), max(times))]
        results.append(
            {"loss": name, "N": rows, "C": classes, "memory": memory, "n": len(times)}
            | dict(zip(("min ms", "median ms", "max ms"), milliseconds, strict=True))
            | {"x F.cross_entropy": round(statistics.median(ratios), 2)}
        )
    return results


@functools.cache  # measured in a process of its own, whatever the state of this one
def _extra_memory(name: str, rows: int, classes: int, device: torch.device) -> float:
    return round(peak_memory(name, rows, classes, device) / (4 * rows * classes), 2)


def peak_memory(name: str, rows: int, classes: int, device: torch.device) -> int:
    """Returns the peak memory of forward and backward of a loss in bytes, without the logits and the target.

    On a CPU it starts a process: earlier calls may have raised the peak of this one.
    """
    if device.type == "cuda":
        logits, target = _batch(rows, classes, device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        _forward_and_backward(LOSSES[name], logits, target)()
        return torch.cuda.max_memory_allocated(device) - before
    call = f"from {__name__} import peak_of_process; print(peak_of_process({name!r}, {rows}, {classes}))"
    done = subprocess.run([sys.executable, "-c", call], stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout)


def peak_of_process(name: str, rows: int, classes: int) -> int:
    """Returns `peak_memory` on a CPU; call it once in a new process."""
    cpu = torch.device("cpu")
    _forward_and_backward(LOSSES[name], *_batch(8, classes, cpu))()  # the first call loads libraries and starts threads
    call = _forward_and_backward(LOSSES[name], *_batch(rows, classes, cpu))
    before = _memory("VmRSS")  # not VmHWM: memory that was freed since counts in it
    call()
    return _memory("VmHWM") - before


def _memory(kind: str) -> int:
    """Returns the memory of this process in bytes: now (VmRSS) or its peak (VmHWM). Linux only.

    `resource.getrusage` would include the peak of the parent process.
    """
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{kind}:")[1].split()[0])


def _batch(rows: int, classes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(rows, classes, generator=random)
    target = torch.randint(0, classes, (rows,), generator=random)
    return logits.to(device).requires_grad_(), target.to(device)


def _forward_and_backward(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor) -> Callable[[], object]:
    def call() -> None:
        logits.grad = None
        loss(logits, target).backward()

    return call
