"""What happens in a run, top to bottom."""

import contextlib
import json
import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from vgg_nll import hardware, run_folder
from vgg_nll.config import build
from vgg_nll.data.interface import ImageData
from vgg_nll.errors import CheckpointError, ConfigError
from vgg_nll.evaluation import loop, metrics, report
from vgg_nll.inference import trained_model
from vgg_nll.losses import Loss
from vgg_nll.model import summary
from vgg_nll.provenance import hyperparameters, provenance
from vgg_nll.tracking import tags
from vgg_nll.tracking.summaries import Hyperparameters, Layers, Text
from vgg_nll.training import checkpoint, profiler
from vgg_nll.training.checkpoint_saver import Saver
from vgg_nll.training.logger import TrainingLogger
from vgg_nll.training.signals import BEFORE, Interrupted, Signals
from vgg_nll.training.state import TrainState, check_weights
from vgg_nll.training.trainer import Trainer

log = logging.getLogger(__name__)
FULL_KERNELS = 128  # pixels a side: the kernels of smaller images are shorter than their start


def train(cfg: DictConfig, folder: Path, choices: Mapping[str, str], overrides: Sequence[str] = ()) -> float:
    """Trains one network as `cfg` says, into `folder`; returns the objective, the best validation accuracy.

    Args:
        choices: what was chosen in each config group ({"loss": "all_logit", ...}), for the report.
        overrides: what was asked for on the command line, for the report.

    Raises:
        ConfigError, DataError, CheckpointError: before anything is trained; what was put into a new folder is removed.
        TrainingError: the run cannot go on. The folder keeps the last good checkpoint and says FAILED.
        Interrupted: by a signal; the state is saved, and `resume=` goes on.
    """
    with (
        run_folder.lock_run_folder(folder),
        hardware.kernels(deterministic=cfg.trainer.deterministic is True),
        Signals() as signals,
    ):
        before = set(folder.iterdir())
        if cfg.resume is None and run_folder.holds_run(folder):
            raise ConfigError(
                f"{folder}: holds a run already; resume={folder} goes on with it, hydra.run.dir=<folder> starts another"
            )
        try:
            trainer = prepare(cfg, folder, signals, choices, overrides)
        except Exception as error:
            if signals.stop is not None:  # a library that is interrupted while it loads makes an error of its own of that
                raise Interrupted(signals.stop, BEFORE) from error
            raise
        finally:
            if sys.exception() is not None and cfg.resume is None:
                run_folder.remove_new_files(folder, before)
        signals.defer()
        _write_config(cfg, folder, overrides)
        trained_model.write(folder, trainer.data.preprocessing, trainer.data.class_names)
        for marker in ("DONE", "FAILED"):
            (folder / marker).unlink(missing_ok=True)
        try:
            trainer.fit()
            _finish(trainer, cfg, choices, overrides)
            saved = trainer.saver.close()
        except Exception as error:
            with contextlib.suppress(OSError):
                (folder / "FAILED").write_text(f"{type(error).__name__}: {error}\n")
            raise
        finally:
            trainer.logger.close()
            trainer.saver.wait()
        if saved:
            (folder / "DONE").write_text("")
        else:
            log.warning(f"warning: not all weights are on the disk; resume={folder} does again what is missing")
        if signals.stop is not None:  # in a sweep, there would be other jobs
            raise Interrupted(signals.stop, f"the run in {folder} is finished")
    return trainer.state.best_metrics["accuracy"]


def prepare(cfg: DictConfig, folder: Path, signals: Signals, choices: Mapping[str, str], overrides: Sequence[str]) -> Trainer:
    """Everything that `cfg` asks for, ready to `fit`. Arguments and errors are those of `train`."""
    build.check(cfg)
    device = build.make_device(cfg)
    hardware.keep_freed_memory(cfg.trainer.keep_memory)
    dtype = build.make_dtype(cfg, device)
    data = build.make_data(cfg, device)
    model = build.make_model(cfg, len(data.class_names), data.preprocessing.image_size, device)
    loss = build.make_loss(cfg, device)
    state = TrainState(model, build.make_optimizer(cfg, model), device)
    if cfg.trainer.compile:
        small = data.preprocessing.image_size < FULL_KERNELS
        state.forward = hardware.compiled(model, device, graphs=small and cfg.trainer.accumulation_steps == 1)
    saver = Saver(folder / "checkpoints", device)
    if cfg.resume is not None:
        _resume(state, Path(cfg.resume), saver)
    settings = build.make_settings(cfg)
    total_steps = settings.total_steps(data.steps_per_epoch)
    if state.step > total_steps:
        raise ConfigError(f"resume={folder}: has done {state.step} steps already, more than the {total_steps} it is asked for")
    tracker = build.make_tracker(cfg, folder, state.step + 1)
    trainer = Trainer(
        state=state,
        data=data,
        loss=loss,
        learning_rate=build.make_learning_rate(cfg, data, total_steps),
        settings=settings,
        dtype=dtype,
        logger=TrainingLogger(
            tracker,
            class_names=data.class_names,
            pixels=data.preprocessing.pixels,
            total_steps=total_steps,
            steps_per_epoch=data.steps_per_epoch,
            constant_loss=constant_loss(loss, len(data.class_names), device),
            flops_per_image=summary.flops_per_image(model, data.preprocessing.image_size),
            peak_flops=hardware.peak_flops(device, dtype),
            input_hint=data.hint,
        ),
        saver=saver,
        save_every_steps=cfg.checkpoint.every_steps,
        signals=signals,
        profiler=profiler.make(settings.profile, folder / "profile", device),
        seed=cfg.seed,
    )
    first = state.step + 1
    tracker.add(Hyperparameters(hyperparameters(trainer, cfg.optimizer.lr, choices, overrides)), first)
    tracker.add(Text(tags.CONFIG, f"```yaml\n{OmegaConf.to_yaml(cfg, resolve=True)}```"), first)
    tracker.add(Text(tags.PROVENANCE, f"```json\n{json.dumps(provenance(trainer), indent=2)}\n```"), first)
    if state.step == 0:
        tracker.add(Layers(summary.layers(model, data.preprocessing.image_size)), first)
    _log_run_summary(trainer, cfg)
    return trainer


