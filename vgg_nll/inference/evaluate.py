"""Evaluation of a finished run on the splits of its own data, before and after temperature scaling."""

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from vgg_nll.calibration import temperature, vector_scaling
from vgg_nll.calibration.temperature import Fitted
from vgg_nll.calibration.vector_scaling import VectorScaling
from vgg_nll.data.interface import Batch, ImageData
from vgg_nll.data.pictures.listing import list_test_set
from vgg_nll.errors import ConfigError, DataError
from vgg_nll.escapes import printable
from vgg_nll.evaluation import loop, predictions, thresholds
from vgg_nll.evaluation.flip import FlipAveraged
from vgg_nll.evaluation.loop import Evaluation
from vgg_nll.evaluation.outputs import write_outputs
from vgg_nll.evaluation.per_class import per_class
from vgg_nll.files import atomic_write, expanded
from vgg_nll.hardware import full_float32
from vgg_nll.inference import mistakes, trained_model
from vgg_nll.inference.trained_model import TrainedModel
from vgg_nll.losses import Loss
from vgg_nll.progress import track
from vgg_nll.run import build
from vgg_nll.run_folder import checked_json, paths
from vgg_nll.run_folder.record import RunRecord
from vgg_nll.tracking import evaluation_summaries, tags

PICTURES = ("vgg_nll.data.list_pictures", "vgg_nll.data.list_csv")  # class folders of other pictures are named as the classes
FIGURE_WIDTH = 7.0  # inches: twice as wide as in TensorBoard


@dataclass
class FinishedRun:
    """A run's network, data and loss; `batch_size` images go through the network at once."""

    trained: TrainedModel
    data: ImageData
    loss: Loss
    batch_size: int
    data_name: str  # for the names of folders
    is_new_data: bool = False  # not that of the run: its whole is the test split


def open_run(
    folder: Path,
    checkpoint_name: str = "best",
    device: str = "auto",
    data_root: str | None = None,
    batch_size: int | None = None,
) -> FinishedRun:
    """Opens a run, with the weights of one of its checkpoints.

    Args:
        data_root: where the run's data is now, if it has moved; or a folder of other pictures, all of which are the test split
            then, with the classes that the network knows by these names.
        batch_size: takes the place of the run's own, for another machine.

    Raises CheckpointError and ConfigError as `trained_model.load` does, and DataError if the data is no longer there, or has
    other classes.
    """
    record = trained_model.open_record(folder)
    record.check(folder)
    cfg = record.cfg
    if batch_size is not None:
        cfg.trainer.eval_batch_size = batch_size
    trained = trained_model.load_weights(folder, record, checkpoint_name, device)
    data = None if data_root is None else _other_data(record, cfg, data_root, trained)
    is_new = data is not None
    if data is None:
        data = build.make_data(cfg, trained.device)
    if data.class_names != trained.class_names:
        raise DataError(f"{folder}: was trained on other classes than its data has now")
    name = record.choices.get("data", "data") if data_root is None else expanded(data_root).absolute().name
    loss, batch = build.make_loss(cfg, data, trained.device), build.make_settings(cfg).eval_batch_size
    return FinishedRun(trained, data, loss, batch, name, is_new)


def _other_data(record: RunRecord, cfg: DictConfig, data_root: str, trained: TrainedModel) -> ImageData | None:
    """Returns the pictures of another folder as a test split; None, with `data.root` set, if it is the run's own data.

    Raises ConfigError for a data set that is not read from a folder, DataError for a folder without pictures of known classes.
    """
    if "root" not in cfg.data:
        raise ConfigError(f"--data-root: the data of this run ({record.choices.get('data', '')}) is not read from a folder")
    cfg.data.root = data_root
    if "source" not in cfg.data or cfg.data.source._target_ not in PICTURES:
        return None
    with contextlib.suppress(DataError):
        own = build.make_data(cfg, trained.device)
        if record.data is not None and own.digest == record.data.digest:
            return None
    cfg.trainer.batch_size = 1
    cfg.data.mean, cfg.data.std = trained.preprocessing.mean.tolist(), trained.preprocessing.std.tolist()
    for key in ("folds", "train_images"):
        if key in cfg.data:
            cfg.data[key] = None
    return build.make_data(cfg, trained.device, source=list_test_set(data_root, trained.class_names))


def evaluate(
    run: FinishedRun, split: str, at_temperature: float = 1.0, *, scaling: VectorScaling | None = None, flip: bool = False
) -> Evaluation:
    """Evaluates a split, with the logits divided by a temperature. Raises DataError if the data set has no such split.

    Args:
        scaling: is applied to the logits, instead of a temperature.
        flip: whether outputs are means over each image and its mirror image.
    """
    if split not in run.data.sizes:
        raise DataError(f"--split {split}: this data set has {', '.join(run.data.sizes)}")
    model: nn.Module = run.trained.model
    model = model if at_temperature == 1 else temperature.Scaled(model, at_temperature)
    model = model if scaling is None else vector_scaling.Scaled(model, scaling)
    model = FlipAveraged(model) if flip else model
    with full_float32():
        return loop.evaluate(
            model,
            run.loss,
            _batches(run, split),
            run.trained.dtype,
            keep_logits=True,
            with_svs=True,
            keep_mistakes=mistakes.MAX_MISTAKES,
        )


