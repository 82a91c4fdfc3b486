"""Signs that a run is stuck or falling apart, from the numbers that are logged anyway."""

import statistics
from collections import deque

PLATEAU_STEPS, PLATEAU_SHARE = 200, 0.99
JUMP, MEMORY, MIN_VALUES = 100.0, 100, 10
WAITS, WAIT_SHARE = 3, 0.1


class Diagnostics:
    """Looks at every logged loss, gradient norm and wait; each kind of trouble is told once.

    Stuck: after 200 steps no logged loss has been below 99% of the loss of a constant prediction. Falling apart: a value is
    100 times the running median of the last 100 logged ones (ten at least). A loss below a thousandth of the constant one
    counts as that much: near zero, a hundredfold is one hard image. Starved: at three logged steps one after the other, more
    than a tenth of the time since the last one was spent waiting for images.

    Args:
        constant_loss: of the same probability for every class.
        input_hint: what to change where training waits for images.
    """

    def __init__(self, constant_loss: float, input_hint: str) -> None:
        self._constant_loss, self._when_data_is_slow = constant_loss, input_hint
        self._waits: deque[float] = deque(maxlen=WAITS)
        self._best_loss = float("inf")
        self._told: set[str] = set()
        self._values: dict[str, deque[float]] = {}

    def check_step(self, step: int, loss: float, gradient_norm: float, learning_rate: float) -> list[str]:
        """The warnings that these values call for; mostly none."""
        where = f"step {step} (learning rate {learning_rate:.3g})"
        warnings = []
        self._best_loss = min(self._best_loss, loss)
        if self._best_loss > PLATEAU_SHARE * self._constant_loss and step >= PLATEAU_STEPS and self._tell("plateau"):
            warnings.append(
                f"{where}: the loss, {loss:.4f}, has not left {self._constant_loss:.4f}, which the same probability for every "
                "class gives: the network is stuck. Usual causes: optimizer.lr too high or too low, too short a warm-up "
                "(schedule.warmup_epochs), weights that do not start He-normal, labels that do not belong to the images"
            )
        for name, value, floor in (("loss", loss, self._constant_loss / 1000), ("gradient norm", gradient_norm, 0.0)):
            seen = self._values.setdefault(name, deque(maxlen=MEMORY))
            usual = max(statistics.median(seen), floor) if len(seen) >= MIN_VALUES else float("inf")
            if usual > 0 and value > JUMP * usual and self._tell(name):
                warnings.append(
                    f"{where}: the {name} is {value:.4g}, {value / usual:.0f} times its median so far; if it does not come "
                    "back, lower optimizer.lr, or trainer.clip_norm"
                )
            seen.append(value)
        return warnings

    def check_input(self, step: int, share: float) -> list[str]:
        """The warning that this share of time, spent waiting for images, calls for; mostly none."""
        self._waits.append(share)
        if len(self._waits) < WAITS or min(self._waits) <= WAIT_SHARE or not self._tell("wait"):
            return []
        return [f"step {step}: {share:.0%} of the time is spent waiting for images; {self._when_data_is_slow}"]

    def _tell(self, kind: str) -> bool:
        new = kind not in self._told
        self._told.add(kind)
        return new
