"""What is told about a run while it goes on: curves, a bar or lines, warnings."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor

from vgg_nll import hardware
from vgg_nll.evaluation.features import Embedded
from vgg_nll.evaluation.metrics import Sums
from vgg_nll.evaluation.mistakes import Misclassified
from vgg_nll.progress import Progress
from vgg_nll.tracking import evaluation_summaries, tags
from vgg_nll.tracking.summaries import Embedding, EmbeddingData, Scalars, SessionEnd
from vgg_nll.tracking.tracker import Tracker
from vgg_nll.training.diagnostics import Diagnostics
from vgg_nll.training.state import TrainState

log = logging.getLogger(__name__)


class TrainingLogger:
    """Turns the sums of the state and of evaluations into points of curves and lines to read.

    Args:
        class_names: [C]; pixels: normalised images -> uint8, both [B, 3, H, W].
        constant_loss: of the same probability for every class; a run that stays there is stuck.
        flops_per_image: of a training step; peak_flops: what the device does per second on a large matrix product.
        input_hint: what to change where training waits for images.
    """

    def __init__(
        self,
        tracker: Tracker,
        *,
        class_names: Sequence[str],
        pixels: Callable[[Tensor], Tensor],
        total_steps: int,
        steps_per_epoch: int,
        constant_loss: float,
        flops_per_image: float,
        peak_flops: float,
        input_hint: str,
    ) -> None:
        self._tracker, self._diagnostics = tracker, Diagnostics(constant_loss, input_hint)
        self._class_names, self._pixels = class_names, pixels
        self._total_steps, self._steps_per_epoch = total_steps, steps_per_epoch
        self._flops_per_image, self.peak_flops = flops_per_image, peak_flops
        self._progress: Progress | None = None
        self._start = 0.0  # of the window of the next point, moved on by every pause
        self._wait = 0.0  # seconds of it spent waiting for data
        self._images_before = 0  # images of it that an earlier process has done

    @contextmanager
    def training(self, state: TrainState) -> Iterator[None]:
        """Shows how far training has come while the block runs."""
        self._progress = Progress(self._total_steps, state.step)
        self._start, self._images_before = time.perf_counter(), state.window_images
        try:
            yield
        finally:
            self._progress.close()
            self._progress = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The time of the block is training's, but spent waiting for data."""
        start = time.perf_counter()
        yield
        self._wait += time.perf_counter() - start

    @contextmanager
    def pause(self) -> Iterator[None]:
        """The time of the block is not training's: images/s leaves it out."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._start += time.perf_counter() - start

    def step(self) -> None:
        """One step more."""
        if self._progress is not None:
            self._progress.advance()

    def train_point(self, state: TrainState, learning_rate: float, gradient_norm: Tensor) -> None:
        """One point on every training curve, from the sums since the last one, which begin anew."""
        loss, accuracy = (float(s) / state.window_images for s in (state.window_loss, state.window_correct))
        norm = float(gradient_norm)
        now = time.perf_counter()  # after the sums have arrived, so the device has done the work
        seconds = now - self._start
        speed = (state.window_images - self._images_before) / seconds
        values = {
            tags.LOSS_TRAIN: loss,
            tags.ACCURACY_TRAIN: accuracy,
            tags.LEARNING_RATE: learning_rate,
            tags.GRADIENT_NORM: norm,
            tags.IMAGES_PER_SECOND: speed,
            tags.MFU: speed * self._flops_per_image / self.peak_flops,
            tags.DATA_WAIT: self._wait / seconds,
            tags.PEAK_MEMORY: hardware.peak_memory(state.device) / 2**30,
            tags.EPOCH: state.step / self._steps_per_epoch,
        }
        self._tracker.add(Scalars(values), state.step)
        if self._progress is not None:
            self._progress.update(state.step, f"loss {loss:.4f}  accuracy {accuracy:.3f}  {speed:.0f} images/s")
        warnings = self._diagnostics.check_step(state.step, loss, norm, learning_rate)
        for warning in [*warnings, *self._diagnostics.check_input(state.step, values[tags.DATA_WAIT])]:
            self.write(f"warning: {warning}")
        state.reset_window()
        self._start, self._wait, self._images_before = now, 0.0, 0

    def validation_point(
        self, step: int, sums: Sums, values: Mapping[str, float], *, best: bool, wrong: Misclassified | None
    ) -> None:
        """One point on every validation curve, and a line; with some of the `wrong` images, the pictures of that step."""
        summaries = [
            Scalars({tag: values[name] for name, tag in tags.VALIDATION.items()}),
            *evaluation_summaries.histograms(sums),
        ]
        if wrong is not None:
            summaries += evaluation_summaries.pictures(sums, wrong, self._class_names, self._pixels, f"validation, step {step}")
        for summary in summaries:
            self._tracker.add(summary, step)
        self.write(
            f"epoch {step / self._steps_per_epoch:.3g}  step {step}/{self._total_steps}  validation: "
            f"loss {values['loss']:.4f}  accuracy {values['accuracy']:.4f}  confidence {values['confidence']:.4f}  "
            f"ECE {values['ece']:.4f}{'  (best)' if best else ''}"
        )

    def test_point(self, step: int, values: Mapping[str, float]) -> None:
        """Every metric of the test split."""
        self._tracker.add(Scalars({f"{tags.TEST}{name}": value for name, value in values.items()}), step)

    def end(self, step: int, embed: Callable[[], Embedded]) -> None:
        """The run is over; `embed` gives the points of the projector."""

        def points() -> EmbeddingData:
            found = embed()
            return EmbeddingData(found.points, [self._class_names[label] for label in found.target.tolist()], found.pictures)

        self._tracker.add(SessionEnd(), step)
        self._tracker.add(Embedding(points), step)

    def close(self) -> None:
        """Writes what is left."""
        self._tracker.close()

    def write(self, text: str) -> None:
        """A line that stays, also in the log file."""
        if self._progress is not None:
            self._progress.write(text)
        else:
            log.info(text)
