"""Trackers: TensorBoard, and its null twin, so that the loop never asks whether logging is on.

Tags are grouped by meaning, since TensorBoard makes one section per first word; x is the optimizer step everywhere.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

# Metric name (as in metrics.json) -> tag on validation. On the test split every metric is `test/<name>`.
VALIDATION_TAGS = {
    "loss": "loss/val",
    "accuracy": "accuracy/val",
    "top5_accuracy": "accuracy/val_top5",
    "nll_argmax": "nll/argmax",
    "nll_argmax_prediction": "nll/argmax_prediction",
    "nll_all_logit": "nll/all_logit",
    "confidence": "confidence/mean",
    "confidence_correct": "confidence/correct",
    "confidence_incorrect": "confidence/incorrect",
    "true_class_probability": "confidence/true_class",
    "margin": "confidence/margin",
    "ece": "calibration/ece",
    "brier": "calibration/brier",
}
LOSS_TRAIN, ACCURACY_TRAIN = "loss/train", "accuracy/train"
LEARNING_RATE, GRADIENT_NORM = "optimizer/learning_rate", "optimizer/gradient_norm"
IMAGES_PER_SECOND, MFU, DATA_WAIT, EPOCH = (
    "speed/images_per_second",
    "speed/mfu",
    "speed/data_wait",
    "speed/epoch",
)
CONFIDENCE_HISTOGRAM, RELIABILITY_DIAGRAM = "confidence/histogram", "calibration/reliability_diagram"


class Tracker(Protocol):
    """Takes the numbers of a run. Values that are not finite are left out."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """One point per tag."""
        ...

    def histogram(self, tag: str, counts: list[float], total: float, total_squared: float, step: int) -> None:
        """Counts in equal bins over [0, 1], with the sum and the sum of squares of what was counted."""
        ...

    def figure(self, tag: str, figure: Figure, step: int) -> None:
        """A matplotlib figure as a picture."""
        ...

    def text(self, tag: str, text: str) -> None:
        """Markdown."""
        ...

    def close(self) -> None:
        """Writes what is left."""
        ...


class TensorBoardTracker:
    """Writes one event file into `folder`; `purge_step` hides points from that step on in earlier files of the run."""

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=purge_step, flush_secs=5)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for tag, value in values.items():
            if math.isfinite(value):
                self._writer.add_scalar(tag, value, step)

    def histogram(self, tag: str, counts: list[float], total: float, total_squared: float, step: int) -> None:
        # From counts, not from values: the sums of a whole evaluation are all that is kept of it.
        limits = [(i + 1) / len(counts) for i in range(len(counts))]
        self._writer.add_histogram_raw(tag, 0.0, 1.0, int(sum(counts)), total, total_squared, limits, counts, step)

    def figure(self, tag: str, figure: Figure, step: int) -> None:
        self._writer.add_figure(tag, figure, step)

    def text(self, tag: str, text: str) -> None:
        self._writer.add_text(tag, text, 0)

    def close(self) -> None:
        self._writer.close()


class NullTracker:
    """Takes everything, keeps nothing; made like its twin."""

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        pass

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        pass

    def histogram(self, tag: str, counts: list[float], total: float, total_squared: float, step: int) -> None:
        pass

    def figure(self, tag: str, figure: Figure, step: int) -> None:
        pass

    def text(self, tag: str, text: str) -> None:
        pass

    def close(self) -> None:
        pass
