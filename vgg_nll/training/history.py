"""Every validation of a run, in order: rows of metrics, and what single images go through.

Both are parts of the state; the rows are metrics.csv, too, for people without TensorBoard.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vgg_nll.evaluation.metrics import PerImageResults
from vgg_nll.files import write_csv
from vgg_nll.tracking import tags

log = logging.getLogger(__name__)
Row = dict[str, float]
OF_TRAIN = "train_eval_"  # before the name of a metric: of the part of the training images


def row(step: int, epoch: float, values: Mapping[str, float], of_train: Mapping[str, float], trajectory: Tensor) -> Row:
    """Returns what one validation adds: step, epoch, every metric, those of the training images, flips (NaN for the first).

    Args:
        values, of_train: metrics of the validation images and of the part of the training images; trajectory: [V, 2, M], with
            this validation as its last row.
    """
    flips = dict.fromkeys((tags.FORGOTTEN, tags.LEARNT), math.nan) | count_flips(trajectory)
    return (
        {"step": step, "epoch": epoch, **values}
        | {f"{OF_TRAIN}{name}": of_train[name] for name in tags.TRAIN_EVAL}
        | {tag.replace("/", "_"): value for tag, value in flips.items()}
    )


def losses(history: Sequence[Row]) -> list[list[float]]:
    """Returns [epoch, loss] of every validation but that of the untrained network."""
    return [[row["epoch"], row["loss"]] for row in history if row["step"] > 0]


def write(path: Path, history: Sequence[Row]) -> None:
    """Writes a row per validation, a column per metric; what is not finite is left empty, and what older rows do not have.

    If the disk refuses, that is a warning: no run is lost for it, and the next validation writes the table again.
    """
    head = list(dict.fromkeys(name for row in history for name in row))
    rows = [[row[name] if math.isfinite(row.get(name, math.nan)) else "" for name in head] for row in history]
    try:
        write_csv(path, head, rows)
    except OSError as error:
        log.warning(f"warning: {path} was not written, training continues ({error})")


MAX_IMAGES = 512  # evenly spread over the validation images: 4 kB a validation in the checkpoint


def empty_trajectory() -> Tensor:
    """Returns the trajectory before the first validation, [0, 2, 0]."""
    return torch.zeros(0, 2, 0)


def extend_trajectory(trajectory: Tensor, images: PerImageResults) -> Tensor:
    """Returns a trajectory [V, 2, M] with a row for this validation: log(p / (1 - p)) of the label, and 1 if right.

    It begins again if the number of images has changed.
    """
    every = -(-len(images.correct) // MAX_IMAGES)
    row = torch.stack([images.true_margin[::every], images.correct[::every]]).float()[None]
    return torch.cat([trajectory, row]) if trajectory.shape[2] == row.shape[2] else row


def count_flips(trajectory: Tensor) -> dict[str, float]:
    """Returns by tag the fraction of images that were right at the validation before and are wrong now, and the reverse."""
    if len(trajectory) < 2:
        return {}
    before, now = trajectory[-2:, 1] == 1
    return {
        tags.FORGOTTEN: float((before & ~now).double().mean()),
        tags.LEARNT: float((~before & now).double().mean()),
    }
