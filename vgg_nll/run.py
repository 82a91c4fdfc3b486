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
from vgg_nll.config import build, saved, validation
from vgg_nll.config.compose import flatten
from vgg_nll.data.interface import ImageData
from vgg_nll.errors import ConfigError
from vgg_nll.evaluation import report
from vgg_nll.evaluation.loop import Evaluation
from vgg_nll.evaluation.metrics import Sums
from vgg_nll.evaluation.per_class import balanced_accuracy, per_class
from vgg_nll.evaluation.predictions import write_predictions
from vgg_nll.files import expanded
from vgg_nll.inference.trained_model import with_measured_statistics, write_network
from vgg_nll.model import summary
from vgg_nll.origin import Origin, describe
from vgg_nll.ranks import ALONE, Ranks, joined, leave, lost_peers_as_error
from vgg_nll.tracking.summaries import Layers
from vgg_nll.training import diagnostics, history
from vgg_nll.training.checkpoint_saver import CheckpointSaver
from vgg_nll.training.data_parallel import data_parallel, synchronise_batch_norm
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
            ranks = _meet(origin.cfg)
            trainer = prepare(ranks.of_first(origin), signals, ranks)
        except Exception as error:
            if signals.stop is not None:  # a library that is interrupted while it loads makes an error of its own of that
                raise Interrupted(signals.stop, BEFORE) from error
            raise
        finally:
            if sys.exception() is not None and cfg.resume is None:
                run_folder.remove_new_files(folder, before)
        signals.defer()
        origin.write(trainer.data)
        run_folder.remember_for_restart(folder)
        trainer.data.bad_images.write(folder / run_folder.BAD_IMAGES)
        write_network(folder, trainer.data.preprocessing, trainer.data.class_names, origin.run_id)
        for marker in (run_folder.DONE, run_folder.FAILED, run_folder.PRUNED):
            (folder / marker).unlink(missing_ok=True)
        try:
            with lost_peers_as_error():
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
    leave()
    return trainer.state.best_metrics["accuracy"]


def join(cfg: DictConfig) -> None:
    """Trains with the process that runs `train`, step by step: does what it does, and writes nothing. Errors are its own."""
    with hardware.kernels(deterministic=cfg.trainer.deterministic is True), Signals() as signals, lost_peers_as_error():
        ranks = _meet(OmegaConf.create(saved.plain(cfg)))
        origin = ranks.of_first(None)
        trainer = prepare(origin, signals, ranks)
        signals.defer()
        run_folder.remember_for_restart(origin.folder)
        try:
            trainer.fit()
            _last_evaluation(trainer)
        except (Interrupted, Pruned):  # rank 0 says so
            return
        trainer.end()
    leave()


def _meet(cfg: DictConfig) -> Ranks:
    """Waits for the other processes that train with this one, and makes sure that all have the same config."""
    validation.check(cfg)
    ranks = joined(build.make_device(cfg))
    _check_same(ranks, dict(flatten(cfg)))
    if ranks.size > cfg.trainer.batch_size:
        raise ConfigError(f"trainer.batch_size={cfg.trainer.batch_size}: is for all {ranks.size} ranks together; raise it")
    if ranks.size > 1 and cfg.trainer.prune_against is not None:
        raise ConfigError("trainer.prune_against: is for sweeps; torchrun trains one network: leave it out")
    return ranks


def _check_same(ranks: Ranks, mine: Mapping[str, Any]) -> None:
    """Raises ConfigError with the first difference unless all ranks have the same settings, or data."""
    first, *others = ranks.gather(mine)
    for rank, theirs in enumerate(others, 1):
        for key in sorted(first.keys() | theirs.keys()):
            if first.get(key) != theirs.get(key):
                raise ConfigError(
                    f"rank {rank} has {key}={str(theirs.get(key))[:200]}, rank 0 has {str(first.get(key))[:200]}: start all "
                    "ranks with the same command, on the same data"
                )


