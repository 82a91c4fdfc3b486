"""Builds a trainer from a config: what a run needs before its first step."""

import functools
import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig

from vgg_nll import hardware
from vgg_nll.checkpoints.saver import CheckpointSaver
from vgg_nll.config import schema
from vgg_nll.config.compose import key_of
from vgg_nll.data.interface import ImageData
from vgg_nll.distributed.data_parallel import data_parallel, synchronise_batch_norm
from vgg_nll.distributed.process_group import Ranks, device_of_rank, init_process_group
from vgg_nll.errors import ConfigError, DataError
from vgg_nll.files import expanded
from vgg_nll.model import summary
from vgg_nll.run import announce, build
from vgg_nll.run.disk import check_disk
from vgg_nll.run_folder import paths
from vgg_nll.run_folder.record import DataRecord, RunRecord
from vgg_nll.tracking.summaries import Summary
from vgg_nll.tracking.tracker import NullTracker, Tracker
from vgg_nll.training import diagnostics
from vgg_nll.training.compilation import compile_network
from vgg_nll.training.first_batches import FirstBatches
from vgg_nll.training.frozen_features import FrozenBatches, frozen_batches
from vgg_nll.training.logger import TrainingLogger
from vgg_nll.training.optim import make_average
from vgg_nll.training.profiler import make_profiler
from vgg_nll.training.pruning import MedianRule
from vgg_nll.training.settings import TrainerSettings
from vgg_nll.training.signals import Signals
from vgg_nll.training.state import TrainState
from vgg_nll.training.trainer import Trainer

log = logging.getLogger(__name__)
CUDA_GRAPH_PIXELS = 128  # a side: the kernels of smaller images take less time than their start


class Start(NamedTuple):
    """What `run.train` is given."""

    record: RunRecord
    folder: Path
    resume: str | None
    resume_strict: bool


def meet(cfg: DictConfig) -> Ranks:
    """Waits for the other processes that train with this one, and makes sure that all have the same settings."""
    ranks = init_process_group(_device(cfg))
    _check_same(ranks, schema.leaves(cfg))
    settings = build.make_settings(cfg)
    batch, parts = settings.batch_size, settings.accumulation_steps
    if ranks.size > 1 and ranks.size * parts > batch:
        in_parts, lower = ("", "") if parts == 1 else (f", in {parts} parts each", ", or lower trainer.accumulation_steps")
        raise ConfigError(f"trainer.batch_size={batch}: is for all {ranks.size} ranks together{in_parts}; raise it{lower}")
    if ranks.size > 1 and settings.prune_against is not None:
        raise ConfigError("trainer.prune_against: is for sweeps; torchrun trains one network: leave it out")
    return ranks


def _device(cfg: DictConfig) -> torch.device:
    return device_of_rank(cfg.device, build.make_device(cfg.device))


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


def describe(data: ImageData) -> DataRecord:
    """Returns what must not change while a run is interrupted."""
    return DataRecord(list(data.class_names), dict(data.sizes), data.digest)