def _resume(state: TrainState, folder: Path, saver: Saver) -> None:
    """Takes over the last sound state of a run, and sees to it that `best.pt` belongs to it."""
    try:
        checkpoint.remove_unfinished(saver.folder)
        content, damage = checkpoint.load_newest(saver.folder)
        state.load_state_dict(content)
    except CheckpointError as error:
        raise CheckpointError(f"resume={folder}: {error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:  # sound, but of something else
        raise CheckpointError(f"resume={folder}: {' '.join(str(error).split())}") from error
    if damage:
        with contextlib.suppress(FileNotFoundError):  # not to take the place of the sound one at the next save
            (saver.folder / checkpoint.LAST).replace(saver.folder / checkpoint.DAMAGED)
        log.warning(f"warning: {damage}; the state saved before it takes its place")
    log.info(f"resumed {folder} at step {state.step}")
    if state.best_step < 0:
        return
    try:
        check_weights(state.model, saver.best(state.best_step))
    except ValueError as error:  # CheckpointError is one
        if state.step == state.best_step:  # the process ended between the two files
            saver.save(state.state_dict(), best=True)
            return
        log.warning(f"warning: {error}; the best step is looked for anew, among the steps to come")
        state.best_step, state.best_metrics = -1, {}


def _write_config(cfg: DictConfig, folder: Path, overrides: Sequence[str]) -> None:
    """What Hydra writes for a new run; each file whole, since the run could not be resumed again without them."""
    (folder / ".hydra").mkdir(exist_ok=True)
    checkpoint.write_text(folder / ".hydra" / "config.yaml", OmegaConf.to_yaml(cfg))
    checkpoint.write_text(folder / ".hydra" / "overrides.yaml", OmegaConf.to_yaml(list(overrides)))


def _log_run_summary(trainer: Trainer, cfg: DictConfig) -> None:
    state, data, settings = trainer.state, trainer.data, trainer.settings
    sizes = ", ".join(f"{count:,} {name}" for name, count in data.sizes.items())
    parameters = sum(p.numel() for p in state.model.parameters())
    side = data.preprocessing.image_size
    log.info(f"data: {sizes} images of {side}x{side}, {len(data.class_names)} classes")
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
        constant = constant_loss(trainer.loss, len(data.class_names), state.device)
        measured = untrained_loss(trainer.loss, data, state, trainer.dtype)
        log.info(f"untrained loss: {measured:.4f} (the same probability for every class gives {constant:.4f})")


def constant_loss(loss: Loss, num_classes: int, device: torch.device) -> float:
    """The loss of the same probability for every class: what a stuck run goes on showing.

    For method 1 it is `ln C`, for method 2 `ln C + (C-1) ln(C/(C-1))`.
    """
    labels = torch.arange(min(num_classes, 10), device=device)
    return float(loss(torch.zeros(len(labels), num_classes, device=device), labels))


def untrained_loss(loss: Loss, data: ImageData, state: TrainState, dtype: torch.dtype) -> float:
    """The network's loss on the first batch of training images."""
    sums = loop.evaluate(state.model, loss, [next(data.train_batches(0))], dtype)
    return float(sums.loss / sums.images)


def ignores_labels(loss: Loss, num_classes: int, device: torch.device) -> bool:
    """Whether the loss of one and the same prediction is equal for every label."""
    logits = torch.linspace(-1, 1, num_classes, device=device)[None]
    labels = torch.arange(min(num_classes, 10), device=device)
    return len({float(loss(logits, label[None])) for label in labels}) == 1


def _finish(trainer: Trainer, cfg: DictConfig, choices: Mapping[str, str], overrides: Sequence[str]) -> None:
    """The test split, the numbers on the screen, and metrics.json."""
    sums, state, folder = trainer.test(), trainer.state, trainer.folder
    tested = {} if sums is None else {"test": metrics.compute(sums)}
    log.info(
        f"\nbest of validation: step {state.best_step}\n{report.final_table({'validation': state.best_metrics} | tested)}\n"
    )
    report.write_metrics(
        folder / "metrics.json",
        {name: choices.get(name, "") for name in ("data", "model", "loss")}
        | {"overrides": list(overrides), "seed": cfg.seed}
        | tested
        | ({} if sums is None else {"reliability": _reliability(sums)})
        | {"val": state.best_metrics, "best_step": state.best_step, "seconds": round(state.seconds, 1)}
        | provenance(trainer)
        | {"config": OmegaConf.to_container(cfg, resolve=True)},
    )
    trainer.end()
    log.info(f"trained in {state.seconds:.1f} s; run folder {folder}")
    program = Path(sys.executable).with_name("tensorboard")
    log.info(f"curves: {program if program.exists() else 'tensorboard'} --logdir {shlex.quote(str(folder.parent))}")


def _reliability(sums: metrics.Sums) -> dict[str, Any]:
    """The bins of the test split's reliability diagram, for diagrams of several runs together."""
    bins = {"images": sums.bin_images, "correct": sums.bin_correct, "confidence": sums.bin_confidence}
    return {"split": "test"} | {name: counts.tolist() for name, counts in bins.items()}
