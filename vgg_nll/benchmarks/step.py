"""The training step against the usual loops, and against a large matrix product."""

import argparse
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from vgg_nll import hardware
from vgg_nll.benchmarks.timing import in_subprocess, interleaved
from vgg_nll.losses import all_logit_nll
from vgg_nll.model import VGG16, head_for, summary
from vgg_nll.run import setup
from vgg_nll.training.compilation import compile_network
from vgg_nll.training.optim import param_groups
from vgg_nll.training.state import TrainState
from vgg_nll.training.step import StepOptions, train_step

Step = Callable[[], object]
Variant = tuple[str, torch.dtype]


def step(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Images/s of forward, backward and update: the baseline loop, its usual improvements, and this project's step.

    The baseline is torchvision's VGG-16 (for small images its convolutions, a global average pool, one linear layer) in float32
    with `F.cross_entropy` and SGD with momentum. On a CPU the loops have a process of their own, with the allocator as it is in
    everyone's: how this project sets that up is a part of its step. The share is that of a large matrix product's speed, in the
    precision at hand, measured in the same run.
    """
    device = hardware.choose_device(args.device)
    loops = in_subprocess(_loops, args, device) if device.type == "cpu" else nullcontext(_loops(args, device))
    with loops as calls:
        hardware.keep_freed_memory()
        best = hardware.choose_dtype("auto", device)
        model = own_model(args, device)
        flops = summary.flops_per_image(model, args.image_size)
        peak = {dtype: hardware.peak_flops(device, dtype) for dtype in {torch.float32, best}}
        own = {("this project's step", best): own_step(model, *random_batch(args, device), best)}
        if args.compile:
            own["this project's step, compiled", best] = own_step(
                own_model(args, device), *random_batch(args, device), best, compiled=True
            )
        times = interleaved(dict(calls) | own, args.repeats, "steps", device)
    first = statistics.median(next(iter(times.values())))
    return [_row(name, dtype, its, args.batch_size, flops, peak[dtype], first) for (name, dtype), its in times.items()]


def _loops(args: argparse.Namespace, device: torch.device) -> dict[Variant, Step]:
    images, target = random_batch(args, device)
    variants: dict[Variant, Step] = {
        ("baseline loop", torch.float32): _loop(_baseline(args, device), images, target, torch.float32, fused=False)
    }
    images = images.contiguous(memory_format=torch.channels_last)
    for dtype in sorted({torch.float32, hardware.choose_dtype("auto", device)}, key=str):
        model = _baseline(args, device).to(memory_format=torch.channels_last)
        variants[f"{_name(dtype)}, channels-last, fused SGD", dtype] = _loop(model, images, target, dtype, fused=True)
        if args.compile:
            compiled = _baseline(args, device).to(memory_format=torch.channels_last)
            compiled.compile()
            variants[f"{_name(dtype)}, the same, compiled", dtype] = _loop(compiled, images, target, dtype, fused=True)
    return variants


def random_batch(args: argparse.Namespace, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns images and classes, the same each time."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(args.batch_size, 3, args.image_size, args.image_size, generator=draw)
    return images.to(device), torch.randint(0, args.classes, (args.batch_size,), generator=draw).to(device)


def _row(
    name: str, dtype: torch.dtype, times: list[float], images: int, flops: float, peak: float, baseline_seconds: float
) -> dict[str, Any]:
    median = statistics.median(times)
    speeds = (images / max(times), images / median, images / min(times))
    flops_per_second = flops * images / median
    return (
        {"step": name, "precision": _name(dtype), "n": len(times)}
        | dict(zip(("min images/s", "median", "max"), (round(speed, 1) for speed in speeds), strict=True))
        | {"TFLOP/s": round(flops_per_second / 1e12, 3), "% of a matrix product": round(100 * flops_per_second / peak, 1)}
        | {"x baseline": round(baseline_seconds / median, 2)}
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def own_model(args: argparse.Namespace, device: torch.device) -> VGG16:
    """Returns this project's network, as its trainer makes it."""
    model = VGG16(args.classes, batch_norm=args.model == "vgg16_bn", head=head_for(args.image_size))
    return model.to(device).to(memory_format=torch.channels_last)


def _baseline(args: argparse.Namespace, device: torch.device) -> nn.Module:
    whole: Callable[..., Any] = getattr(torchvision.models, args.model)
    if head_for(args.image_size) == "paper":
        return whole(weights=None, num_classes=args.classes).to(device)
    layers = whole(weights=None).features
    return nn.Sequential(layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, args.classes)).to(device)


def _loop(model: nn.Module, images: Tensor, target: Tensor, dtype: torch.dtype, *, fused: bool) -> Step:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, fused=fused)
    model.train()

    def call() -> None:
        optimizer.zero_grad()
        with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
            loss = F.cross_entropy(model(images).float(), target)
        loss.backward()
        optimizer.step()

    return call


def own_step(model: VGG16, images: Tensor, target: Tensor, dtype: torch.dtype, compiled: bool = False) -> Step:
    """Returns a call that does this project's training step, with SGD."""
    state = TrainState(model, torch.optim.SGD(param_groups(model), lr=1e-4, momentum=0.9, fused=True), images.device)
    if compiled:
        state.forward = compile_network(model, images.device, graphs=images.shape[-1] < setup.CUDA_GRAPH_PIXELS)
    images = images.contiguous(memory_format=torch.channels_last)
    options = StepOptions(dtype, clip_norm=1.0)
    return lambda: train_step(state, all_logit_nll, images, target, options, learning_rate=1e-4)
