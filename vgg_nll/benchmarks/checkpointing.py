"""The cost of a checkpoint."""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from vgg_nll import hardware
from vgg_nll.benchmarks.timing import seconds
from vgg_nll.checkpoints.saver import CheckpointSaver
from vgg_nll.losses import all_logit_nll
from vgg_nll.model import VGG16, head_for
from vgg_nll.progress import track
from vgg_nll.run_folder import paths
from vgg_nll.training.optim import param_groups
from vgg_nll.training.state import TrainState
from vgg_nll.training.step import StepOptions, train_step


def checkpointing(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures how long a checkpoint blocks training, and how much longer the same steps take while it is written."""
    device = hardware.choose_device(args.device)
    dtype = hardware.choose_dtype("auto", device)
    hardware.keep_freed_memory()
    model = VGG16(args.classes, head=head_for(args.image_size)).to(device).to(memory_format=torch.channels_last)
    state = TrainState(model, torch.optim.AdamW(param_groups(model), lr=1e-5, fused=True), device)
    images = torch.randn(args.batch_size, 3, args.image_size, args.image_size, device=device)
    target = torch.randint(0, args.classes, (args.batch_size,), device=device)

    def window(saver: CheckpointSaver | None) -> tuple[float, float]:
        hardware.wait(device)
        start = time.perf_counter()
        if saver is not None:
            saver.save(state.state_dict(), is_best=False)
        blocked = time.perf_counter() - start
        for _ in range(args.steps):
            train_step(state, all_logit_nll, images, target, StepOptions(dtype, clip_norm=1.0), learning_rate=1e-5)
        hardware.wait(device)
        return time.perf_counter() - start, blocked

    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        saver = CheckpointSaver(Path(folder), device, "benchmark")
        windows = []  # seconds: without a checkpoint, with one, blocked, writing after the last step
        for _ in track(range(args.repeats + 1), args.repeats + 1, "checkpoints"):
            windows.append((*window(None)[:1], *window(saver), seconds(saver.wait)))
        saver.close()
        size = (Path(folder) / paths.LAST).stat().st_size
    plain, saving, blocked, late = zip(*windows[1:], strict=True)  # the first one warms up
    cost = [with_one - without for with_one, without in zip(saving, plain, strict=True)]
    step = statistics.median(plain) / args.steps
    return [
        {"image": args.image_size, "classes": args.classes, "batch": args.batch_size, "n": args.repeats, "MB": size // 10**6}
        | {"step ms": round(1e3 * step, 1), "blocked ms": round(1e3 * statistics.median(blocked), 1)}
        | {f"{name} cost s": round(f(cost), 3) for name, f in (("min", min), ("median", statistics.median), ("max", max))}
        | {f"written within {args.steps} steps": sum(wait < 0.01 for wait in late)}
        | {"% at a checkpoint every 500 steps": round(100 * statistics.median(cost) / (500 * step), 2)}
    ]
