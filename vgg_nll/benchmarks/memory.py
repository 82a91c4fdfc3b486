"""The memory of a training step."""

import argparse
import multiprocessing
from typing import Any

import torch

from vgg_nll import hardware
from vgg_nll.losses import all_logit_nll
from vgg_nll.model import VGG16, head_for
from vgg_nll.progress import track
from vgg_nll.training.param_groups import param_groups
from vgg_nll.training.state import TrainState
from vgg_nll.training.step import train_step

STEPS = 3


def memory(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The maximum that tensors take on a GPU, or a process on a CPU, in steps of SGD with momentum, by batch size."""
    cases = [(model, batch) for model in ("vgg16", "vgg16_bn") for batch in args.batch_sizes]
    rows = []
    for model, batch in track(cases, len(cases), "networks"):
        with multiprocessing.get_context("spawn").Pool(1) as process:  # a new one each, since a maximum does not fall
            used = process.apply(_peak, (model == "vgg16_bn", batch, args.image_size, args.classes, args.device))
        rows.append({"model": model, "images of a batch": batch, "GiB": round(used / 2**30, 2)})
    return rows


def _peak(batch_norm: bool, batch: int, size: int, classes: int, device_name: str) -> float:
    device = hardware.choose_device(device_name)
    with hardware.kernels(deterministic=False):
        model = VGG16(classes, batch_norm=batch_norm, head=head_for(size)).to(device).to(memory_format=torch.channels_last)
        state = TrainState(model, torch.optim.SGD(param_groups(model), lr=1e-4, momentum=0.9, fused=True), device)
        images = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
        target, dtype = torch.zeros(batch, dtype=torch.int64, device=device), hardware.choose_dtype("auto", device)
        options: dict[str, Any] = {"learning_rate": 1e-4, "clip_norm": 1.0, "accumulation_steps": 1, "dtype": dtype}
        for _ in range(STEPS):
            train_step(state, all_logit_nll, images, target, **options)
        hardware.wait(device)
    return hardware.peak_memory(device)
