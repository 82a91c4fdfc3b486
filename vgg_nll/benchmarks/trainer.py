"""What the loop around a step costs."""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vgg_nll import build, engine, hardware, network
from vgg_nll.progress import track
from vgg_nll.state import TrainState
from vgg_nll.tracking import curves, tags

PROGRAM = Path(__file__).resolve().parents[2] / "train.py"
LOOPS = {
    "train.py": ["trainer=benchmark"],
    "train.py, with a validation, pictures and a save every epoch": ["trainer=benchmark", "trainer.validate_every_epochs=1"],
}


def trainer(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Images/s of `python train.py data=synthetic` from its first logged step to its last, against the bare step on one batch.

    The bare step is forward, loss, backward, clipping and update, with the config of the run; the loop adds reading,
    augmentation, logging, progress and checks, and in the last row what is due once an epoch.
    """
    own = [f"device={args.device}", f"trainer.steps={args.steps}", f"trainer.batch_size={args.batch_size}"]
    own += ["data=synthetic", f"data.image_size={args.image_size}", f"data.num_classes={args.classes}"]
    own += [f"data.num_images={args.images}", f"model={args.model}"]
    times: dict[str, list[float]] = {name: [] for name in ("bare step", *LOOPS)}
    with tempfile.TemporaryDirectory() as parent:
        for i in track(range(args.repeats), args.repeats, "runs"):
            for k, (name, overrides) in enumerate(LOOPS.items()):
                folder = Path(parent) / f"{i}-{k}"
                times[name].append(_loop(folder, [*overrides, *own]))
            times["bare step"].append(_bare(folder, args))
    return [
        {"what": name, "batch": args.batch_size, "steps": args.steps, "n": args.repeats}
        | {"min images/s": round(args.batch_size / max(seconds), 1)}
        | {"median": round(args.batch_size / statistics.median(seconds), 1), "max": round(args.batch_size / min(seconds), 1)}
        | {"% more time than the bare step, in pairs": round(100 * _more(seconds, times["bare step"]), 1)}
        for name, seconds in times.items()
    ]


def _more(seconds: Sequence[float], bare: Sequence[float]) -> float:
    """Each against the one measured next to it: a shared machine changes its pace."""
    return statistics.median(own / other for own, other in zip(seconds, bare, strict=True)) - 1


def _loop(folder: Path, overrides: Sequence[str]) -> float:
    """Seconds a step, between the first and the last logged one."""
    command = [sys.executable, str(PROGRAM), *overrides, f"hydra.run.dir={folder}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip() or done.stdout.strip())
    (first, start), *_, (last, end) = curves.clock(folder, tags.LOSS_TRAIN)
    return (end - start) / (last - first)


def _bare(folder: Path, args: argparse.Namespace) -> float:
    """Seconds a step of the same network on one batch, as many as the loop is timed over, after three to warm up."""
    cfg = network.read_config(folder, args.device)
    device = build.make_device(cfg)
    hardware.keep_freed_memory()
    data = build.make_data(cfg, device)
    model = build.make_model(cfg, len(data.class_names), data.preprocessing.image_size, device)
    state = TrainState(model, build.make_optimizer(cfg, model), device)
    loss, dtype = build.make_loss(cfg, device), build.make_dtype(cfg, device)
    images, target = next(data.train_batches(0))
    for step in range(-3, args.steps):
        if step == 0:
            hardware.wait(device)
            start = time.perf_counter()
        options: dict[str, Any] = {"learning_rate": cfg.optimizer.lr, "clip_norm": cfg.trainer.clip_norm}
        engine.train_step(state, loss, images, target, accumulation_steps=1, dtype=dtype, **options)
    hardware.wait(device)
    return (time.perf_counter() - start) / args.steps
