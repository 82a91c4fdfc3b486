"""Clocks: calls in turn, so that other work of the machine slows all of them alike."""

import contextlib
import functools
import multiprocessing
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch

from vgg_nll import hardware
from vgg_nll.progress import track

Key = TypeVar("Key", bound=Hashable)


def interleaved(
    calls: Mapping[Key, Callable[[], object]], repeats: int, name: str, device: torch.device
) -> dict[Key, list[float]]:
    """Returns the seconds of every call, `repeats` times each, in turn."""
    seconds: dict[Key, list[float]] = {key: [] for key in calls}
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
    """Returns the seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@contextmanager
def in_subprocess(
    make: Callable[..., Mapping[Key, Callable[[], object]]], *args: Any
) -> Iterator[dict[Key, Callable[[], object]]]:
    """Yields the calls that `make(*args)` gives, made and run in another process, in which nothing has set up the allocator."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, make, args), daemon=True)
    process.start()
    there.close()  # so that its end is noticed here

    def call(key: Key) -> None:
        here.send(key)
        here.recv()

    try:
        yield {key: functools.partial(call, key) for key in here.recv()}
    finally:
        here.close()
        process.join()


def _serve(caller: Connection, make: Callable[..., Mapping[Any, Callable[[], object]]], args: tuple[Any, ...]) -> None:
    calls = make(*args)
    caller.send(list(calls))
    with contextlib.suppress(EOFError):  # no more calls
        while True:
            calls[caller.recv()]()
            caller.send(None)
