"""What a run does, top to bottom."""

import contextlib
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from vgg_nll import hardware, records, run_folder, run_summary
from vgg_nll.config import build, validation
from vgg_nll.data.interface import ImageData
from vgg_nll.errors import ConfigError
from vgg_nll.evaluation import report
from vgg_nll.evaluation.metrics import Sums
from vgg_nll.evaluation.per_class import balanced_accuracy, per_class
from vgg_nll.evaluation.predictions import write_predictions
from vgg_nll.files import expanded
from vgg_nll.inference.trained_model import with_measured_statistics, write_network
from vgg_nll.model import summary
from vgg_nll.origin import Origin
from vgg_nll.tracking.summaries import Layers
from vgg_nll.training import diagnostics, history
from vgg_nll.training.checkpoint_saver import CheckpointSaver
from vgg_nll.training.frozen_features import FrozenBatches, frozen_batches
from vgg_nll.training.logger import TrainingLogger
from vgg_nll.training.profiler import make_profiler
from vgg_nll.training.pruning import MedianRule, Pruned
from vgg_nll.training.signals import BEFORE, Interrupted, Signals
from vgg_nll.training.state import TrainState
from vgg_nll.training.trainer import Trainer
from vgg_nll.training.weight_average import make_average

log = logging.getLogger(__name__)
CUDA_GRAPH_PIXELS = 128  # a side: the kernels of smaller images take less time than their start


def train(cfg: DictConfig, folder: Path, choices: Mapping[str, str], overrides: Sequence[str] = ()) -> float:
    """Trains one network as `cfg` says, into `folder`; returns the objective, the best validation accuracy.

    Args:
        choices: what was chosen in each config group ({"loss": "all_logit", ...}), for the report.
        overrides: those of the command line, for the report.

    Raises:
        ConfigError, DataError, CheckpointError: before anything is trained; what was put into a new folder is removed.
        TrainingError: the run cannot continue. The folder keeps the last good checkpoint and says FAILED.
        Interrupted: by a signal; the state is saved, and `resume=` continues.
    """
    run_folder.refuse_links(folder)
    with (
        run_folder.lock_run_folder(folder),
        hardware.kernels(deterministic=cfg.trainer.deterministic is True),
        Signals() as signals,
    ):
        before = set(folder.iterdir())
        if cfg.resume is None and run_folder.holds_run(folder):
            raise ConfigError(f"{folder}: {run_folder.how_to_continue(folder)}")
        try:
            origin = Origin.of(cfg, folder, choices, overrides)
            trainer = prepare(origin, signals)
        except Exception as error:
            if signals.stop is not None:  # a library that is interrupted while it loads makes an error of its own of that
                raise Interrupted(signals.stop, BEFORE) from error
            raise
        finally:
            if sys.exception() is not None and cfg.resume is None:
                run_folder.remove_new_files(folder, before)
        signals.defer()
        origin.write(trainer.data)
        trainer.data.bad_images.write(folder / run_folder.BAD_IMAGES)
        write_network(folder, trainer.data.preprocessing, trainer.data.class_names, origin.run_id)
        for marker in (run_folder.DONE, run_folder.FAILED, run_folder.PRUNED):
            (folder / marker).unlink(missing_ok=True)
        try:
            trainer.fit()
            _finish(trainer, origin)
            saved_all = trainer.saver.close()
        except Pruned as why:
            trainer.logger.end_session(trainer.state.step, is_success=True)
            (folder / run_folder.PRUNED).write_text(f"{why}\n")
            log.info(f"stopped, since finished runs are better: {why}")
            return trainer.state.best_metrics["accuracy"]
        except BaseException as error:
            _mark_failed(trainer, error)
            raise
        finally:
            _close(trainer)
        if saved_all:
            (folder / run_folder.DONE).write_text("")
            if cfg.checkpoint.keep == "best":
                run_folder.keep_best(folder)
        else:
            log.warning(f"warning: not all weights are on the disk; resume={folder} repeats what is missing")
        if signals.stop is not None:  # in a sweep, other jobs would follow
            raise Interrupted(signals.stop, f"the run in {folder} is finished")
    return trainer.state.best_metrics["accuracy"]


