"""Every validation of a run, in order: a part of its state, and metrics.csv, for people without TensorBoard."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from vgg_nll.files import write_csv
from vgg_nll.tracking import tags
from vgg_nll.training.trajectory import count_flips

log = logging.getLogger(__name__)
Row = dict[str, float]


def row(step: int, epoch: float, values: Mapping[str, float], of_train: Mapping[str, float], trajectory: Tensor) -> Row:
    """Returns what one validation adds: step, epoch, every metric, those of the training images, flips (NaN for the first).

    Args:
        values, of_train: metrics of the validation images and of the part of the training images; trajectory: [V, 2, M], with
            this validation as its last row.
    """
    flips = dict.fromkeys((tags.FORGOTTEN, tags.LEARNT), math.nan) | count_flips(trajectory)
    return (
        {"step": step, "epoch": epoch, **values}
        | {f"train_eval_{name}": of_train[name] for name in tags.TRAIN_EVAL}
        | {tag.replace("/", "_"): value for tag, value in flips.items()}
    )


def losses(history: Sequence[Row]) -> list[list[float]]:
    """Returns [epoch, loss] of every validation but that of the untrained network."""
    return [[row["epoch"], row["loss"]] for row in history if row["step"] > 0]


def write(path: Path, history: Sequence[Row]) -> None:
    """Writes a row per validation, a column per metric; what is not finite is left empty.

    If the disk refuses, that is a warning: no run is lost for it, and the next validation writes the table again.
    """
    rows = [[value if math.isfinite(value) else "" for value in row.values()] for row in history]
    try:
        write_csv(path, list(history[0]), rows)
    except OSError as error:
        log.warning(f"warning: {path} was not written, training continues ({error})")
