"""A trained network on the splits of its own data: what its outputs are worth, and the temperature that mends them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vgg_nll.config import build
from vgg_nll.data.interface import Batch, ImageData
from vgg_nll.errors import DataError
from vgg_nll.evaluation import loop, report, temperature
from vgg_nll.evaluation.metrics import Sums
from vgg_nll.evaluation.mistakes import Misclassified, MostConfidentErrors
from vgg_nll.inference import trained_model
from vgg_nll.inference.trained_model import Network
from vgg_nll.losses import Loss
from vgg_nll.progress import track
from vgg_nll.tracking import evaluation_summaries, tags


@dataclass
class Run:
    """A run's network, data and loss, and how many images go through at once."""

    network: Network
    data: ImageData
    loss: Loss
    batch_size: int


def open_run(
    folder: Path,
    checkpoint_name: str = "best",
    device: str = "auto",
    data_root: str | None = None,
    batch_size: int | None = None,
) -> Run:
    """A run, with the weights of one of its checkpoints.

    Args:
        data_root, batch_size: take the place of the run's own, for data that has moved, or another machine.

    Raises CheckpointError and ConfigError as `open_network` does, and DataError where the data is no longer there, or has
    other classes.
    """
    cfg = trained_model.read_config(folder, device)
    if data_root is not None:
        cfg.data.root = data_root
    if batch_size is not None:
        cfg.trainer.eval_batch_size = batch_size
    data = build.make_data(cfg, build.make_device(cfg))
    if not (folder / trained_model.INPUTS).exists():  # a run of an earlier version
        trained_model.write(folder, data.preprocessing, data.class_names)
    opened = trained_model.load(folder, cfg, checkpoint_name)
    if data.class_names != opened.class_names:
        raise DataError(f"{folder}: was trained on other classes than its data has now")
    return Run(opened, data, build.make_loss(cfg, opened.device), cfg.trainer.eval_batch_size)


def evaluate(run: Run, split: str, at: float = 1.0) -> tuple[Sums, Misclassified]:
    """The sums of a split and its surest mistakes, with the logits divided by the temperature `at`."""
    mistakes = MostConfidentErrors()
    model: nn.Module = run.network.model if at == 1 else temperature.Scaled(run.network.model, at)
    sums = loop.evaluate(model, run.loss, _batches(run, split), run.network.dtype, mistakes.on_batch)
    return sums, mistakes.top


def fit_temperature(run: Run) -> float | None:
    """The temperature that fits the validation images best; keeps their logits in memory, [N, C].

    None where all of them are right, or all wrong: the loss then has no least value.
    """
    with torch.no_grad():
        outputs = loop.outputs(run.network.model, _batches(run, "val"), run.network.dtype)
        logits, target = map(torch.cat, zip(*((logits, target) for _, logits, target in outputs), strict=True))
    right = int((logits.argmax(dim=1) == target).sum())
    return temperature.fit(logits, target) if 0 < right < len(target) else None


def write(
    run: Run, split: str, values: Mapping[str, Mapping[str, float]], found: tuple[Sums, Misclassified], at: float
) -> Path:
    """evaluation.json and the figures, into `evaluation/` in the run folder; returns that."""
    sums, wrong = found
    opened = run.network
    folder = opened.folder / "evaluation"
    folder.mkdir(exist_ok=True)
    per_class = {
        name: {
            "images": int(count),
            "accuracy": float(correct / count) if count else None,
            "confidence": float(confidence / count) if count else None,
        }
        for name, count, correct, confidence in zip(
            opened.class_names, sums.class_images, sums.class_correct, sums.class_confidence, strict=True
        )
    }
    content: dict[str, Any] = {"split": split, "step": opened.step, "temperature": at, **values, "classes": per_class}
    report.write_metrics(folder / "evaluation.json", content)
    what = f"{split}, step {opened.step}" + (f", T = {at:.3g}" if at != 1 else "")
    drawn = evaluation_summaries.draw(sums, wrong, opened.class_names, opened.preprocessing.pixels, what)
    drawn[tags.PR_CURVES] = partial(evaluation_summaries.draw_curves, sums, opened.class_names, what)
    for tag, draw in track(drawn.items(), len(drawn), "figures"):
        draw().savefig(folder / f"{tag.rpartition('/')[2]}.png", dpi=150)
    return folder


def check_split(run: Run, split: str) -> None:
    """Raises DataError where the data set has no such split."""
    if split not in run.data.sizes:
        raise DataError(f"--split {split}: this data set has {', '.join(run.data.sizes)}")


def _batches(run: Run, split: str) -> Iterator[Batch]:
    batches = math.ceil(run.data.sizes[split] / run.batch_size)
    return track(run.data.eval_batches(split), batches, split)