def prepare(origin: Origin, signals: Signals, ranks: Ranks = ALONE) -> Trainer:
    """Builds everything that `origin` asks for: a trainer, ready to `fit`. Errors are those of `train`."""
    cfg, folder = origin.cfg, origin.folder
    validation.check(cfg)
    device = build.make_device(cfg)
    hardware.keep_freed_memory()
    dtype = build.make_dtype(cfg, device)
    data = build.make_data(with_measured_statistics(cfg, folder, origin.run_id) if origin.resume else cfg, device, ranks)
    _check_same(ranks, {f"data, {key}": value for key, value in describe(data).items()})
    origin.check_same_data(data)
    image_size = data.preprocessing.image_size
    loss = build.make_loss(cfg, data, device)
    saver = CheckpointSaver(folder, device, origin.run_id, is_reader=not ranks.is_first)
    state, batches = _make_state(origin, data, device, dtype, saver, ranks)
    settings = build.make_settings(cfg)
    total_steps = settings.total_steps(data.steps_per_epoch)
    if state.step > total_steps:
        raise ConfigError(f"resume={folder}: has done {state.step} steps already, more than the {total_steps} of this config")
    tracker = build.make_tracker(
        cfg, folder, state.step + 1, state.validated_step + 1, origin.run_id, is_null=not ranks.is_first
    )
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
            folder / run_folder.METRICS_TABLE if ranks.is_first else None,
            class_names=data.class_names,
            pixels=data.preprocessing.pixels,
            total_steps=total_steps,
            steps_per_epoch=data.steps_per_epoch,
            constant_loss=diagnostics.constant_loss(loss, data.class_counts, device),
            flops_per_image=summary.flops_per_image(state.model, image_size, head_alone=batches is not None) / ranks.size,
            peak_flops=hardware.peak_flops(device, dtype),
            input_hint=data.hint,
        ),
        saver=saver,
        save_every_steps=cfg.checkpoint.every_steps,
        signals=signals,
        profiler=make_profiler(settings.profile and ranks.is_first, folder, device),
        pruning=MedianRule(None if settings.prune_against is None else expanded(settings.prune_against), cfg.loss),
        seed=cfg.seed,
        ranks=ranks,
    )
    if not ranks.is_first:
        return trainer
    first = state.step + 1
    for text in run_summary.texts(trainer, origin):
        tracker.add(text, first)
    if state.step == 0:
        for shown in (Layers(summary.layers(state.model, image_size)), *run_summary.first_images(trainer)):
            tracker.add(shown, first)
    run_summary.log_start(trainer, origin)
    return trainer


def _make_state(
    origin: Origin, data: ImageData, device: torch.device, dtype: torch.dtype, saver: CheckpointSaver, ranks: Ranks
) -> tuple[TrainState, FrozenBatches | None]:
    """Returns the state to train on from, and batches of frozen features, if there are any."""
    cfg, image_size = origin.cfg, data.preprocessing.image_size
    model = build.make_model(cfg, len(data.class_names), image_size, device, load_weights=origin.resume is None)
    if ranks.size > 1 and cfg.trainer.sync_batchnorm:
        synchronise_batch_norm(model)
    average = make_average(model, cfg.trainer.ema_decay)
    state = TrainState(model, build.make_optimizer(cfg, model), device, average)
    if origin.resume is not None:
        with ranks.first_alone():
            saver.restore(state, origin.resume)
        state.best_step, state.best_metrics = ranks.of_first((state.best_step, state.best_metrics))
    batches = frozen_batches(model, data, dtype, cfg.trainer.batch_size, cfg.trainer.eval_batch_size, ranks)
    forward = model if batches is None else model.head
    if ranks.size > 1:
        compression, bucket_mb = cfg.trainer.gradient_compression, cfg.trainer.bucket_mb
        forward = data_parallel(model, forward, compression=compression, bucket_mb=bucket_mb)
        state.keep_gradients = forward.no_sync
    if batches is None and cfg.trainer.compile:
        graphs = image_size < CUDA_GRAPH_PIXELS and cfg.trainer.accumulation_steps == ranks.size == 1
        forward = hardware.compiled(forward, device, graphs=graphs)
    state.forward = forward
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
    test, shown = _last_evaluation(trainer)
    state, folder, cfg = trainer.state, trainer.saver.folder, origin.cfg
    tested = {} if test is None else {"test": dict(test.values)}
    splits = {"validation": state.best_metrics} | tested
    split, values = list(splits.items())[-1]
    said = report.verdict(values, trainer.data.sizes["val" if test is None else "test"])
    log.info(f"\nbest of validation: step {state.best_step}\n{report.final_table(splits)}\n\n{split}: {said}\n")
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


def _last_evaluation(trainer: Trainer) -> tuple[Evaluation | None, Evaluation]:
    """Evaluates the best network on the test split, if there is one; and on that or, without one, on the validation split."""
    test = trainer.test()
    return test, trainer.evaluator.evaluate("val") if test is None else test


def _reliability(sums: Sums) -> dict[str, Any]:
    """The bins of the test split's reliability diagram, for diagrams of several runs together."""
    bins = {"images": sums.bin_images, "correct": sums.bin_correct, "confidence": sums.bin_confidence}
    return {"split": "test"} | {name: counts.tolist() for name, counts in bins.items()}
