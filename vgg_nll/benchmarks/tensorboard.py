"""The cost of TensorBoard's pages."""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vgg_nll import hardware
from vgg_nll.benchmarks.timing import seconds
from vgg_nll.evaluation import loop
from vgg_nll.evaluation.features import FeatureCollector
from vgg_nll.losses import all_logit_nll
from vgg_nll.model import VGG16, head_for
from vgg_nll.progress import track
from vgg_nll.run_folder import paths
from vgg_nll.tracking.tracker import TensorBoardTracker
from vgg_nll.training import gradients, history
from vgg_nll.training.history import MAX_IMAGES
from vgg_nll.training.logger import TrainingLogger
from vgg_nll.training.optim import param_groups
from vgg_nll.training.state import TrainState
from vgg_nll.training.step import StepOptions, train_step


def tensorboard(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures the seconds for the pages of one validation, and of the end, and their percentage of a default run.

    The images are noise, so most predictions are wrong, and every picture is full.
    """
    device = hardware.choose_device(args.device)
    hardware.keep_freed_memory()
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(args.images, 3, args.image_size, args.image_size, generator=draw).to(device)
    images = images.contiguous(memory_format=torch.channels_last)  # as the data gives them
    target = torch.randint(0, args.classes, (args.images,), generator=draw).to(device)
    model = VGG16(args.classes, head=head_for(args.image_size)).to(device).to(memory_format=torch.channels_last)
    state = TrainState(model, torch.optim.AdamW(param_groups(model), lr=1e-5, fused=True), device)
    dtype = hardware.choose_dtype("auto", device)
    with FeatureCollector(model, _pixels) as points:
        evaluation = loop.evaluate(model, all_logit_nll, [(images, target)], dtype, on_batch=points.add)

    def step() -> None:
        batch = images[: args.batch_size], target[: args.batch_size]
        train_step(state, all_logit_nll, *batch, StepOptions(dtype, clip_norm=1.0), learning_rate=1e-5)
        hardware.wait(device)

    state.trajectory = torch.randn(args.validations, 2, min(args.images, MAX_IMAGES), generator=draw)
    values = evaluation.values
    state.history = [history.row(step, step, values, values, state.trajectory) for step in range(args.validations)]
    with tempfile.TemporaryDirectory() as folder:
        logger = _logger(Path(folder), args.classes)
        kinds: dict[str, Callable[[int], None]] = {
            "a step": lambda _: step(),
            "scalars and histograms": lambda _: logger.validation_point(state, evaluation, is_best=True, with_figures=False),
            "the same and figures": lambda _: logger.validation_point(state, evaluation, is_best=True, with_figures=True),
            "gradients and norms": lambda i: logger.gradient_point(i, _gradients(model, images, target, args.batch_size)),
            "the end": lambda i: logger.end(i, points.features),
        }
        times: dict[str, list[float]] = {name: [] for name in kinds}
        for i in track(range(args.repeats + 1), args.repeats + 1, "TensorBoard"):
            for name, call in kinds.items():
                times[name].append(seconds(lambda call=call, i=i: call(i)))  # type: ignore[misc]
        logger.close()
    median = {name: statistics.median(values[1:]) for name, values in times.items()}  # the first one warms up
    without = args.validations - args.with_pictures
    cost = without * median["scalars and histograms"] + args.with_pictures * median["the same and figures"] + median["the end"]
    cost += (1 + args.steps // gradients.EVERY_STEPS) * median["gradients and norms"]
    rows = [
        {"what": name, "n": args.repeats, "min s": f"{min(values[1:]):.4f}"}
        | {"median s": f"{median[name]:.4f}", "max s": f"{max(values[1:]):.4f}"}
        for name, values in times.items()
    ]
    share = f"{100 * cost / (args.steps * median['a step']):.2f}% of {args.steps} steps"
    return [*rows, {"what": "a run", "n": args.repeats, "min s": "", "median s": f"{cost:.2f}", "max s": share}]


def _logger(folder: Path, classes: int) -> TrainingLogger:
    return TrainingLogger(
        TensorBoardTracker(folder, 1),
        folder / paths.METRICS_TABLE,
        class_names=[str(k) for k in range(classes)],
        pixels=_pixels,
        total_steps=1,
        steps_per_epoch=1,
        constant_loss=1.0,
        flops_per_image=1.0,
        peak_flops=1.0,
        input_hint="",
        best_by="accuracy",
    )


def _gradients(model: VGG16, images: Tensor, target: Tensor, batch_size: int) -> dict[str, float]:
    logits = torch.randn(batch_size, model.num_classes, device=images.device)
    return gradients.logit_gradient_norms(logits, target[:batch_size]) | gradients.layer_norms(model)


def _pixels(images: Tensor) -> Tensor:
    return images.clamp(0, 1).mul(255).to(torch.uint8)
