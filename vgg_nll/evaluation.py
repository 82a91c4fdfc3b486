"""A run, taken up again when its training is over: the network, its data, and what its outputs are worth."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from vgg_nll import build, checkpoint, engine, metrics, report, temperature
from vgg_nll.checkpoint import CheckpointError
from vgg_nll.data.splits import Batch, DataError, ImageData
from vgg_nll.engine import Loss
from vgg_nll.progress import track
from vgg_nll.settings import ConfigError
from vgg_nll.state import check_weights
from vgg_nll.tracking.figures import reliability_diagram


@dataclass
class Run:
    """The parts of a run, its weights those of one of its checkpoints."""

    folder: Path
    cfg: DictConfig
    data: ImageData
    model: nn.Module
    loss: Loss
    dtype: torch.dtype
    step: int  # of the checkpoint


def open_run(folder: Path, checkpoint_name: str = "best", device: str = "auto") -> Run:
    """The network and the data of a run folder, with the weights of `checkpoints/<name>.pt`.

    Raises:
        CheckpointError: there is no such run or checkpoint, or it is damaged.
        ConfigError: its config cannot be used here, or names code that no file in configs/ names.
    """
    path = folder / ".hydra" / "config.yaml"
    if not path.is_file():
        raise CheckpointError(f"{folder}: holds no run (there is no .hydra/config.yaml)")
    cfg = OmegaConf.load(path)
    if not isinstance(cfg, DictConfig):
        raise ConfigError(f"{path}: is not a run's config")
    cfg.device, cfg.resume = device, str(folder)  # it has weights of its own
    build.check_targets(cfg, str(folder))
    build.check(cfg)
    content = checkpoint.load(folder / "checkpoints" / f"{checkpoint_name}.pt")
    place = build.make_device(cfg)
    data = build.make_data(cfg, place)
    model = build.make_model(cfg, data, place)
    try:
        check_weights(model, content["model"])
    except (ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{folder}: checkpoints/{checkpoint_name}.pt does not fit its config: {error}") from error
    model.load_state_dict(content["model"])
    return Run(folder, cfg, data, model, build.make_loss(cfg, place), build.make_dtype(cfg, place), int(content["step"]))


def evaluate(run: Run, split: str, at: float = 1.0) -> metrics.Sums:
    """The sums of a split, with the logits divided by the temperature `at`."""
    model = run.model if at == 1 else temperature.Scaled(run.model, at)
    return engine.evaluate(model, run.loss, _batches(run, split), run.dtype)


def fit_temperature(run: Run) -> float | None:
    """The temperature that fits the validation images best; keeps their logits in memory, [N, C].

    None where all of them are right, or all wrong: the loss then has no least value.
    """
    with torch.no_grad():
        logits, target = map(torch.cat, zip(*engine.outputs(run.model, _batches(run, "val"), run.dtype), strict=True))
    right = int((logits.argmax(dim=1) == target).sum())
    return temperature.fit(logits, target) if 0 < right < len(target) else None


def write(run: Run, split: str, values: dict[str, dict[str, float]], sums: metrics.Sums, at: float) -> Path:
    """evaluation.json and the reliability diagram, into `evaluation/` in the run folder; returns that."""
    folder = run.folder / "evaluation"
    folder.mkdir(exist_ok=True)
    per_class = {
        name: {
            "images": int(count),
            "accuracy": float(correct / count) if count else None,
            "confidence": float(confidence / count) if count else None,
        }
        for name, count, correct, confidence in zip(
            run.data.class_names, sums.class_images, sums.class_correct, sums.class_confidence, strict=True
        )
    }
    content: dict[str, Any] = {"split": split, "step": run.step, "temperature": at, **values, "classes": per_class}
    report.write_metrics(folder / "evaluation.json", content)
    title = f"{split}, step {run.step}: ECE {metrics.compute(sums)['ece']:.3f}"
    bins = (sums.bin_images.tolist(), sums.bin_correct.tolist(), sums.bin_confidence.tolist())
    reliability_diagram(*bins, title).savefig(folder / "reliability.png", dpi=150)
    return folder


def _batches(run: Run, split: str) -> Iterator[Batch]:
    if split not in run.data.sizes:
        raise DataError(f"--split {split}: this data set has {', '.join(run.data.sizes)}")
    return track(run.data.eval_batches(split), math.ceil(run.data.sizes[split] / run.cfg.trainer.eval_batch_size), split)
