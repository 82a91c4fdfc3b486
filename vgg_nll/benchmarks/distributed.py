"""Ranks that train one network together, against one of them alone: images/s, and bytes on the wire."""

import argparse
import dataclasses
import functools
import multiprocessing
import os
import socket
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from vgg_nll import hardware
from vgg_nll.benchmarks.step import random_batch
from vgg_nll.benchmarks.timing import interleaved
from vgg_nll.distributed.data_parallel import data_parallel
from vgg_nll.distributed.process_group import Ranks, destroy_process_group, device_of_rank, init_process_group
from vgg_nll.errors import ConfigError
from vgg_nll.losses import all_logit_nll
from vgg_nll.model import VGG16, head_for
from vgg_nll.training.optim import param_groups
from vgg_nll.training.state import TrainState
from vgg_nll.training.step import StepOptions, train_step

Step = Callable[[], object]
# What a row is called: compression of gradients, MB of a bucket, parts of a batch.
VARIANTS: dict[str, tuple[str, float, int]] = {
    "float32": ("none", 25, 1),
    "float32, buckets of 100 MB": ("none", 100, 1),
    "bfloat16": ("bfloat16", 25, 1),
    "PowerSGD": ("powersgd", 25, 1),
    "float32, 2 parts, sent once": ("none", 25, 2),
}
ONE, ALL = "one rank alone", "all ranks"


def distributed(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Images/s of a training step by all ranks, each with `--batch-size` images, and of one rank alone with as many, in turn.

    On a CPU, a rank has one thread, and the bytes are those that rank 0 has given to its sockets, in one step.
    Rows: what is sent and how.
    """
    names = args.variants or list(VARIANTS)
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        raise ConfigError(f"--variants {unknown[0]!r}: must be of {', '.join(map(repr, VARIANTS))}")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    others = [context.Process(target=_measure, args=(rank, port, names, args, there)) for rank in range(args.ranks)]
    for other in others:
        other.start()
    there.close()
    try:
        rows: list[dict[str, Any]] = here.recv()
    except EOFError:
        raise RuntimeError("a rank has ended without an answer; it says why") from None
    finally:
        for other in others:
            other.join()
    return rows


def _measure(rank: int, port: int, variants: list[str], args: argparse.Namespace, answer: Any) -> None:
    """What each rank does; rank 0 keeps the clock and sends the rows."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": args.ranks, "LOCAL_WORLD_SIZE": args.ranks}
    os.environ |= {name: str(value) for name, value in names.items()} | {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    hardware.keep_freed_memory()
    device = device_of_rank(args.device, hardware.choose_device(args.device))
    ranks = init_process_group(device)
    rows = [_row(name, args, ranks, *_times(_steps(name, args, ranks, device), args, ranks, device)) for name in variants]
    if rank == 0:
        answer.send(rows)
    destroy_process_group()


def _times(
    steps: dict[str, Step], args: argparse.Namespace, ranks: Ranks, device: torch.device
) -> tuple[dict[str, list[float]], list[int]]:
    """Rank 0 says what comes next, the others do it. Returns the seconds of the calls, and rank 0's bytes."""
    sent: list[int] = []

    def call(name: str) -> None:
        ranks.broadcast_object(name)
        before = _written_bytes()
        steps[name]()
        if name == ALL and device.type == "cpu":
            sent.append(_written_bytes() - before)

    if ranks.is_first:
        times = interleaved({name: functools.partial(call, name) for name in steps}, args.repeats, "steps", device)
        ranks.broadcast_object("")
        return times, sent[-args.repeats :]  # without those before the first measured call
    while name := ranks.broadcast_object(None):
        if name == ALL:
            steps[name]()
    return {}, []


def _row(name: str, args: argparse.Namespace, ranks: Ranks, times: dict[str, list[float]], sent: list[int]) -> dict[str, Any]:
    if not times:
        return {}
    speeds = [ranks.size * args.batch_size / seconds for seconds in times[ALL]]
    median = statistics.median(speeds)
    row: dict[str, Any] = {"sent": name, "ranks": ranks.size, "n": len(speeds)}
    row |= {"min images/s": round(min(speeds), 2), "median": round(median, 2), "max": round(max(speeds), 2)}
    alone = statistics.median(args.batch_size / seconds for seconds in times[ONE])
    row["x one rank alone"] = round(median / alone, 2)
    row["MB sent, a rank and step"] = round(statistics.median(sent) / 1e6, 2) if any(sent) else ""
    return row


def _steps(name: str, args: argparse.Namespace, ranks: Ranks, device: torch.device) -> dict[str, Step]:
    images, target = random_batch(args, device)
    images = images.contiguous(memory_format=torch.channels_last)
    model = VGG16(args.classes, head=head_for(args.image_size), width=args.width)
    model = model.to(device).to(memory_format=torch.channels_last)
    dtype = hardware.choose_dtype("auto", device)
    compression, bucket_mb, parts = VARIANTS[name]
    parallel = data_parallel(model, model, compression=compression, bucket_mb=bucket_mb)
    state = TrainState(model, torch.optim.SGD(param_groups(model), lr=1e-4, momentum=0.9, fused=True), device)
    alone = StepOptions(dtype, clip_norm=1.0, accumulation_steps=parts)
    of_all = dataclasses.replace(alone, ranks=ranks, batch_size=args.batch_size * ranks.size)

    def one() -> None:
        state.forward, state.keep_gradients = model, nullcontext
        train_step(state, all_logit_nll, images, target, alone, learning_rate=1e-4)

    def together() -> None:
        state.forward, state.keep_gradients = parallel, parallel.no_sync
        train_step(state, all_logit_nll, images, target, of_all, learning_rate=1e-4)

    return {ONE: one, ALL: together}


def _written_bytes() -> int:
    """Bytes that this process has written since it started: gloo's, within a step; 0 where nobody counts them."""
    counts = Path("/proc/self/io")
    lines = counts.read_text().splitlines() if counts.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("wchar:")), 0)