def prepare(origin: Origin, signals: Signals) -> Trainer:
    """Builds everything that `origin` asks for: a trainer, ready to `fit`. Errors are those of `train`."""
    cfg, folder = origin.cfg, origin.folder
    validation.check(cfg)
    device = build.make_device(cfg)
    hardware.keep_freed_memory()
    dtype = build.make_dtype(cfg, device)
    data = build.make_data(with_measured_statistics(cfg, folder, origin.run_id) if origin.resume else cfg, device)
    origin.check_same_data(data)
    image_size = data.preprocessing.image_size
    loss = build.make_loss(cfg, data, device)
    saver = CheckpointSaver(folder, device, origin.run_id)
    state, batches = _make_state(origin, data, device, dtype, saver)
    settings = build.make_settings(cfg)
    total_steps = settings.total_steps(data.steps_per_epoch)
    if state.step > total_steps:
        raise ConfigError(f"resume={folder}: has done {state.step} steps already, more than the {total_steps} of this config")
    tracker = build.make_tracker(cfg, folder, state.step + 1, state.validated_step + 1, origin.run_id)
    trainer = Trainer(
        state=state,
        data=data,
        train_batches=batches or data.train_batches,
        loss=loss,
        learning_rate=build.make_learning_rate(cfg, data, total_steps),
        settings=settings,
        dtype=dtype,
        logger=TrainingLogger(
            tracker,
            folder / run_folder.METRICS_TABLE,
            class_names=data.class_names,
            pixels=data.preprocessing.pixels,
            total_steps=total_steps,
            steps_per_epoch=data.steps_per_epoch,
            constant_loss=diagnostics.constant_loss(loss, data.class_counts, device),
            flops_per_image=summary.flops_per_image(state.model, image_size, head_alone=batches is not None),
            peak_flops=hardware.peak_flops(device, dtype),
            input_hint=data.hint,
        ),
        saver=saver,
        save_every_steps=cfg.checkpoint.every_steps,
        signals=signals,
        profiler=make_profiler(settings.profile, folder, device),
        pruning=MedianRule(None if settings.prune_against is None else expanded(settings.prune_against), cfg.loss),
        seed=cfg.seed,
    )
    first = state.step + 1
    for text in run_summary.texts(trainer, origin):
        tracker.add(text, first)
    if state.step == 0:
        for shown in (Layers(summary.layers(state.model, image_size)), *run_summary.first_images(trainer)):
            tracker.add(shown, first)
    run_summary.log_start(trainer, origin)
    return trainer


def _make_state(
    origin: Origin, data: ImageData, device: torch.device, dtype: torch.dtype, saver: CheckpointSaver
) -> tuple[TrainState, FrozenBatches | None]:
    """Returns the state to train on from, and batches of frozen features, if there are any."""
    cfg, image_size = origin.cfg, data.preprocessing.image_size
    model = build.make_model(cfg, len(data.class_names), image_size, device, load_weights=origin.resume is None)
    average = make_average(model, cfg.trainer.ema_decay)
    state = TrainState(model, build.make_optimizer(cfg, model), device, average)
    if origin.resume is not None:
        saver.restore(state, origin.resume)
    batches = frozen_batches(model, data, dtype, cfg.trainer.batch_size, cfg.trainer.eval_batch_size)
    if batches is not None:
        state.forward = model.head
    elif cfg.trainer.compile:
        graphs = image_size < CUDA_GRAPH_PIXELS and cfg.trainer.accumulation_steps == 1
        state.forward = hardware.compiled(model, device, graphs=graphs)
    return state, batches


def _close(trainer: Trainer) -> None:
    trainer.logger.close()
    trainer.saver.wait()
    if run_folder.is_whole(trainer.saver.folder):
        trainer.data.bad_images.write(trainer.saver.folder / run_folder.BAD_IMAGES)


def _mark_failed(trainer: Trainer, error: BaseException) -> None:
    """Says in the HParams tab that the run did not finish; in FAILED, too, unless a signal has stopped it."""
    trainer.logger.end_session(trainer.state.step, is_success=False)
    if isinstance(error, Exception):
        with contextlib.suppress(OSError):
            (trainer.saver.folder / run_folder.FAILED).write_text(f"{type(error).__name__}: {error}\n")


def _finish(trainer: Trainer, origin: Origin) -> None:
    """Evaluates the test split; prints the metrics, and writes metrics.json."""
    test, state, folder, cfg = trainer.test(), trainer.state, trainer.saver.folder, origin.cfg
    tested = {} if test is None else {"test": dict(test.values)}
    splits = {"validation": state.best_metrics} | tested
    split, values = list(splits.items())[-1]
    said = report.verdict(values, trainer.data.sizes["val" if test is None else "test"])
    log.info(f"\nbest of validation: step {state.best_step}\n{report.final_table(splits)}\n\n{split}: {said}\n")
    shown = trainer.evaluate("val") if test is None else test
    records.write_json(
        folder / run_folder.METRICS,
        {name: origin.choices.get(name, "") for name in ("data", "model", "loss")}
        | {"overrides": list(origin.overrides), "seed": cfg.seed}
        | tested
        | ({} if test is None else {"reliability": _reliability(test.sums)})
        | {"val": state.best_metrics, "best_step": state.best_step, "validation_losses": history.losses(state.history)}
        | {"balanced_accuracy": balanced_accuracy(shown.sums), "classes": per_class(trainer.data.class_names, shown.sums)}
        | {"seconds": round(state.seconds, 1)}
        | run_summary.provenance_of(trainer)
        | {"config": OmegaConf.to_container(cfg)},
        origin.run_id,
    )
    write_predictions(folder / run_folder.PREDICTIONS, shown.sums.by_image(), trainer.data.class_names)
    trainer.end()
    log.info(f"trained in {state.seconds:.1f} s; run folder {folder}")
    run_summary.log_dashboard(origin)


def _reliability(sums: Sums) -> dict[str, Any]:
    """The bins of the test split's reliability diagram, for diagrams of several runs together."""
    bins = {"images": sums.bin_images, "correct": sums.bin_correct, "confidence": sums.bin_confidence}
    return {"split": "test"} | {name: counts.tolist() for name, counts in bins.items()}
