"""Diagnostics of a run: plateau, divergence, input-bound; and what a loss must show before the first step."""

import statistics
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from vgg_nll import hardware
from vgg_nll.data.interface import Batch, labels_of
from vgg_nll.errors import TrainingError
from vgg_nll.evaluation import loop
from vgg_nll.losses import Loss
from vgg_nll.training.state import TrainState

PLATEAU_STEPS, PLATEAU_FACTOR = 200, 0.99
JUMP_FACTOR, MEDIAN_VALUES, MIN_VALUES = 100.0, 100, 10
CONSTANT_LABELS = 1000  # with the classes' shares
WAIT_POINTS, MAX_WAIT = 3, 0.1


class Diagnostics:
    """Reads every logged loss, gradient norm and wait for data; gives each kind of warning once.

    Plateau: after 200 steps no logged loss has been below 99% of the loss of a constant prediction. Divergence: a value is
    100 times the median of the last 100 logged ones (at least ten). A loss below a thousandth of the constant one counts as
    that much: near zero, one hard image gives a hundredfold. Input-bound: at three logged steps in a row, training waited
    for images more than a tenth of the time.

    Args:
        constant_loss: loss of the same probability for every class.
        input_hint: what to change if training waits for images.
    """

    def __init__(self, constant_loss: float, input_hint: str) -> None:
        self._constant_loss, self._input_hint = constant_loss, input_hint
        self._waits: deque[float] = deque(maxlen=WAIT_POINTS)
        self._min_loss = float("inf")
        self._given: set[str] = set()
        self._values: dict[str, deque[float]] = {}

    def check_step(self, step: int, loss: float, gradient_norm: float, learning_rate: float) -> list[str]:
        """Returns the warnings for these values; mostly none."""
        where = f"step {step} (learning rate {learning_rate:.3g})"
        warnings = []
        self._min_loss = min(self._min_loss, loss)
        is_plateau = self._min_loss > PLATEAU_FACTOR * self._constant_loss and step >= PLATEAU_STEPS
        if is_plateau and self._is_first("plateau"):
            warnings.append(
                f"{where}: the loss, {loss:.4f}, has not left {self._constant_loss:.4f}, which the same probability for every "
                "class gives: the network is stuck. Usual causes: optimizer.lr too high or too low, too short a warm-up "
                "(schedule.warmup_epochs), weights that do not start He-normal, labels that do not belong to the images"
            )
        for name, value, floor in (("loss", loss, self._constant_loss / 1000), ("gradient norm", gradient_norm, 0.0)):
            seen = self._values.setdefault(name, deque(maxlen=MEDIAN_VALUES))
            usual = max(statistics.median(seen), floor) if len(seen) >= MIN_VALUES else float("inf")
            if usual > 0 and value > JUMP_FACTOR * usual and self._is_first(name):
                warnings.append(
                    f"{where}: the {name} is {value:.4g}, {value / usual:.0f} times its median so far; if it does not come "
                    "back, lower optimizer.lr, or trainer.clip_norm"
                )
            seen.append(value)
        return warnings

    def check_input(self, step: int, wait: float) -> list[str]:
        """Returns the warning for this fraction of time spent waiting for images; mostly none."""
        self._waits.append(wait)
        if len(self._waits) < WAIT_POINTS or min(self._waits) <= MAX_WAIT or not self._is_first("input"):
            return []
        return [f"step {step}: training waits for images {wait:.0%} of the time; {self._input_hint}"]

    def _is_first(self, kind: str) -> bool:
        is_first = kind not in self._given
        self._given.add(kind)
        return is_first


@contextmanager
def out_of_memory_as_error(step: int, image_size: int, key: str, size: int, hint: str) -> Iterator[None]:
    """Says what to do if the block runs out of memory. No checkpoint is written of the state that it leaves."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not hardware.is_out_of_memory(error):
            raise
        raise TrainingError(
            f"out of memory at step {step}, with {key}={size} images of {image_size}x{image_size}: {hint}; "
            "the last checkpoint stays"
        ) from error


def not_finite_error(state: TrainState, learning_rate: float, last_good: str, *, images_are_finite: bool) -> TrainingError:
    """Returns the error for the first step whose loss or gradient was not finite.

    Args:
        last_good: where the last good state is; images_are_finite: those that the step was given.
    """
    spoiled = "the images of this step hold NaN or infinite numbers; fix the data"
    return TrainingError(
        f"step {int(state.bad_step)}: loss {float(state.bad_loss):g}, gradient norm {float(state.bad_gradient_norm):g} at "
        f"learning rate {learning_rate:.3g}; the weights were not updated, and {last_good}: "
        + ("lower optimizer.lr, or warm up for longer" if images_are_finite else spoiled)
    )


def constant_loss(loss: Loss, class_counts: Tensor, device: torch.device) -> float:
    """Returns the loss of the same probability for every class: what a run on a plateau shows.

    Args:
        class_counts: [C] training images, for losses whose classes count differently.

    For method 1 it is `ln C`, for method 2 `ln C + (C-1) ln(C/(C-1))`.
    """
    shares = (class_counts.cumsum(0) / class_counts.sum()).to(device)
    labels = torch.searchsorted(shares, (torch.arange(CONSTANT_LABELS, device=device) + 0.5) / CONSTANT_LABELS)
    return float(loss(torch.zeros(CONSTANT_LABELS, len(shares), device=device), labels))


def untrained_loss(loss: Loss, batch: Batch, state: TrainState, dtype: torch.dtype) -> float:
    """Returns the network's loss on a batch of training images, in eval mode."""
    images, target = batch
    return loop.evaluate(state.model, loss, [(images, labels_of(target))], dtype).values["loss"]


def ignores_labels(loss: Loss, num_classes: int, device: torch.device) -> bool:
    """Returns whether the loss of one and the same prediction is equal for every label."""
    logits = torch.linspace(-1, 1, num_classes, device=device)[None]
    labels = torch.arange(min(num_classes, 10), device=device)
    return len({float(loss(logits, label[None])) for label in labels}) == 1
