"""The training loop: step, log, validate, save, stop; each when it is due."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from vgg_nll import hardware, rng
from vgg_nll.checkpoints.saver import CheckpointSaver
from vgg_nll.data.interface import TRAIN_EVAL, Batch, ImageData
from vgg_nll.distributed.process_group import Ranks
from vgg_nll.errors import TrainingError
from vgg_nll.evaluation.best_step import NO_SCORE, score
from vgg_nll.evaluation.features import FeatureCollector
from vgg_nll.evaluation.loop import Evaluation
from vgg_nll.losses import Loss
from vgg_nll.run_folder import paths
from vgg_nll.training import gradients, history
from vgg_nll.training.diagnostics import not_finite_error, out_of_memory_as_error
from vgg_nll.training.evaluator import Evaluator
from vgg_nll.training.logger import TrainingLogger
from vgg_nll.training.profiler import Profiler
from vgg_nll.training.pruning import MedianRule
from vgg_nll.training.settings import TrainerSettings, due
from vgg_nll.training.signals import Interrupted, Signals
from vgg_nll.training.state import TrainState
from vgg_nll.training.step import StepOptions, train_step

MAX_POINTS = 2000  # in the projector


@dataclass
class Trainer:
    """Trains `state.model` on `data`, and leaves checkpoints and curves: `fit`, then `test`, then `end`.

    Args:
        train_batches: epoch, first batch -> batches: those of the data, or features of its images that are frozen.
        learning_rate: step -> learning rate.
        dtype: torch.bfloat16 for autocast, torch.float32 for none.
        signals: when to stop, or to save before it is due; seed: of the draws inside a step (dropout).
        ranks: those that train together, step by step; all of them get the same state. Rank 0 writes.
    """

    state: TrainState
    data: ImageData
    train_batches: Callable[[int, int], Iterator[Batch]]
    loss: Loss
    learning_rate: Callable[[int], float]
    settings: TrainerSettings
    dtype: torch.dtype
    logger: TrainingLogger
    saver: CheckpointSaver
    save_every_steps: int
    signals: Signals
    profiler: Profiler
    pruning: MedianRule
    seed: int
    ranks: Ranks
    evaluator: Evaluator = field(init=False)
    _options: StepOptions = field(init=False)
    _last_save: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        size, stop = self.settings.eval_batch_size, self._stop_if_requested
        self.evaluator = Evaluator(self.state, self.data, self.loss, self.dtype, size, self.ranks, stop)
        self._options = self.settings.step_options(self.dtype, self.ranks)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.settings.total_steps(self.data.steps_per_epoch)

    def fit(self) -> None:
        """Trains to the end, or until validation stops getting better; the best step is in `state`.

        Raises Interrupted soon after a signal to stop, with the state saved.
        """
        state = self.state
        self._last_save = time.perf_counter()
        with self.logger.training(state.step, state.window_images), self.profiler:
            try:
                if state.step == 0:
                    self._validate()  # the untrained network
                    if self.ranks.size > 1:  # so that a restart always finds a state
                        self._save(is_best=False)
                elif state.validated_step < state.step and self._validation_is_due():  # a signal cut it short
                    self._save(is_best=self._validate())
                if self._should_stop_early():
                    self.logger.write("stopped early before; a larger trainer.early_stop_validations continues")
                    return
                for images, target in self._batches():
                    self._step(images, target)
                    if self._should_stop_early():
                        self.logger.write(
                            f"stopped early, after {state.validations_since_best} validations that were no better"
                        )
                        return
                    self._stop_if_requested(self.ranks)
            except Interrupted:
                self._save(is_best=False)
                self.saver.wait()
                raise

    def evaluate_best(self) -> dict[str, Evaluation]:
        """Evaluates the validation and the test split with the best checkpoint's weights, which stay in the model, in the
        precision of `trainer.test_precision`; shows the former in the feature space of that network. The run is over."""
        state, sizes = self.state, self.data.sizes
        problem = self.ranks.broadcast_object(self.saver.load_best_into(state) if self.ranks.is_first else "")
        if problem:
            self.logger.write(f"warning: {problem}; the weights of the last step take their place")
            state.best_step, state.best_metrics = state.step, dict(self.evaluator.evaluate("val").values)
            self._save(is_best=True)
        else:
            self.ranks.broadcast_module(state.evaluated)
        precisely = self.settings.test_precision == "float32"
        evaluator = replace(self.evaluator, dtype=torch.float32) if precisely else self.evaluator
        every = -(-sizes["val"] // MAX_POINTS)
        with (
            hardware.full_float32() if precisely else nullcontext(),
            FeatureCollector(state.evaluated, self.data.preprocessing.pixels, every) as points,
        ):
            found = {"val": evaluator.evaluate("val", keep_logits=True, on_batch=points.add)}
            if "test" in sizes:
                found["test"] = evaluator.evaluate("test", keep_logits=True)
                self.logger.test_point(state.best_step, found["test"])
        self.logger.end(state.best_step, points.features)
        return found

    def _step(self, images: Tensor, target: Tensor) -> None:
        """Does one optimizer step, and what is due after it."""
        state, settings, total = self.state, self.settings, self.total_steps
        rng.seed_step(self.seed, state.step, self.ranks.rank)
        learning_rate = self.learning_rate(state.step)
        hint = "lower it, or raise trainer.accumulation_steps, which takes less memory for the same step"
        watched = state.step == 0 or due(state.step + 1, gradients.EVERY_STEPS, total)
        seen: list[Batch] = []
        side, size = self.data.preprocessing.image_size, settings.batch_size
        with out_of_memory_as_error(state.step, side, "trainer.batch_size", size, hint):
            on_logits = (lambda *part: seen.append(part)) if watched else None
            norm = train_step(state, self.loss, images, target, self._options, learning_rate=learning_rate, on_logits=on_logits)
        self.logger.advance()
        self.profiler.step()
        validate = self._validation_is_due()
        # Neither a validation nor the last step ends a window: the point of a short one would be a jump in every curve.
        log = state.step % min(settings.log_every_steps, total) == 0
        requested = self.ranks.all_reduce_max(self.signals.pop_save_request()) > 0
        save = requested or validate or due(state.step, self.save_every_steps, total)
        if log or validate or watched or state.device.type == "cpu":  # on CUDA, the check makes the host wait
            self._check_finite()
        if watched:
            of_all = self.ranks.gather([tensor.cpu() for tensor in map(torch.cat, zip(*seen, strict=True))])
            logits, labels = (torch.cat(parts).to(state.device) for parts in zip(*of_all, strict=True))
            self.logger.gradient_point(
                state.step, gradients.logit_gradient_norms(logits, labels) | gradients.layer_norms(state.model)
            )
        if log:
            window = state.pop_window()
            self.logger.train_point(state.step, window, learning_rate, float(norm), hardware.peak_memory(state.device))
        is_best = self._validate() if validate else False
        if save:
            self._save(is_best=is_best)
        if validate and state.step < total:
            self.pruning.check(*history.losses(state.history)[-1])

    def _validate(self) -> bool:
        """Evaluates; returns whether this is the best step so far, by `trainer.best`."""
        state = self.state
        with self.logger.pause():
            evaluation, of_train = (self.evaluator.evaluate(split) for split in ("val", TRAIN_EVAL))
            values = dict(evaluation.values)
            if not math.isfinite(values["loss"]):
                raise TrainingError(
                    f"step {state.step}: the loss on the validation images is {values['loss']:g}; fix them if they hold NaN "
                    f"or infinity, else lower optimizer.lr; {self._last_good()}"
                )
            new = score(values, self.settings.best)
            old = score(state.best_metrics, self.settings.best) if state.best_step >= 0 else NO_SCORE
            is_best = state.step > 0 and new > old
            state.trajectory = history.extend_trajectory(state.trajectory, evaluation.sums.by_image())
            if is_best:
                state.best_step, state.best_metrics = state.step, values
            if state.step > 0:  # the untrained network is for the curves only
                # a lower NLL at an equal metric makes a better checkpoint, but is no reason to go on
                state.validations_since_best = 0 if new[0] > old[0] else state.validations_since_best + 1
            epoch = state.step / self.data.steps_per_epoch
            state.history.append(history.row(state.step, epoch, values, of_train.values, state.trajectory))
            is_last = state.step == self.total_steps or self._should_stop_early()
            figures = is_last or self.settings.figures_are_due(state.step, self.data.steps_per_epoch)
            self.logger.validation_point(state, evaluation, is_best=is_best, with_figures=figures)
        state.validated_step = state.step
        return is_best

    def _save(self, *, is_best: bool) -> None:
        self._check_finite()
        if not self.ranks.is_first:
            return
        if not paths.is_whole(self.saver.folder):
            raise TrainingError(
                f"step {self.state.step}: {self.saver.folder} was removed or renamed; nothing can be saved there"
            )
        now = time.perf_counter()
        self.state.seconds += now - self._last_save
        self._last_save = now
        with self.logger.pause():
            self.logger.flush(self.state.step)
            self.saver.save(self.state.state_dict(), is_best=is_best)

    def _last_good(self) -> str:
        self.saver.wait()
        place = f"{self.saver.folder / paths.CHECKPOINTS} holds the last good state"
        return place if paths.has_checkpoint(self.saver.folder) else "no state was saved before"

    def _validation_is_due(self) -> bool:
        return due(self.state.step, self.settings.validate_every_steps(self.data.steps_per_epoch), self.total_steps)

    def _should_stop_early(self) -> bool:
        patience = self.settings.early_stop_validations
        return patience is not None and self.state.validations_since_best >= patience

    def _batches(self) -> Iterator[Batch]:
        """Yields training batches from the current step to the last; counts the time spent waiting for them."""
        while self.state.step < self.total_steps:
            epoch, position = divmod(self.state.step, self.data.steps_per_epoch)
            batches = self.train_batches(epoch, position)
            while self.state.step < self.total_steps:
                with self.logger.waiting():
                    batch = next(batches, None)
                if batch is None:
                    break
                yield batch

    def _stop_if_requested(self, ranks: Ranks) -> None:
        number = ranks.all_reduce_max(self.signals.stop or 0)
        if number:
            where = f"after step {self.state.step} of {self.total_steps}, which is saved; resume={self.saver.folder} continues"
            raise Interrupted(signal.Signals(number), where)

    def _check_finite(self) -> None:
        bad = int(self.state.bad_step)
        if bad >= 0:
            images, _ = next(self.train_batches(*divmod(bad, self.data.steps_per_epoch)))
            spoiled = self.ranks.all_reduce_max(not images.isfinite().all()) > 0
            raise not_finite_error(self.state, self.learning_rate(bad), self._last_good(), images_are_finite=not spoiled)
