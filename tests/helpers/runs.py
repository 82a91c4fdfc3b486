"""Runs in this process, and what they leave in their folder, as values that can be compared."""

import hashlib
import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from torch.utils.tensorboard import SummaryWriter

from helpers.configs import compose_config
from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.evaluation.best_step import objective
from vgg_nll.run.train import train as train_record
from vgg_nll.run_folder import checked_json, paths
from vgg_nll.run_folder.record import RunRecord
from vgg_nll.training.trainer import Trainer

CHOICES = {"data": "synthetic", "model": "vgg16", "loss": "argmax"}


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def train(folder: Path, *overrides: str) -> dict[str, Any]:
    """Trains with these overrides into `folder`, and returns what metrics.json holds."""
    folder.mkdir(parents=True, exist_ok=True)  # as Hydra does
    cfg = compose_config(*overrides)
    found = train_config(cfg, folder, CHOICES)
    content: dict[str, Any] = json.loads((folder / paths.METRICS).read_text())
    assert found == objective(content["val"], cfg.trainer.best)
    return content


def train_config(cfg: DictConfig, folder: Path, choices: Mapping[str, str] = {}, overrides: Sequence[str] = ()) -> float:
    """Trains as this config says, into `folder`; with its `resume`, what the folder holds continues. Returns the objective."""
    if cfg.resume is None:
        return train_record(RunRecord.new(cfg, choices, overrides), folder)
    record = RunRecord.open(folder).resumed(cfg, choices, overrides)
    return train_record(record, folder, resume=cfg.resume, resume_strict=cfg.resume_strict)


def interrupt(patch: pytest.MonkeyPatch, step: int, moment: str) -> None:
    """Sends SIGTERM, as the trainer sees it, after `step` (`moment="_step"`) or when its validation begins ("_validate")."""
    original = getattr(Trainer, moment)

    def act(self: Trainer, *args: object) -> object:
        result = original(self, *args) if moment == "_step" else None
        if self.state.step == step:
            self.signals.stop = signal.SIGTERM
        return result if moment == "_step" else original(self, *args)

    patch.setattr(Trainer, moment, act)


def read_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Returns tag -> [(step, value), ...] of every scalar but those of speed, which differ from run to run."""
    events = read_events(folder)
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("speed/")]
    return {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in tags}


def read_events(folder: Path) -> EventAccumulator:
    """Returns the content of all event files of a run, as TensorBoard reads them."""
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0, "images": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def write_events(folder: Path, *points: tuple[str, int, float]) -> Path:
    """Writes an event file with (tag, step, value), ... and returns its path."""
    before = set(folder.glob("events.*"))
    writer = SummaryWriter(str(folder))
    for tag, step, value in points:
        writer.add_scalar(tag, value, step)
    writer.add_text("config", "seed: 0", 1)
    writer.close()
    (path,) = set(folder.glob("events.*")) - before
    return path


def edit_json(path: Path, **changes: Any) -> None:
    """Changes a JSON file of a run as somebody would who knows the format: with a new checksum. None removes a key."""
    content = json.loads(path.read_text())
    run_id = content.pop("run")
    content.pop("checksum")
    checked_json.write(path, {key: value for key, value in (content | changes).items() if value is not None}, run_id)


def edit_record(folder: Path, **changes: Mapping[str, Any]) -> None:
    """Changes parts of a run's record in the same way: `edit_record(run, data={"digest": "x"})`."""
    content = json.loads((folder / paths.RUN).read_text())
    edit_json(folder / paths.RUN, **{part: content[part] | dict(values) for part, values in changes.items()})


def edit_config(folder: Path, **changes: Any) -> None:
    """Changes the config of a run in the same way: `edit_config(run, **{"loss.eps": 0.5})`; `...` removes a key."""
    record, run_id = checked_json.read_with_id(folder / paths.RUN)
    for key, value in changes.items():
        *path, last = key.split(".")
        section = record["config"]
        for name in path:
            section = section[name]
        if value is ...:
            del section[last]
        else:
            section[last] = value
    checked_json.write(folder / paths.RUN, record, run_id)


def points(folder: Path) -> list[tuple[str, int, bytes]]:
    """Returns (tag, step, value) of everything in all event files of a run, without times and provenance."""
    found = []
    for path in filter(Path.is_file, folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if not value.tag.startswith(("speed/", "config/", "provenance/", "_hparams_/")):
                    found.append((value.tag, event.step, value.tensor.SerializeToString()))
    return sorted(found)


def outcome(folder: Path) -> tuple[object, ...]:
    """Returns the result of a run: its metrics and curves; hashes of its last state and best weights, and its tables."""
    metrics = json.loads((folder / paths.METRICS).read_text())
    states = [checkpoint_file.load(folder / name) for name in (paths.LAST, paths.BEST)]
    numbers = [{key: value for key, value in _flat(state) if key not in ("seconds", "run")} for state in states]
    tables = [(folder / name).read_text() for name in (paths.METRICS_TABLE, paths.PREDICTIONS)]
    return metrics["val"], metrics["test"], metrics["best_step"], points(folder), [*numbers, *tables]


def _flat(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, torch.Tensor):
        yield name, hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
    elif isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, repr(value)  # NaN is equal to itself here
