"""What a run says of itself: lines at its start, texts and the row of hyperparameters in TensorBoard, its provenance."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from vgg_nll import hardware
from vgg_nll.config.compose import names_of
from vgg_nll.data.interface import TRAIN_EVAL, number_of_images
from vgg_nll.evaluation.report import format_table
from vgg_nll.model import summary
from vgg_nll.progress import duration
from vgg_nll.run import build
from vgg_nll.run.provenance import dtype_name, hyperparameters, provenance
from vgg_nll.run_folder import paths
from vgg_nll.run_folder.record import RunRecord
from vgg_nll.tracking import dashboard, tags
from vgg_nll.tracking.summaries import Hyperparameters, ImageGrid, Layers, Summary, Text
from vgg_nll.training import diagnostics
from vgg_nll.training.first_batches import FirstBatches
from vgg_nll.training.trainer import Trainer

log = logging.getLogger(__name__)
AUGMENTED_IMAGES, MAX_ROWS, ROW = 16, 10, 8  # shown at the start
NOTABLE_SECONDS = 60.0  # a run on a CPU that is longer says so before it begins
FEW_PICTURES = 5_000  # to train on; with fewer, a network from nothing is often no better than chance
QUICK_SIDE, LONG_SECONDS = 64, 600.0  # one that is longer gets the hint that images of this side are quicker


def summaries(trainer: Trainer, record: RunRecord, first_batches: FirstBatches) -> list[Summary]:
    """Returns what TensorBoard gets before the first step of this process: texts; at the first of all, layers and images."""
    if trainer.state.step > 0:
        return texts(trainer, record)
    layers = summary.layers(trainer.state.model, trainer.data.preprocessing.image_size)
    return [*texts(trainer, record), Layers(layers), *first_images(trainer, first_batches)]


def texts(trainer: Trainer, record: RunRecord) -> list[Summary]:
    """Returns the row of the HParams tab, and the texts `config` and `provenance`: a table, then everything."""
    columns, found = _columns(trainer, record.cfg), provenance_of(trainer)
    asked = {**record.choices, **columns}
    rows = [(key, str(value)) for key, value in asked.items()] + [("typed", " ".join(record.overrides))]
    config = f"{_table(rows)}\n\n```yaml\n{OmegaConf.to_yaml(dict(record.config))}```"
    facts = [(key, str(value)) for key, value in found.items() if not isinstance(value, Mapping)]
    facts += [(key, str(value)) for part in found.values() if isinstance(part, Mapping) for key, value in part.items()]
    return [
        Hyperparameters(hyperparameters(record.choices, record.overrides, columns)),
        Text(tags.CONFIG, config),
        Text(tags.PROVENANCE, f"{_table(facts)}\n\n```json\n{json.dumps(found, indent=2)}\n```"),
    ]


def first_images(trainer: Trainer, first_batches: FirstBatches) -> list[Summary]:
    """Returns the first training images as the network gets them, and, for up to 10 classes, a row of images of each."""
    data = trainer.data

    def augmented() -> Tensor:
        of_rank = trainer.ranks.rows(trainer.settings.batch_size).stop  # of a batch; rank 0 shows its own
        images = torch.cat([images for images, _ in first_batches.peek(-(-AUGMENTED_IMAGES // of_rank))])
        return data.preprocessing.pixels(images[:AUGMENTED_IMAGES]).cpu()

    def of_classes() -> Tensor:
        rows: dict[int, list[Tensor]] = {label: [] for label in range(min(len(data.class_names), MAX_ROWS))}
        for images, target in data.eval_batches(TRAIN_EVAL):
            for image, label in zip(data.preprocessing.pixels(images).cpu(), target.tolist(), strict=True):
                if len(rows.get(label, range(ROW))) < ROW:
                    rows[label].append(image)
            if all(len(row) == ROW for row in rows.values()):
                break
        side = data.preprocessing.image_size
        blank = torch.zeros(3, side, side, dtype=torch.uint8)
        return torch.stack([image for row in rows.values() for image in (*row, *[blank] * (ROW - len(row)))])

    columns = math.isqrt(AUGMENTED_IMAGES)
    return [ImageGrid(tags.AUGMENTED, augmented, columns), ImageGrid(tags.FIRST_OF_CLASSES, of_classes, ROW)]


def _table(rows: Sequence[tuple[str, str]]) -> str:
    return format_table(("", "value"), rows, markdown=True)


def _columns(trainer: Trainer, cfg: DictConfig) -> dict[str, str | float]:
    """The run's own columns of the HParams tab."""
    return {
        "lr": cfg.optimizer.lr,
        "batch_size": trainer.settings.batch_size,
        "steps": trainer.total_steps,
        "seed": trainer.seed,
        "parameters": sum(p.numel() for p in trainer.state.model.parameters()),
        "precision": dtype_name(trainer.dtype),
        "device": trainer.state.device.type,
    }


