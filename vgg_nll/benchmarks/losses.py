"""The losses against PyTorch's own: time and memory of forward and backward."""

import argparse
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


def peak_memory(name: str, rows: int, classes: int, device: torch.device) -> int:
    """Bytes that forward and backward of a loss need at their peak, beside the logits and the target."""
    if device.type == "cuda":
        logits, target = _batch(rows, classes, device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        _forward_and_backward(LOSSES[name], logits, target)()
        return torch.cuda.max_memory_allocated(device) - before
    call = f"from {__name__} import peak_of_process; print(peak_of_process({name!r}, {rows}, {classes}))"
    root = Path(__file__).resolve().parent.parent.parent
    done = subprocess.run([sys.executable, "-c", call], cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout)


def peak_of_process(name: str, rows: int, classes: int) -> int:
    """`peak_memory` on a CPU: for a process of its own, as the most that one has held cannot be put back to zero."""
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


def _forward_and_backward(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor) -> Callable[[], object]:
    def call() -> None:
        logits.grad = None
        loss(logits, target).backward()

    return call