def prepare(start: Start, signals: Signals, ranks: Ranks) -> tuple[Trainer, list[Summary]]:
    """Builds everything that a record asks for, with the ranks that `meet` gives: a trainer, ready to `fit`.

    And what TensorBoard gets before the first step, of rank 0. Errors are those of `train`. Nothing is written.
    """
    record, folder = start.record, start.folder
    cfg = record.cfg
    device = _device(cfg)
    hardware.keep_freed_memory()
    dtype = build.make_dtype(cfg, device)
    with ranks.rank_zero_first() if "download" in cfg.data else nullcontext():
        data = build.make_data(cfg, device, ranks)
    described = asdict(describe(data)) | {"hash of names and sizes": data.content_digest}
    _check_same(ranks, {f"data, {key}": value for key, value in described.items()})
    _check_same_data(start, describe(data))
    image_size = data.preprocessing.image_size
    loss = build.make_loss(cfg, data, device)
    saver = CheckpointSaver(folder, device, record.run_id, is_reader=not ranks.is_first)
    settings = build.make_settings(cfg)
    state, batches = _make_state(start, settings, data, device, dtype, saver, ranks)
    total_steps = settings.total_steps(data.steps_per_epoch)
    if state.step > total_steps:
        raise ConfigError(f"resume={folder}: has done {state.step} steps already, more than the {total_steps} of this config")
    make_tracker: Callable[..., Tracker] = functools.partial(build.make_tracker, cfg) if ranks.is_first else NullTracker
    if start.resume is None:
        _check_warmup(record, total_steps, data.steps_per_epoch)
        if ranks.is_first:
            check_disk(folder, state, keep=cfg.checkpoint.keep)
    tracker = make_tracker(folder, state.step + 1, state.validated_step + 1, record.run_id)
    first_batches = FirstBatches(data.train_batches)
    trainer = Trainer(
        state=state,
        data=data,
        train_batches=batches or first_batches,
        loss=loss,
        learning_rate=build.make_learning_rate(cfg, data, total_steps),
        settings=settings,
        dtype=dtype,
        logger=TrainingLogger(
            tracker,
            folder / paths.METRICS_TABLE if ranks.is_first else None,
            class_names=data.class_names,
            pixels=data.preprocessing.pixels,
            total_steps=total_steps,
            steps_per_epoch=data.steps_per_epoch,
            constant_loss=diagnostics.constant_loss(loss, data.class_counts, device),
            flops_per_image=summary.flops_per_image(state.model, image_size, head_alone=batches is not None) / ranks.size,
            peak_flops=hardware.peak_flops(device, dtype),
            input_hint=data.hint,
            best_by=settings.best,
        ),
        saver=saver,
        save_every_steps=cfg.checkpoint.every_steps,
        signals=signals,
        profiler=make_profiler(settings.profile and ranks.is_first, folder, device),
        pruning=MedianRule(None if settings.prune_against is None else expanded(settings.prune_against), record.config["loss"]),
        seed=cfg.seed,
        ranks=ranks,
    )
    if ranks.is_first:
        announce.log_start(trainer, cfg, first_batches)
    return trainer, announce.summaries(trainer, record, first_batches) if ranks.is_first else []


def _check_same_data(start: Start, now: DataRecord) -> None:
    """Raises DataError with the differences if the data of a resumed run has changed; a warning if it may differ."""
    differences = "; ".join(start.record.data.differences(now)) if start.record.data is not None else ""
    if differences and start.resume_strict:
        raise DataError(
            f"resume={start.resume}: its data has changed: {differences}; restore it, start a new run, or take it as it is "
            "with resume_strict=false"
        )
    if differences:
        log.warning(f"warning: continues with other data: {differences}")


def _check_warmup(record: RunRecord, total_steps: int, steps_per_epoch: int) -> None:
    """Raises ConfigError if a person asks a new run for a warm-up that is longer than itself.

    One of up to an epoch is cut: a config and a search ask for that, whatever the run is.
    """
    key, epochs = "schedule.warmup_epochs", record.cfg.schedule.warmup_epochs
    if epochs > 1 and any(key_of(word) == key for word in record.overrides) and round(epochs * steps_per_epoch) > total_steps:
        raise ConfigError(
            f"{key}={epochs:g}: must not be more than the run, which is {total_steps / steps_per_epoch:g} epochs "
            f"(trainer.steps={total_steps} of {steps_per_epoch} an epoch)"
        )


def _make_state(
    start: Start,
    settings: TrainerSettings,
    data: ImageData,
    device: torch.device,
    dtype: torch.dtype,
    saver: CheckpointSaver,
    ranks: Ranks,
) -> tuple[TrainState, FrozenBatches | None]:
    """Returns the state to train on from, and batches of frozen features, if there are any."""
    cfg, image_size = start.record.cfg, data.preprocessing.image_size
    model = build.make_model(cfg, data.class_names, image_size, device, draw_weights=start.resume is None)
    if ranks.size > 1 and settings.sync_batchnorm:
        synchronise_batch_norm(model)
    average = make_average(model, settings.ema_decay)
    state = TrainState(model, build.make_optimizer(cfg, model), device, average)
    if start.resume is not None:
        with ranks.rank_zero_first():
            saver.restore(state, start.resume)
        _check_same(ranks, {"step of the checkpoint": state.step})
        state.best_step, state.best_metrics = ranks.broadcast_object((state.best_step, state.best_metrics))
    batches = frozen_batches(model, data, dtype, settings.batch_size, settings.eval_batch_size, ranks)
    if ranks.size > 1:
        function = model if batches is None else model.head
        parallel = data_parallel(model, function, compression=settings.gradient_compression, bucket_mb=settings.bucket_mb)
        state.forward, state.keep_gradients = parallel, parallel.no_sync
    elif batches is not None:
        state.forward = model.head
    if batches is None and settings.compile:
        graphs = image_size < CUDA_GRAPH_PIXELS and settings.accumulation_steps == ranks.size == 1
        network = model if ranks.size == 1 else parallel
        state.forward = compile_network(network, device, graphs=graphs)
    return state, batches