def provenance_of(trainer: Trainer) -> dict[str, Any]:
    """Returns what repeats the run, besides its config."""
    peak_flops, deterministic = trainer.logger.peak_flops, trainer.settings.deterministic
    device, dtype = trainer.state.device, trainer.dtype
    is_faster = peak_flops > hardware.peak_flops(device, dtype)
    return provenance(device, dtype, peak_flops=peak_flops, deterministic=deterministic) | {
        "peak_of": "training" if is_faster else "a matrix product"
    }


def log_start(trainer: Trainer, cfg: DictConfig, first_batches: FirstBatches) -> None:
    """Says what will be trained on what, and how to watch it."""
    state, data, settings = trainer.state, trainer.data, trainer.settings
    sizes = ", ".join(f"{count:,} {name}" for name, count in data.sizes.items())
    parameters = sum(p.numel() for p in state.model.parameters())
    side, num_classes = data.preprocessing.image_size, len(data.class_names)
    if state.step == 0:
        weights = build.make_class_weights(cfg, data)
        for line in data.survey(None if weights is None else weights.tolist()):
            log.log(logging.WARNING if line.startswith("warning") else logging.INFO, line)
    log.info(f"data: {sizes} images of {side}x{side}, {num_classes} classes")
    log.info(f"model: {parameters:,} parameters, {dtype_name(trainer.dtype)} on {hardware.describe(state.device)}")
    log.info(
        f"training: {trainer.total_steps} steps of {settings.batch_size} images ({data.steps_per_epoch} an epoch), "
        f"{_shares(trainer)}peak lr {cfg.optimizer.lr:g}, seed {cfg.seed}"
    )
    _log_guidance(trainer, cfg)
    _log_time(trainer, cfg)
    if diagnostics.ignores_labels(trainer.loss, num_classes, state.device):
        log.warning("warning: this loss ignores the labels: confidence will grow, accuracy will not")
    if state.step == 0:
        constant = diagnostics.constant_loss(trainer.loss, data.class_counts, state.device)
        (first,) = first_batches.peek(1)
        measured = diagnostics.untrained_loss(trainer.loss, first, state, trainer.dtype)
        log.info(f"untrained loss: {measured:.4f} (the same probability for every class gives {constant:.4f})")


def _shares(trainer: Trainer) -> str:
    """Says how many images of a batch each rank gets, if there are several; a rest goes to the first ones."""
    size, (share, rest) = trainer.ranks.size, divmod(trainer.settings.batch_size, trainer.ranks.size)
    return "" if size == 1 else f"on {size} ranks with {share}{f' or {share + 1}' if rest else ''} images each, "


def _log_guidance(trainer: Trainer, cfg: DictConfig) -> None:
    """Says what a small folder of pictures needs, if the network is to learn it from nothing."""
    data, side = trainer.data, trainer.data.preprocessing.image_size
    is_few = trainer.state.step == 0 and data.sizes["train"] < FEW_PICTURES
    if is_few and OmegaConf.select(cfg, "model.weights") is None and data.image_paths("val")[0]:
        quicker = (
            f"; data.image_size={QUICK_SIDE} takes 1/{(side / QUICK_SIDE) ** 2:.0f} of the time" if side > QUICK_SIDE else ""
        )
        log.info(
            f"hint: {data.sizes['train']:,} pictures are few to learn from nothing: experiment=finetune starts from ImageNet's "
            f"weights{quicker}"
        )


def _log_time(trainer: Trainer, cfg: DictConfig) -> None:
    """Says how long a run that begins on a CPU takes at least, from the speed of a matrix product, and what shortens it."""
    device, side = trainer.state.device, trainer.data.preprocessing.image_size
    if trainer.state.step > 0 or device.type != "cpu":
        return
    every = trainer.settings.validate_every_steps(trainer.data.steps_per_epoch)
    validations = 1 + -(-trainer.total_steps // every)
    evaluated = validations * sum(number_of_images(trainer.data, split) for split in ("val", TRAIN_EVAL))
    flops = trainer.total_steps * trainer.settings.batch_size * trainer.logger.flops_per_image
    # A forward pass is a third of a step.
    flops += evaluated / 3 * summary.flops_per_image(trainer.state.model, side) / trainer.ranks.size
    seconds = flops / hardware.peak_flops(device, trainer.dtype)
    if seconds > NOTABLE_SECONDS:
        log.info(f"time: {duration(seconds)} or more on this CPU")
    if seconds > LONG_SECONDS and side > QUICK_SIDE and "image_size" in cfg.data:
        part = f"1/{(side / QUICK_SIDE) ** 2:.0f}"
        log.info(f"hint: data.image_size={QUICK_SIDE} takes {part} of that")


def log_dashboard(record: RunRecord, folder: Path) -> None:
    """Says how to look at the curves, if there are any."""
    if not any(folder.glob(paths.EVENT_FILES)):
        return
    losses = {*names_of("loss"), record.choices.get("loss", "")} - {""}
    log.info(f"curves: {dashboard.command(folder.parent)}\n{dashboard.link(losses)}")
