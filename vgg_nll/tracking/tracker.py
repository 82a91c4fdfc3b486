"""Trackers: TensorBoard, and its null twin, so that the loop never asks whether logging is on.

Tags are grouped by meaning, since TensorBoard makes one section per first word; x is the optimizer step everywhere.
"""

import io
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.summary.writer.record_writer import RecordWriter
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
    "margin_p05": "confidence/margin_p05",
    "margin_p50": "confidence/margin_p50",
    "margin_p95": "confidence/margin_p95",
    "ece": "calibration/ece",
    "mce": "calibration/mce",
    "adaptive_ece": "calibration/adaptive_ece",
    "classwise_ece": "calibration/classwise_ece",
    "overconfidence": "calibration/overconfidence",
    "brier": "calibration/brier",
    "aurc": "selection/aurc",
    "auroc": "selection/auroc",
}
LOSS_TRAIN, ACCURACY_TRAIN = "loss/train", "accuracy/train"
LEARNING_RATE, GRADIENT_NORM = "optimizer/learning_rate", "optimizer/gradient_norm"
IMAGES_PER_SECOND, MFU, DATA_WAIT, EPOCH = (
    "speed/images_per_second",
    "speed/mfu",
    "speed/data_wait",
    "speed/epoch",
)
TEST = "test/"
CONFIDENCE_HISTOGRAM, RELIABILITY_DIAGRAM = "confidence/histogram", "calibration/reliability_diagram"

FRAME_BYTES = 16  # around a record: its length in 8 bytes, two checksums
log = logging.getLogger(__name__)


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

    def text(self, tag: str, text: str, step: int) -> None:
        """Markdown."""
        ...

    def close(self) -> None:
        """Writes what is left."""
        ...


class TensorBoardTracker:
    """Writes one event file into `folder`.

    Args:
        first_step: the first one that will have points. In earlier files of the run, points from there on are deleted, and
            so are those of the test split: what is done again is written again.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        for path in sorted(folder.glob("events.out.tfevents.*")):
            _forget(path, first_step)
        # A TensorBoard that has read the points already hides them.
        self._writer = SummaryWriter(str(folder), purge_step=first_step if first_step > 1 else None, flush_secs=5)

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

    def text(self, tag: str, text: str, step: int) -> None:
        self._writer.add_text(tag, text, step)

    def close(self) -> None:
        self._writer.close()


class NullTracker:
    """Takes everything, keeps nothing; made like its twin."""

    def __init__(self, folder: Path, first_step: int) -> None:
        pass

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        pass

    def histogram(self, tag: str, counts: list[float], total: float, total_squared: float, step: int) -> None:
        pass

    def figure(self, tag: str, figure: Figure, step: int) -> None:
        pass

    def text(self, tag: str, text: str, step: int) -> None:
        pass

    def close(self) -> None:
        pass


class GuardedTracker:
    """Another tracker, whose first error is a warning, and ends what it keeps: no run is lost for a curve."""

    def __init__(self, make: Callable[[], Tracker]) -> None:
        self._tracker: Tracker | None = None
        try:
            self._tracker = make()
        except Exception as error:
            self._give_up(error)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._try(lambda tracker: tracker.scalars(values, step))

    def histogram(self, tag: str, counts: list[float], total: float, total_squared: float, step: int) -> None:
        self._try(lambda tracker: tracker.histogram(tag, counts, total, total_squared, step))

    def figure(self, tag: str, figure: Figure, step: int) -> None:
        self._try(lambda tracker: tracker.figure(tag, figure, step))

    def text(self, tag: str, text: str, step: int) -> None:
        self._try(lambda tracker: tracker.text(tag, text, step))

    def close(self) -> None:
        self._try(lambda tracker: tracker.close())

    def _try(self, act: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            act(self._tracker)
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._tracker = None
        log.warning(f"warning: no more curves from here on, training goes on: tracking failed ({error})")


def _forget(path: Path, first_step: int) -> None:
    """Deletes from an event file what belongs to `first_step` and later, and the test split; and what a kill left torn.

    A file that cannot be read to its end for another reason is left as it is.
    """
    kept, content, read = io.BytesIO(), path.read_bytes(), 0
    writer = RecordWriter(kept)
    for record in RawEventFileLoader(str(path)).Load():
        read += len(record) + FRAME_BYTES
        event = Event.FromString(record)
        tags = [value.tag for value in event.summary.value]
        if event.step < first_step and not any(tag.startswith(TEST) for tag in tags):
            writer.write(record)
    rest = content[read:]
    length, checksum = int.from_bytes(rest[:8], "little"), int.from_bytes(rest[8:12], "little")
    torn = len(rest) < 12 or (masked_crc32c(rest[:8]) == checksum and length + FRAME_BYTES > len(rest))
    if not torn:
        log.warning(f"warning: {path} is damaged: the points behind that are left as they are, those done again stand twice")
        return
    if kept.getvalue() != content:
        unfinished = path.with_name(".unfinished")
        unfinished.write_bytes(kept.getvalue())
        unfinished.replace(path)
