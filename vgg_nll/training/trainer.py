"""The cadence of a run: step, log, validate, save, stop."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from vgg_nll import engine, hardware, metrics, rng
from vgg_nll.data.splits import Batch, ImageData, thinned
from vgg_nll.embedding import embed
from vgg_nll.errors import TrainingError
from vgg_nll.logbook import Logbook
from vgg_nll.mistakes import Mistakes
from vgg_nll.profiler import Profiler
from vgg_nll.progress import track
from vgg_nll.saver import Saver
from vgg_nll.schedule import due
from vgg_nll.settings import TrainerSettings
from vgg_nll.signals import Interrupted, Signals
from vgg_nll.state import TrainState, check_weights

MOST_POINTS = 2000  # in the projector


@dataclass
class Trainer:
    """Trains `state.model` on `data`, and leaves checkpoints and curves: `fit`, then `test`.

    Args:
        learning_rate: step -> learning rate.
        dtype: torch.bfloat16 for autocast, torch.float32 for none.
        signals: when to stop or to save before it is due.
        seed: of the draws inside a step (dropout).
    """

    state: TrainState
    data: ImageData
    loss: engine.Loss
    learning_rate: Callable[[int], float]
    settings: TrainerSettings
    dtype: torch.dtype
    logbook: Logbook
    saver: Saver
    save_every_steps: int
    signals: Signals
    profiler: Profiler
    seed: int
    _last_save: float = field(init=False, default=0.0)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.saver.folder.parent

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.settings.total_steps(self.data.steps_per_epoch)

    def fit(self) -> None:
        """Steps until the end, or until validation has stopped getting better; the best step is in `state`.

        Raises Interrupted soon after a signal to stop, with the state saved.
        """
        state = self.state
        self._last_save = time.perf_counter()
        with self.logbook.training(state), self.profiler:
            try:
                if state.validated_step < state.step and self._validation_is_due():  # it was cut short by a signal
                    self._save(best=self._validate())
                if self._patience_is_out():
                    self.logbook.line("stopped early before; a larger trainer.early_stop_validations would go on")
                    return
                for images, target in self._batches():
                    self._step(images, target)
                    if self._patience_is_out():
                        self.logbook.line(
                            f"stopped early, after {state.validations_since_best} validations that were no better"
                        )
                        return
                    self._heed()
            except Interrupted:
                self._save(best=False)
                self.saver.wait()
                raise

    def test(self) -> metrics.Sums | None:
        """Sums over the test split with the best checkpoint's weights, which stay in the model; None without such a split."""
        state = self.state
        try:
            weights = self.saver.best(state.best_step)
            check_weights(state.model, weights)
        except ValueError as error:  # CheckpointError is one
            self.logbook.line(f"warning: {error}; the weights of the last step take their place")
            state.best_step, state.best_metrics = state.step, metrics.compute(self.evaluate("val"))
            self._save(best=True)
        else:
            state.model.load_state_dict(weights)
        if "test" not in self.data.sizes:
            return None
        sums = self.evaluate("test")
        self.logbook.test_point(state.step, metrics.compute(sums))
        return sums

    def end(self) -> None:
        """Shows how the network, as `test` has left it, tells the validation images apart; the run is over."""
        batches = thinned(self._eval_batches("val", self.settings.eval_batch_size), self.data.sizes["val"], MOST_POINTS)
        pixels = self.data.preprocessing.pixels
        self.logbook.end(self.state.step, lambda: embed(self.state.model, batches, self.dtype, pixels))

    def evaluate(self, split: str, look: engine.Look | None = None) -> metrics.Sums:
        """Sums over every image of a split. Raises Interrupted between two batches after a signal to stop."""
        size = self.settings.eval_batch_size
        with self._memory("trainer.eval_batch_size", size, "lower it"):
            return engine.evaluate(self.state.model, self.loss, self._eval_batches(split, size), self.dtype, look)

    def _step(self, images: Tensor, target: Tensor) -> None:
        """One optimizer step, and what is due after it."""
        state, settings, total = self.state, self.settings, self.total_steps
        rng.seed_step(self.seed, state.step)
        learning_rate = self.learning_rate(state.step)
        cure = "lower it, or raise trainer.accumulation_steps, which takes less memory for the same step"
        with self._memory("trainer.batch_size", settings.batch_size, cure):
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
        self.logbook.step()
        self.profiler.step()
        validate = self._validation_is_due()
        log = validate or due(state.step, settings.log_every_steps, total)
        save = self.signals.take_save() or validate or due(state.step, self.save_every_steps, total)
        if log or state.device.type == "cpu":  # on CUDA, looking makes the host wait
            self._check_finite()
        if log:
            self.logbook.train_point(state, learning_rate, norm)
        best = self._validate() if validate else False
        if save:
            self._save(best=best)

    def _validate(self) -> bool:
        """Evaluates, and tells whether this is the best so far; on a tie it is, since it has seen more."""
        state = self.state
        with self.logbook.pause():
            mistakes = Mistakes()
            sums = self.evaluate("val", mistakes.look)
            values = metrics.compute(sums)
            if not math.isfinite(values["loss"]):
                raise TrainingError(
                    f"step {state.step}: the loss on the validation images is {values['loss']:g}; mend them if they hold NaN "
                    f"or infinity, else lower optimizer.lr; {self.saver.folder} holds the last good state"
                )
            before = state.best_metrics.get("accuracy", -1.0)
            best = values["accuracy"] >= before
            state.validations_since_best = 0 if values["accuracy"] > before else state.validations_since_best + 1
            wrong = mistakes.surest if self._figures_are_due() else None
            self.logbook.validation_point(state.step, sums, values, best=best, wrong=wrong)
        if best:
            state.best_step, state.best_metrics = state.step, values
        state.validated_step = state.step
        return best

    def _save(self, *, best: bool) -> None:
        self._check_finite()
        now = time.perf_counter()
        self.state.seconds += now - self._last_save
        self._last_save = now
        with self.logbook.pause():
            self.saver.save(self.state.state_dict(), best=best)

    def _validation_is_due(self) -> bool:
        every = self.settings.validate_every_steps(self.data.steps_per_epoch)
        return due(self.state.step, every, self.total_steps)

    def _figures_are_due(self) -> bool:
        """At the first validation of every so many epochs, and at the last one."""
        step, epoch = self.state.step, self.data.steps_per_epoch
        before = max(0, step - self.settings.validate_every_steps(epoch))
        every = max(1, round(self.settings.figures_every_epochs * epoch))
        return step // every > before // every or step == self.total_steps or self._patience_is_out()

    def _patience_is_out(self) -> bool:
        patience = self.settings.early_stop_validations
        return patience is not None and self.state.validations_since_best >= patience

    def _batches(self) -> Iterator[Batch]:
        """Training batches from the current step to the last; the time spent waiting for them is counted."""
        while self.state.step < self.total_steps:
            epoch, position = divmod(self.state.step, self.data.steps_per_epoch)
            batches = self.data.train_batches(epoch, position)
            while self.state.step < self.total_steps:
                with self.logbook.waiting():
                    batch = next(batches, None)
                if batch is None:
                    break
                yield batch

    def _eval_batches(self, split: str, size: int) -> Iterator[Batch]:
        for batch in track(self.data.eval_batches(split), math.ceil(self.data.sizes[split] / size), split):
            self._heed()
            yield batch

    def _heed(self) -> None:
        if self.signals.stop is not None:
            where = f"after step {self.state.step} of {self.total_steps}, which is saved; resume={self.folder} goes on"
            raise Interrupted(self.signals.stop, where)

    def _check_finite(self) -> None:
        bad = int(self.state.bad_step)
        if bad < 0:
            return
        what = (
            f"step {bad}: loss {float(self.state.bad_loss):g}, gradient norm {float(self.state.bad_gradient_norm):g} at "
            f"learning rate {self.learning_rate(bad):.3g}; the weights were not updated, and {self.saver.folder} holds the "
            "last good state: "
        )
        images, _ = next(self.data.train_batches(*divmod(bad, self.data.steps_per_epoch)))
        if not bool(images.isfinite().all()):
            raise TrainingError(what + "the images of this step hold NaN or infinite numbers; mend the data")
        raise TrainingError(what + "lower optimizer.lr, or warm up for longer")

    @contextmanager
    def _memory(self, key: str, size: int, cure: str) -> Iterator[None]:
        """Says what to do where the block runs out of memory. No checkpoint is written from what it leaves."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not hardware.is_out_of_memory(error):
                raise
            side, step = self.data.preprocessing.image_size, self.state.step
            raise TrainingError(
                f"out of memory at step {step}, with {key}={size} images of {side}x{side}: {cure}; what was saved stays"
            ) from error
