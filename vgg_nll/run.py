"""What happens in a run, top to bottom."""

import contextlib
import logging
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from vgg_nll import build, checkpoint, engine, hardware, report
from vgg_nll.checkpoint import CheckpointError
from vgg_nll.data.splits import ImageData
from vgg_nll.settings import ConfigError
from vgg_nll.state import TrainState
from vgg_nll.trainer import Trainer

log = logging.getLogger(__name__)


def train(cfg: DictConfig, folder: Path, choices: Mapping[str, str], overrides: Sequence[str] = ()) -> float:
    """Trains one network as `cfg` says, into `folder`; returns the objective, the best validation accuracy.

    Args:
        choices: what was chosen in each config group ({"loss": "all_logit", ...}), for the report.
        overrides: what was asked for on the command line, for the report.

    Raises:
        ConfigError, DataError, CheckpointError: before anything is trained; what was put into a new folder is removed.
        TrainingError: the loss is no longer finite. The folder keeps the last good checkpoint and says FAILED.
    """
    if cfg.resume is None and (folder / "checkpoints").exists():
        raise ConfigError(
            f"{folder}: holds a run already; resume={folder} goes on with it, hydra.run.dir=<folder> starts another"
        )
    try:
        trainer = _prepare(cfg, folder)
    finally:
        if sys.exception() is not None and cfg.resume is None:
            _discard(folder)
    for marker in ("DONE", "FAILED"):
        (folder / marker).unlink(missing_ok=True)
    try:
        trainer.fit()
        test = trainer.test()
    finally:
        trainer.tracker.close()
        error = sys.exception()
        if error is not None:
            (folder / "FAILED").write_text(f"{type(error).__name__}: {error}\n")
    state = trainer.state
    report.write_metrics(
        folder / "metrics.json",
        {name: choices.get(name, "") for name in ("data", "model", "loss")}
        | {"overrides": list(overrides), "seed": cfg.seed}
        | ({"test": test} if test else {})
        | {"val": state.best_metrics, "best_step": state.best_step, "seconds": round(state.seconds, 1)}
        | _circumstances(trainer),
    )
    (folder / "DONE").write_text("")
    _conclude(trainer, test, folder)
    return state.best_metrics["accuracy"]


def _prepare(cfg: DictConfig, folder: Path) -> Trainer:
    build.check(cfg)
    device = build.make_device(cfg)
    hardware.keep_freed_memory()
    dtype = build.make_dtype(cfg, device)
    data = build.make_data(cfg, device)
    model = build.make_model(cfg, data, device)
    loss = build.make_loss(cfg, device)
    state = TrainState(model, build.make_optimizer(cfg, model), device)
    resumed_at = None if cfg.resume is None else _resume(state, Path(cfg.resume))
    settings = build.make_settings(cfg)
    flops, peak = build.flops_per_image(model, data.image_size), hardware.peak_flops(device, dtype)
    trainer = Trainer(
        state=state,
        data=data,
        loss=loss,
        learning_rate=build.make_learning_rate(cfg, data, settings.total_steps(data.steps_per_epoch)),
        settings=settings,
        dtype=dtype,
        tracker=build.make_tracker(cfg, folder, resumed_at),
        checkpoints=folder / "checkpoints",
        checkpoint_every_steps=cfg.checkpoint.every_steps,
        seed=cfg.seed,
        flops_per_image=flops,
        peak_flops=peak,
    )
    trainer.tracker.text("config", f"```yaml\n{OmegaConf.to_yaml(cfg, resolve=True)}```")
    _introduce(trainer, cfg)
    return trainer


def _discard(folder: Path) -> None:
    """Takes back what this process has put into a folder in which no run began: nothing else, and no folder of the user's."""
    shutil.rmtree(folder / ".hydra", ignore_errors=True)
    for path in (folder / "train.log", *folder.glob("events.out.tfevents.*")):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty: it was there before
        folder.rmdir()


def _resume(state: TrainState, folder: Path) -> int:
    """Takes over the last state of a run; returns the first step that is to be done again in its curves."""
    path = folder / "checkpoints" / checkpoint.LAST
    try:
        state.load_state_dict(checkpoint.load(path))
    except ValueError as error:
        raise CheckpointError(f"resume={folder}: {error}") from error
    log.info(f"resumed {folder} at step {state.step}")
    return state.step + 1


def _introduce(trainer: Trainer, cfg: DictConfig) -> None:
    state, data, settings = trainer.state, trainer.data, trainer.settings
    sizes = ", ".join(f"{count:,} {name}" for name, count in data.sizes.items())
    parameters = sum(p.numel() for p in state.model.parameters())
    log.info(f"data: {sizes} images of {data.image_size}x{data.image_size}, {len(data.class_names)} classes")
    log.info(
        f"model: {parameters:,} parameters, {str(trainer.dtype).removeprefix('torch.')} on {hardware.describe(state.device)}"
    )
    log.info(
        f"training: {trainer.total_steps} steps of {settings.batch_size} images ({data.steps_per_epoch} an epoch), "
        f"learning rate {cfg.optimizer.lr:g} at its peak, seed {cfg.seed}"
    )
    if ignores_labels(trainer.loss, len(data.class_names), state.device):
        log.warning("warning: this loss sees no labels: confidence will grow, accuracy will not")
    if state.step == 0:
        expected, measured = untrained_loss(trainer.loss, data, state, trainer.dtype)
        log.info(f"untrained loss: {measured:.4f} (the same probability for every class gives {expected:.4f})")


def untrained_loss(loss: engine.Loss, data: ImageData, state: TrainState, dtype: torch.dtype) -> tuple[float, float]:
    """The loss of a constant prediction, and the network's own, on the first batch of training images.

    For method 1 the first is `ln C`, for method 2 `ln C + (C-1) ln(C/(C-1))`: what a stuck run goes on showing.
    """
    images, target = next(data.train_batches(0))
    expected = loss(torch.zeros(len(target), len(data.class_names), device=target.device), target)
    sums = engine.evaluate(state.model, loss, [(images, target)], dtype)
    return float(expected), float(sums.loss / sums.images)


def ignores_labels(loss: engine.Loss, num_classes: int, device: torch.device) -> bool:
    """Whether the loss of one and the same prediction is equal for every label."""
    logits = torch.linspace(-1, 1, num_classes, device=device)[None]
    labels = torch.arange(min(num_classes, 10), device=device)
    return len({float(loss(logits, label[None])) for label in labels}) == 1


def _circumstances(trainer: Trainer) -> dict[str, Any]:
    """What a number depends on besides the config."""
    return {
        "device": hardware.describe(trainer.state.device),
        "precision": str(trainer.dtype).removeprefix("torch."),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "git": _git("rev-parse", "HEAD") + ("-dirty" if _git("status", "--porcelain") else ""),
    }


def _git(*args: str) -> str:
    """What git says of this source tree; empty where there is none."""
    try:
        done = subprocess.run(["git", *args], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _conclude(trainer: Trainer, test: dict[str, float], folder: Path) -> None:
    columns = {"validation": trainer.state.best_metrics} | ({"test": test} if test else {})
    log.info(f"\nbest of validation: step {trainer.state.best_step}\n{report.final_table(columns)}\n")
    log.info(f"trained in {trainer.state.seconds:.1f} s; run folder {folder}")
    program = Path(sys.executable).with_name("tensorboard")
    log.info(f"curves: {program if program.exists() else 'tensorboard'} --logdir {shlex.quote(str(folder.parent))}")
