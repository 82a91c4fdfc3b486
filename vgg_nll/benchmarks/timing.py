"""Clocks: calls in turn, so that what else the machine does falls on all alike."""

import time
from collections.abc import Callable, Mapping

import torch

from vgg_nll import hardware
from vgg_nll.progress import track


def interleaved(
    calls: Mapping[str, Callable[[], object]], repeats: int, name: str, device: torch.device
) -> dict[str, list[float]]:
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


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
