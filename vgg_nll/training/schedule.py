"""Learning-rate schedules: the factor as a pure function of the step; and what is due at a step."""

import math
from collections.abc import Callable
from dataclasses import dataclass

Decay = Callable[[float], float]


def cosine_decay(progress: float, *, final_factor: float = 0.0) -> float:
    """Returns half a cosine from 1 to `final_factor`; `progress` in [0, 1]."""
    return final_factor + (1 - final_factor) * (1 + math.cos(math.pi * progress)) / 2


def linear_decay(progress: float, *, final_factor: float = 0.0) -> float:
    """Returns a straight line from 1 to `final_factor`; `progress` in [0, 1]."""
    return 1 - (1 - final_factor) * progress


def step_decay(progress: float, *, milestones: tuple[float, ...] = (1 / 3, 2 / 3), factor: float = 0.1) -> float:
    """Returns 1 times `factor` for each milestone passed; milestones are fractions of the run in (0, 1)."""
    return factor ** sum(progress >= milestone for milestone in milestones)


def no_decay(progress: float) -> float:
    """Returns 1."""
    return 1.0


@dataclass(frozen=True)
class Schedule:
    """Maps a step to the factor of the learning rate: a linear warm-up over `warmup_steps`, then `decay` over the rest.

    The first step has the factor 1/warmup_steps; the step after the last one would have `decay(1)`.
    """

    decay: Decay
    total_steps: int
    warmup_steps: int = 0

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        rest = max(1, self.total_steps - self.warmup_steps)
        return self.decay(min(1.0, (step - self.warmup_steps) / rest))


def due(step: int, every: int, total: int) -> bool:
    """Tells whether something that happens every `every` steps, and after the last one, is due after `step` steps."""
    return step > 0 and (step % every == 0 or step == total)
