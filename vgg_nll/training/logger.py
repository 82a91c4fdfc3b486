"""The training logger: curves, a bar or lines of text, warnings."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from vgg_nll.escapes import printable
from vgg_nll.evaluation.features import Features
from vgg_nll.evaluation.loop import Evaluation
from vgg_nll.evaluation.report import percent
from vgg_nll.progress import Progress
from vgg_nll.tracking import evaluation_summaries, tags
from vgg_nll.tracking.summaries import Embedding, EmbeddingData, FigureSummary, Scalars, SessionEnd, Summary
from vgg_nll.tracking.tracker import Tracker
from vgg_nll.tracking.trajectories import heat_map
from vgg_nll.training import history
from vgg_nll.training.diagnostics import Diagnostics
from vgg_nll.training.state import TrainState, Window

log = logging.getLogger(__name__)


class TrainingLogger:
    """Turns training windows and evaluations into points of curves, and lines to read.

    Args:
        class_names: [C]; pixels: normalised images -> uint8, both [B, 3, H, W].
        constant_loss: loss of the same probability for every class; a run that stays there is on a plateau.
        table: metrics.csv; None: of this process there is none.
        flops_per_image: of a training step; peak_flops: what the device does per second in a large matrix product, measured. If
            training is faster than that (other programs took the device meanwhile), its speed takes that place.
        input_hint: what to change if training waits for images; best_by: what chooses the best step, as `trainer.best`.
    """

    def __init__(
        self,
        tracker: Tracker,
        table: Path | None,
        *,
        class_names: Sequence[str],
        pixels: Callable[[Tensor], Tensor],
        total_steps: int,
        steps_per_epoch: int,
        constant_loss: float,
        flops_per_image: float,
        peak_flops: float,
        input_hint: str,
        best_by: str,
    ) -> None:
        self._tracker, self._table, self._diagnostics = tracker, table, Diagnostics(constant_loss, input_hint)
        self._class_names, self._pixels = [printable(name) for name in class_names], pixels
        self._total_steps, self._steps_per_epoch = total_steps, steps_per_epoch
        self.flops_per_image, self.peak_flops = flops_per_image, peak_flops
        self._best_by = best_by
        self._progress: Progress | None = None
        self._start = 0.0  # of the window of the next point, moved on by every pause
        self._wait = 0.0  # seconds of it spent waiting for data
        self._images_before = 0  # images of it from an earlier process

    def begin(self, step: int, summaries: Iterable[Summary]) -> None:
        """Adds what is known before the first step."""
        for summary in summaries:
            self._tracker.add(summary, step)

    @contextmanager
    def training(self, step: int, window_images: int) -> Iterator[None]:
        """Shows the progress of training while the block runs.

        Args:
            step: optimizer steps done before; window_images: images since the last point, from an earlier process.
        """
        self._progress = Progress(self._total_steps, step)
        self._start, self._images_before = time.perf_counter(), window_images
        try:
            yield
        finally:
            self._progress.close()
            self._progress = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time of the block as training time spent waiting for data."""
        start = time.perf_counter()
        yield
        self._wait += time.perf_counter() - start

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Takes the time of the block out of training time: images/s leaves it out."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._start += time.perf_counter() - start

    def advance(self) -> None:
        """Moves the bar by one step."""
        if self._progress is not None:
            self._progress.advance()

    def train_point(self, step: int, window: Window, learning_rate: float, gradient_norm: float, peak_memory: float) -> None:
        """Adds one point to every training curve.

        Args:
            window: sums since the last point; peak_memory: bytes.
        """
        now = time.perf_counter()  # after the window's sums have arrived, so the device has done the work
        seconds = now - self._start
        speed = (window.images - self._images_before) / seconds
        self.peak_flops = max(self.peak_flops, speed * self.flops_per_image)
        values = {
            tags.LOSS_TRAIN: window.loss,
            tags.ACCURACY_TRAIN: window.accuracy,
            tags.LEARNING_RATE: learning_rate,
            tags.GRADIENT_NORM: gradient_norm,
            tags.IMAGES_PER_SECOND: speed,
            tags.MFU: speed * self.flops_per_image / self.peak_flops,
            tags.DATA_WAIT: self._wait / seconds,
            tags.PEAK_MEMORY: peak_memory / 2**30,
            tags.EPOCH: step / self._steps_per_epoch,
        }
        self._tracker.add(Scalars(values), step)
        if self._progress is not None:
            parts = f"train loss {window.loss:.4f}", f"accuracy {window.accuracy:.1%}", f"{speed:.0f} images/s"
            self._progress.update(step, parts)
        warnings = self._diagnostics.check_step(step, window.loss, gradient_norm, learning_rate)
        for warning in [*warnings, *self._diagnostics.check_input(step, values[tags.DATA_WAIT])]:
            self.write(f"warning: {warning}")
        self._start, self._wait, self._images_before = now, 0.0, 0

    def gradient_point(self, step: int, values: Mapping[str, float]) -> None:
        """Adds what `gradients` gave: values by tag."""
        self._tracker.add(Scalars(values), step)

    def validation_point(self, state: TrainState, evaluation: Evaluation, *, is_best: bool, with_figures: bool) -> None:
        """Adds one point to every validation curve, and writes a line; if asked, adds the figures and curves of that step.

        Args:
            state: with this validation as the last one of its history and of its trajectory.
        """
        step, values, row, trajectory = state.step, evaluation.values, state.history[-1], state.trajectory
        scalars = {tag: row[f"{history.OF_TRAIN}{name}"] for name, tag in tags.TRAIN_EVAL.items()}
        scalars |= {tag: row[tag.replace("/", "_")] for tag in (tags.FORGOTTEN, tags.LEARNT)}
        if is_best:
            scalars |= {f"{tags.BEST}{name}": values[name] for name in tags.BEST_METRICS} | {tags.BEST_STEP: step}
        summaries = [*evaluation_summaries.scalars_and_histograms(evaluation), Scalars(scalars)]
        if with_figures:
            title = f"validation, step {step}"
            summaries += evaluation_summaries.pictures_and_curves(evaluation, self._class_names, self._pixels, title)
            summaries.append(FigureSummary(tags.TRAJECTORIES, lambda: heat_map(trajectory[:, 0].numpy(), title)))
        for summary in summaries:
            self._tracker.add(summary, step)
        if self._table is not None:
            history.write(self._table, state.history)
        self.write(_validation_line(row["epoch"], values, self._best_by if is_best else ""))

    def test_point(self, step: int, evaluation: Evaluation) -> None:
        """Adds every metric of the test split, at the step of the network that was tested."""
        self._tracker.add(Scalars({f"{tags.TEST}{name}": value for name, value in evaluation.values.items()}), step)

    def end(self, step: int, extract: Callable[[], Features]) -> None:
        """Ends the session of the HParams tab, and adds the points of the projector, which `extract` gives.

        Args:
            step: of the network that gives the points.
        """

        def points() -> EmbeddingData:
            found = extract()
            columns, rows = evaluation_summaries.words_of_points(found, self._class_names)
            return EmbeddingData(found.points, columns, rows, found.pictures)

        self.end_session(step, is_success=True)
        self._tracker.add(Embedding(points), step)

    def end_session(self, step: int, *, is_success: bool) -> None:
        """Ends the session of the HParams tab, which shows how."""
        self._tracker.add(SessionEnd(is_success), step)

    def flush(self, step: int) -> None:
        """Writes every point so far, before the state of this step is saved: a kill between the two leaves no gap."""
        self._tracker.flush(step)

    def close(self) -> None:
        """Writes what is left."""
        self._tracker.close()

    def write(self, text: str) -> None:
        """Writes a line that stays, also in the log file."""
        if self._progress is not None:
            self._progress.write(text)
        else:
            log.info(text)


def _validation_line(epoch: float, values: Mapping[str, float], best_by: str) -> str:
    """Returns the line of a validation, at most 80 columns wide if nothing but the accuracy chooses the best step.

    Args:
        best_by: what this is the best step by, as `trainer.best`; "" if it is not.
    """
    by_accuracy = best_by == "accuracy"
    parts = [
        f"epoch {epoch:.3g}",
        f"val loss {values['loss']:.4f}",
        f"accuracy {percent(values['accuracy'])}{' (best)' * by_accuracy}",
        f"confidence {percent(values['confidence'])}",
    ]
    # The ECE of an untrained network is small: it is right as rarely as it is sure.
    parts.append(f"ECE {values['ece']:.1%}" if epoch > 0 else "untrained")
    if best_by and not by_accuracy:
        parts.append(f"best {best_by}")
    return "  ".join(parts)
