"""The cost of the training loop around a step."""

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from vgg_nll import hardware
from vgg_nll.benchmarks.timing import seconds
from vgg_nll.run import build, setup
from vgg_nll.run_folder import paths
from vgg_nll.run_folder.record import RunRecord
from vgg_nll.training import trainer as training_loop
from vgg_nll.training.profiler import NoProfiler
from vgg_nll.training.signals import Signals
from vgg_nll.training.state import TrainState
from vgg_nll.training.step import StepOptions, train_step

PROGRAM = Path(__file__).resolve().parents[2] / "train.py"
LOOPS = {
    "train.py": [],
    "train.py, a validation, figures and a checkpoint every epoch": [
        "trainer.validate_every_epochs=1",
        "trainer.figures_every_epochs=1",
    ],
}


def trainer(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures images/s of `train.py data=synthetic trainer=benchmark`, and of the bare step on one batch, by epochs in turn.

    The bare step is forward, loss, backward, clipping and update, with the config of the run; the loop adds order and
    augmentation, logging, progress and checks, and in the last row what is due once an epoch. The last column is the loop's own
    clock, which the pace of a shared machine does not touch; on a GPU, where steps only begin on the host, it says nothing.
    """
    common = [f"device={args.device}", f"trainer.batch_size={args.batch_size}", f"model={args.model}", "trainer=benchmark"]
    common += ["data=synthetic", f"data.image_size={args.image_size}", f"data.num_classes={args.classes}"]
    common += [f"data.num_images={args.images}", "trainer.steps=null", f"trainer.epochs={args.repeats + 1}"]
    rows: list[dict[str, Any]] = []
    for name, overrides in LOOPS.items():
        with tempfile.TemporaryDirectory() as parent:
            bare, loop, images, inside = _pairs(_config(Path(parent), [*common, *overrides], args.device), Path(parent))
        more = statistics.median(own / other for own, other in zip(loop, bare, strict=True)) - 1
        rows += [_row("bare step", bare, images, 0.0, 1.0), _row(name, loop, images, more, inside)]
    return rows


def _row(name: str, blocks: Sequence[float], images: int, more: float, inside: float) -> dict[str, Any]:
    speeds = [images / block for block in blocks]
    return (
        {"what": name, "n": len(blocks), "min images/s": round(min(speeds), 1), "median": round(statistics.median(speeds), 1)}
        | {"max": round(max(speeds), 1)}
        | {
            "% more time than the bare step": round(100 * more, 1),
            "% of its time outside the step": round(100 * (1 - inside), 1),
        }
    )


def _config(folder: Path, overrides: Sequence[str], device: str) -> Any:
    """The config that `train.py` makes of these overrides."""
    first = folder / "first"
    command = [sys.executable, str(PROGRAM), *overrides, "trainer.steps=1", f"hydra.run.dir={first}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip() or done.stdout.strip())
    cfg = RunRecord.open(first).cfg
    cfg.device, cfg.trainer.steps = device, None
    return cfg


def _pairs(cfg: Any, folder: Path) -> tuple[list[float], list[float], int, float]:
    """Seconds of every epoch but the first, as bare steps and as the loop; images of an epoch; the step's share of the loop."""
    inside: list[float] = []
    bare_step = train_step

    def timed(*args: Any, **kwargs: Any) -> Tensor:
        start = time.perf_counter()
        norm = bare_step(*args, **kwargs)
        inside.append(time.perf_counter() - start)
        return norm

    (folder / "run").mkdir()
    with paths.lock_run_folder(folder / "run"), Signals() as signals:
        start = setup.Start(RunRecord.new(cfg), folder / "run", None, True)
        made, _ = setup.prepare(start, signals, setup.meet(cfg))
        steps = made.data.steps_per_epoch
        made.profiler = turns = _InTurn(_bare(cfg, steps, bare_step), steps, made.state.device)
        with patch.object(training_loop, "train_step", timed):
            made.fit()
        made.logger.close()
        made.saver.close()
    return turns.bare[1:], turns.loop[1:], steps * made.settings.batch_size, sum(inside[steps:]) / sum(turns.loop[1:])


class _InTurn(NoProfiler):
    """After every epoch of the loop, as many bare steps; the clock runs for the one or for the other."""

    def __init__(self, bare_epoch: Callable[[], object], steps: int, device: torch.device) -> None:
        self._bare_epoch, self._steps, self._device = bare_epoch, steps, device
        self._count = itertools.count(1)
        self._start = time.perf_counter()
        self.bare: list[float] = []
        self.loop: list[float] = []

    def step(self) -> None:
        """Called before what is due after a step, which therefore counts for the next epoch."""
        if next(self._count) % self._steps:
            return
        hardware.wait(self._device)
        self.loop.append(time.perf_counter() - self._start)
        self.bare.append(seconds(self._bare_epoch))
        self._start = time.perf_counter()


def _bare(cfg: Any, steps: int, step: Callable[..., Tensor]) -> Callable[[], None]:
    """Steps of another network of the same kind on one batch."""
    device = build.make_device(cfg.device)
    data = build.make_data(cfg, device)
    model = build.make_model(cfg, data.class_names, data.preprocessing.image_size, device)
    state = TrainState(model, build.make_optimizer(cfg, model), device)
    loss, dtype = build.make_loss(cfg, data, device), build.make_dtype(cfg, device)
    images, target = next(data.train_batches(0))
    options = StepOptions(dtype, build.make_settings(cfg).clip_norm)

    def epoch() -> None:
        for _ in range(steps):
            step(state, loss, images, target, options, learning_rate=1e-5)
        hardware.wait(device)

    return epoch
