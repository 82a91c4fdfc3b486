"""What a run has left behind, as values that can be compared."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from torch.utils.tensorboard import SummaryWriter

from vgg_nll import run_folder
from vgg_nll.training import checkpoint


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def read_events(folder: Path) -> EventAccumulator:
    """All event files of a run, as TensorBoard reads them."""
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


def points(folder: Path) -> list[tuple[str, int, bytes]]:
    """(tag, step, value) of everything in all event files of a run, as it lies there; times and circumstances are left out."""
    found = []
    for path in folder.glob("events.out.tfevents.*"):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if not value.tag.startswith(("speed/", "config/", "provenance/", "_hparams_/")):
                    found.append((value.tag, event.step, value.tensor.SerializeToString()))
    return sorted(found)


def outcome(folder: Path) -> tuple:
    """What a run comes to: its metrics and curves, and the bits of its last state and of its best weights."""
    metrics = json.loads((folder / "metrics.json").read_text())
    states = [checkpoint.load(folder / name) for name in (run_folder.LAST, run_folder.BEST)]
    numbers = [{key: value for key, value in _flat(state) if key != "seconds"} for state in states]
    return metrics["val"], metrics["test"], metrics["best_step"], points(folder), numbers


def _flat(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, torch.Tensor):
        yield name, hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
    elif isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, repr(value)  # NaN is equal to itself here