def fit_temperature(run: FinishedRun) -> Fitted:
    """Fits the temperature to the validation images of the run. Raises ConfigError for other data."""
    return temperature.fit(*_validation_outputs(run, "--temperature", "; leave out --data-root once, then --temperature saved"))


def fit_vector_scaling(run: FinishedRun) -> VectorScaling:
    """Fits structured vector scaling to the validation images of the run. Raises ConfigError for other data."""
    return vector_scaling.fit(*_validation_outputs(run, "--svs", "; leave out --data-root"))


def _validation_outputs(run: FinishedRun, option: str, hint: str) -> tuple[Tensor, Tensor]:
    """Returns the logits [N, C] and the labels [N] of the validation images.

    Raises ConfigError for other data: what is fitted to it would be tested on it.
    """
    if run.is_new_data:
        raise ConfigError(f"{option}: is fitted to the run's own validation images{hint}")
    with torch.no_grad(), full_float32():
        outputs = loop.predict_batches(run.trained.model, _batches(run, "val"), run.trained.dtype)
        logits, target = map(torch.cat, zip(*((logits, target) for _, logits, target in outputs), strict=True))
    return logits, target


def write_evaluation(run: FinishedRun, done: Mapping[str, Evaluation], split: str, at_temperature: float) -> Path:
    """Writes metrics, tables of single images, outputs.npz, figures and the page of mistakes into a folder of this evaluation;
    returns that.

    Args:
        done: evaluations by name, {"test": ..., "test at T": ...}; all is in the metrics, the last one in the rest.
    """
    trained, data, shown = run.trained, run.data, list(done.values())[-1]
    folder = trained.folder / paths.EVALUATION / folder_name(run.data_name, split, at_temperature, list(done)[-1])
    folder.mkdir(parents=True, exist_ok=True)
    names, images, files = data.class_names, shown.sums.by_image(), data.image_paths(split)
    content: dict[str, Any] = {"split": split, "step": trained.step, "temperature": at_temperature}
    content |= {name: evaluation.figures() for name, evaluation in done.items()}
    checked_json.write(folder / paths.EVALUATION_METRICS, content | {"classes": per_class(names, shown.sums)}, trained.run_id)
    predictions.write_predictions(folder / paths.PREDICTIONS, images, names, files)
    predictions.write_errors(folder / paths.ERRORS, images, names, files)
    predictions.write_confusions(folder / paths.CONFUSIONS, shown.sums.confusion, names)
    thresholds.write_thresholds(folder / paths.THRESHOLDS, thresholds.threshold_rows(images))
    if split != "train":
        predictions.write_suspicious_labels(folder / paths.SUSPICIOUS_LABELS, images, names, files)
    outputs = shown.outputs(files)
    if outputs is not None:
        write_outputs(folder / paths.OUTPUTS, {split: outputs}, names, trained.run_id)
    title = f"{split}, step {trained.step}" + (f", T = {at_temperature:.3g}" if at_temperature != 1 else "")
    titled = {f"{name}, step {trained.step}": evaluation for name, evaluation in done.items()}
    _write_figures(folder, titled, [printable(name) for name in names], trained.preprocessing.pixels, title, files)
    mistakes.write_mistakes(
        folder / paths.MISTAKES,
        trained,
        data,
        split,
        shown,
        f"Mistakes on {run.data_name}, {title}",
        batch_size=run.batch_size,
        has_training=not run.is_new_data,
    )
    return folder


def folder_name(data: str, split: str, at_temperature: float, last: str) -> str:
    """Returns the name of an evaluation's folder, which no other evaluation has: digits_test, digits_val_temperature_1.3."""
    parts = [data[:100], split, *([f"temperature_{at_temperature:.4g}"] if at_temperature != 1 else [])]
    return re.sub(r"[^\w.-]", "_", "_".join([*parts, *(["flip"] if last.endswith("flip") else [])]))


def _write_figures(
    folder: Path,
    done: Mapping[str, Evaluation],
    names: list[str],
    pixels: Callable[[Tensor], Tensor],
    title: str,
    files: Sequence[str],
) -> None:
    evaluation = list(done.values())[-1]
    errors, size = predictions.most_confident_errors(evaluation.sums.by_image()), {"width": FIGURE_WIDTH}
    shown = len(evaluation.most_confident_errors.target)
    named = [printable(Path(files[k]).name) for k in errors[:shown]]
    figures = evaluation_summaries.figures(evaluation, names, pixels, title, max_errors=shown, error_names=named, **size)
    if "smooth_ece" in evaluation.values:  # not if there are too many logits to keep
        figures[tags.RELIABILITY_DIAGRAM] = partial(evaluation_summaries.reliability_figure, done, FIGURE_WIDTH)
    figures[tags.PR_CURVES] = partial(evaluation_summaries.precision_recall_figure, evaluation.sums, names, title, **size)
    for tag, draw in track(figures.items(), len(figures), "figures"):
        path = folder / f"{tag.rpartition('/')[2]}.png"
        atomic_write(path, partial(draw().savefig, dpi=150, format="png"))


def _batches(run: FinishedRun, split: str) -> Iterator[Batch]:
    return track(run.data.eval_batches(split), math.ceil(run.data.sizes[split] / run.batch_size), split)
