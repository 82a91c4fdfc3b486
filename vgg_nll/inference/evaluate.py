"""Evaluation of a finished run on the splits of its own data, before and after temperature scaling."""

import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vgg_nll.data.interface import Batch, ImageData
from vgg_nll.errors import CheckpointError, DataError
from vgg_nll.escapes import printable
from vgg_nll.evaluation import loop, temperature
from vgg_nll.evaluation.flip import FlipAveraged
from vgg_nll.evaluation.loop import Evaluation
from vgg_nll.evaluation.per_class import balanced_accuracy, per_class
from vgg_nll.files import atomic_write
from vgg_nll.inference import trained_model
from vgg_nll.inference.trained_model import TrainedModel
from vgg_nll.losses import Loss
from vgg_nll.progress import track
from vgg_nll.run import build
from vgg_nll.run_folder import checked_json, paths
from vgg_nll.tracking import evaluation_summaries, tags

FIGURE_WIDTH = 7.0  # inches: twice as wide as in TensorBoard


@dataclass
class FinishedRun:
    """A run's network, data and loss; `batch_size` images go through the network at once."""

    trained: TrainedModel
    data: ImageData
    loss: Loss
    batch_size: int


def open_run(
    folder: Path,
    checkpoint_name: str = "best",
    device: str = "auto",
    data_root: str | None = None,
    batch_size: int | None = None,
) -> FinishedRun:
    """Opens a run, with the weights of one of its checkpoints.

    Args:
        data_root, batch_size: take the place of the run's own, for data that has moved, or another machine.

    Raises CheckpointError and ConfigError as `trained_model.load` does, and DataError if the data is no longer there, or has
    other classes.
    """
    record = trained_model.open_record(folder)
    record.check(folder)
    cfg = record.cfg
    if data_root is not None:
        cfg.data.root = data_root
    if batch_size is not None:
        cfg.trainer.eval_batch_size = batch_size
    data = build.make_data(cfg, build.make_device(device))
    trained = trained_model.load_weights(folder, record, checkpoint_name, device)
    if data.class_names != trained.class_names:
        raise DataError(f"{folder}: was trained on other classes than its data has now")
    return FinishedRun(trained, data, build.make_loss(cfg, data, trained.device), build.make_settings(cfg).eval_batch_size)


def evaluate(run: FinishedRun, split: str, at_temperature: float = 1.0, *, flip: bool = False) -> Evaluation:
    """Evaluates a split, with the logits divided by a temperature. Raises DataError if the data set has no such split.

    Args:
        flip: whether outputs are means over each image and its mirror image.
    """
    if split not in run.data.sizes:
        raise DataError(f"--split {split}: this data set has {', '.join(run.data.sizes)}")
    model: nn.Module = run.trained.model
    model = model if at_temperature == 1 else temperature.Scaled(model, at_temperature)
    model = FlipAveraged(model) if flip else model
    return loop.evaluate(model, run.loss, _batches(run, split), run.trained.dtype)


def fit_temperature(run: FinishedRun) -> float | None:
    """Fits the temperature to the validation images; keeps their logits in memory, [N, C].

    None if all predictions are right, or all wrong: the loss then has no minimum.
    """
    with torch.no_grad():
        outputs = loop.predict_batches(run.trained.model, _batches(run, "val"), run.trained.dtype)
        logits, target = map(torch.cat, zip(*((logits, target) for _, logits, target in outputs), strict=True))
    right = int((logits.argmax(dim=1) == target).sum())
    return temperature.fit(logits, target) if 0 < right < len(target) else None


def write_evaluation(
    run: FinishedRun, split: str, values: Mapping[str, Mapping[str, float]], evaluation: Evaluation, at_temperature: float
) -> Path:
    """Writes evaluation.json and the figures into `evaluation/` in the run folder; returns that folder.

    Args:
        values: metrics by name, {"test": ..., "test at T": ...}; evaluation: what the figures show.
    """
    trained = run.trained
    folder = trained.folder / paths.EVALUATION
    folder.mkdir(exist_ok=True)
    content: dict[str, Any] = {"split": split, "step": trained.step, "temperature": at_temperature, **values}
    content["balanced_accuracy"] = balanced_accuracy(evaluation.sums)
    content["classes"] = per_class(trained.class_names, evaluation.sums)
    checked_json.write(trained.folder / paths.EVALUATION_METRICS, content, trained.run_id)
    title = f"{split}, step {trained.step}" + (f", T = {at_temperature:.3g}" if at_temperature != 1 else "")
    names = [printable(name) for name in trained.class_names]
    pixels, size = trained.preprocessing.pixels, {"width": FIGURE_WIDTH}
    figures = evaluation_summaries.figures(
        evaluation, names, pixels, title, max_errors=len(evaluation.most_confident_errors.target), **size
    )
    figures[tags.PR_CURVES] = partial(evaluation_summaries.precision_recall_figure, evaluation.sums, names, title, **size)
    for tag, draw in track(figures.items(), len(figures), "figures"):
        path = folder / f"{tag.rpartition('/')[2]}.png"
        atomic_write(path, partial(draw().savefig, dpi=150, format="png"))
    return folder


def write_temperature(trained: TrainedModel, value: float) -> None:
    """Writes a temperature into the run folder, with the step of the checkpoint that it belongs to."""
    checked_json.write(trained.folder / paths.TEMPERATURE, {"temperature": value, "step": trained.step}, trained.run_id)


def read_temperature(trained: TrainedModel) -> float:
    """Returns the temperature that was fitted to this checkpoint. Raises CheckpointError if none was saved for it."""
    path = trained.folder / paths.TEMPERATURE
    fit = f"python scripts/evaluate.py {shlex.quote(str(trained.folder))} --temperature fits one"
    if not path.exists():
        raise CheckpointError(f"{trained.folder}: has no temperature; {fit}")
    try:
        content = checked_json.read(path, trained.run_id)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {fit} anew") from error
    saved, step = content.get("temperature"), content.get("step")
    if not isinstance(saved, float) or not paths.MIN_TEMPERATURE <= saved <= paths.MAX_TEMPERATURE:
        raise CheckpointError(f"{path}: holds no temperature; {fit} anew")
    if step != trained.step:
        raise CheckpointError(f"{path}: is of step {step}, and the checkpoint of step {trained.step}; {fit} anew")
    return saved


def _batches(run: FinishedRun, split: str) -> Iterator[Batch]:
    return track(run.data.eval_batches(split), math.ceil(run.data.sizes[split] / run.batch_size), split)
