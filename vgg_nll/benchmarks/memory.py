"""The memory of a training step."""

import argparse
import multiprocessing
from typing import Any

from vgg_nll import hardware
from vgg_nll.benchmarks.step import own_model, own_step, random_batch
from vgg_nll.progress import track

STEPS = 3


def memory(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The maximum that tensors take on a GPU, or a process on a CPU, in steps of SGD with momentum, by batch size."""
    cases = [(model, batch) for model in ("vgg16", "vgg16_bn") for batch in args.batch_sizes]
    rows = []
    for model, batch in track(cases, len(cases), "networks"):
        with multiprocessing.get_context("spawn").Pool(1) as process:  # a new one each, since a maximum does not fall
            used = process.apply(_peak, (argparse.Namespace(**vars(args) | {"model": model, "batch_size": batch}),))
        rows.append({"model": model, "images of a batch": batch, "GiB": round(used / 2**30, 2)})
    return rows


def _peak(args: argparse.Namespace) -> float:
    device = hardware.choose_device(args.device)
    with hardware.deterministic_algorithms(enabled=False):
        step = own_step(own_model(args, device), *random_batch(args, device), hardware.choose_dtype("auto", device))
        for _ in range(STEPS):
            step()
        hardware.wait(device)
    return hardware.peak_memory(device)
