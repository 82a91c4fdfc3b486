"""The cadence of a run: step, log, validate, save, stop."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from vgg_nll import checkpoint, engine, metrics, rng
from vgg_nll.data.splits import Batch, ImageData
from vgg_nll.progress import Progress, track
from vgg_nll.schedule import due
from vgg_nll.settings import TrainerSettings
from vgg_nll.state import TrainState, check_weights
from vgg_nll.tracking import tracker as tags
from vgg_nll.tracking.figures import reliability_diagram
from vgg_nll.tracking.tracker import Tracker


class TrainingError(RuntimeError):
    """A run that cannot go on: the loss or its gradient is no longer finite."""


@dataclass
class Trainer:
    """Trains `state.model` on `data`, and leaves checkpoints and curves: `fit`, then `test`.

    Args:
        learning_rate: step -> learning rate.
        dtype: torch.bfloat16 for autocast, torch.float32 for none.
        seed: of the draws inside a step (dropout).
        flops_per_image: of a training step; peak_flops: what the device does per second on a large matrix product.
    """

    state: TrainState
    data: ImageData
    loss: engine.Loss
    learning_rate: Callable[[int], float]
    settings: TrainerSettings
    dtype: torch.dtype
    tracker: Tracker
    checkpoints: Path
    checkpoint_every_steps: int
    seed: int
    flops_per_image: float
    peak_flops: float
    _window_start: float = field(init=False, default=0.0)
    _window_wait: float = field(init=False, default=0.0)  # seconds spent waiting for data
    _window_before: int = field(init=False, default=0)  # images of the window that an earlier process has done
    _last_save: float = field(init=False, default=0.0)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.settings.total_steps(self.data.steps_per_epoch)

    def fit(self) -> None:
        """Steps until the end, or until validation has stopped getting better; the best step is in `state`."""
        state, settings, total = self.state, self.settings, self.total_steps
        validate_every = settings.validate_every_steps(self.data.steps_per_epoch)
        if self._patience_is_out():
            return
        progress = Progress(total, state.step)
        self._window_start = self._last_save = time.perf_counter()
        self._window_before = state.window_images
        try:
            for images, target in self._batches():
                rng.seed_step(self.seed, state.step)
                learning_rate = self.learning_rate(state.step)
                norm = engine.train_step(
                    state,
                    self.loss,
                    images,
                    target,
                    learning_rate=learning_rate,
                    clip_norm=settings.clip_norm,
                    accumulation_steps=settings.accumulation_steps,
                    dtype=self.dtype,
                )
                progress.advance()
                validate = due(state.step, validate_every, total)
                log = validate or due(state.step, settings.log_every_steps, total)
                save = validate or due(state.step, self.checkpoint_every_steps, total)
                if log or save or state.device.type == "cpu":  # on CUDA, looking makes the host wait
                    self._check_finite()
                if log:
                    self._log(learning_rate, norm, progress)
                if validate:
                    self._validate(progress)
                if save:
                    self._save()
                if validate and self._patience_is_out():
                    progress.line(f"stopped early, after {state.validations_since_best} validations that were no better")
                    return
        finally:
            progress.close()

    def _patience_is_out(self) -> bool:
        patience = self.settings.early_stop_validations
        return patience is not None and self.state.validations_since_best >= patience

    def test(self) -> dict[str, float]:
        """Metrics on the test split of the best checkpoint's weights, which stay in the model; {} without such a split."""
        weights = checkpoint.load(self.checkpoints / checkpoint.BEST)["model"]
        check_weights(self.state.model, weights)
        self.state.model.load_state_dict(weights)
        if "test" not in self.data.sizes:
            return {}
        values = metrics.compute(self.evaluate("test"))
        self.tracker.scalars({f"test/{name}": value for name, value in values.items()}, self.state.step)
        return values

    def evaluate(self, split: str) -> metrics.Sums:
        """Sums over every image of a split."""
        batches = math.ceil(self.data.sizes[split] / self.settings.eval_batch_size)
        return engine.evaluate(self.state.model, self.loss, track(self.data.eval_batches(split), batches, split), self.dtype)

    def _batches(self) -> Iterator[Batch]:
        """Training batches from the current step to the last; the time spent waiting for them is counted."""
        while self.state.step < self.total_steps:
            epoch, position = divmod(self.state.step, self.data.steps_per_epoch)
            batches = self.data.train_batches(epoch, position)
            while self.state.step < self.total_steps:
                start = time.perf_counter()
                batch = next(batches, None)
                self._window_wait += time.perf_counter() - start
                if batch is None:
                    break
                yield batch

    def _check_finite(self) -> None:
        bad = int(self.state.bad_step)
        if bad >= 0:
            raise TrainingError(
                f"step {bad}: loss {float(self.state.bad_loss):g}, gradient norm "
                f"{float(self.state.bad_gradient_norm):g} at learning rate {self.learning_rate(bad):.3g}; the weights were "
                f"not updated, and {self.checkpoints} holds the last good state: lower optimizer.lr, or warm up for longer"
            )

    def _log(self, learning_rate: float, norm: Tensor, progress: Progress) -> None:
        state = self.state
        loss, accuracy = (float(s) / state.window_images for s in (state.window_loss, state.window_correct))
        now = time.perf_counter()  # after the sums have arrived, so the device has done the work
        seconds = now - self._window_start
        speed = (state.window_images - self._window_before) / seconds
        values = {
            tags.LOSS_TRAIN: loss,
            tags.ACCURACY_TRAIN: accuracy,
            tags.LEARNING_RATE: learning_rate,
            tags.GRADIENT_NORM: float(norm),
            tags.IMAGES_PER_SECOND: speed,
            tags.MFU: speed * self.flops_per_image / self.peak_flops,
            tags.DATA_WAIT: self._window_wait / seconds,
            tags.EPOCH: state.step / self.data.steps_per_epoch,
        }
        self.tracker.scalars(values, state.step)
        progress.news(state.step, f"loss {loss:.4f}  accuracy {accuracy:.3f}  {speed:.0f} images/s")
        state.reset_window()
        self._window_start, self._window_wait, self._window_before = now, 0.0, 0

    def _save(self) -> None:
        start = time.perf_counter()
        self.state.seconds += start - self._last_save
        checkpoint.save(self.checkpoints / checkpoint.LAST, self.state.state_dict())
        self._last_save = start
        self._window_start += time.perf_counter() - start  # images/s is of training alone

    def _validate(self, progress: Progress) -> None:
        state, start = self.state, time.perf_counter()
        sums = self.evaluate("val")
        values = metrics.compute(sums)
        self.tracker.scalars({tag: values[name] for name, tag in tags.VALIDATION_TAGS.items()}, state.step)
        bins = sums.bin_images.tolist()
        self.tracker.histogram(
            tags.CONFIDENCE_HISTOGRAM, bins, float(sums.confidence), float(sums.confidence_squared), state.step
        )
        title = f"validation, step {state.step}: ECE {values['ece']:.3f}"
        figure = reliability_diagram(bins, sums.bin_correct.tolist(), sums.bin_confidence.tolist(), title)
        self.tracker.figure(tags.RELIABILITY_DIAGRAM, figure, state.step)
        before = state.best_metrics.get("accuracy", -1.0)
        state.validations_since_best = 0 if values["accuracy"] > before else state.validations_since_best + 1
        best = values["accuracy"] >= before  # on a tie the later one, which has seen more
        if best:
            state.best_step, state.best_metrics = state.step, values
            checkpoint.save(self.checkpoints / checkpoint.BEST, {"model": state.model.state_dict(), "step": state.step})
        progress.line(
            f"epoch {state.step / self.data.steps_per_epoch:.3g}  step {state.step}/{self.total_steps}  validation: "
            f"loss {values['loss']:.4f}  accuracy {values['accuracy']:.4f}  confidence {values['confidence']:.4f}  "
            f"ECE {values['ece']:.4f}{'  (best)' if best else ''}"
        )
        self._window_start += time.perf_counter() - start  # images/s is of training alone
