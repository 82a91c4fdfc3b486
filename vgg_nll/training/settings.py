"""The trainer's typed settings."""

from dataclasses import dataclass

import torch

from vgg_nll.distributed.process_group import Ranks
from vgg_nll.training.step import StepOptions


@dataclass(frozen=True)
class TrainerSettings:
    """`configs/trainer`: how long, how large, how often."""

    epochs: float
    steps: int | None  # takes the place of epochs
    batch_size: int  # images per optimizer step
    eval_batch_size: int
    accumulation_steps: int  # parts that a batch is split into
    clip_norm: float | None
    ema_decay: float  # of the average of the weights; 0 for none
    precision: str
    test_precision: str  # of the last evaluations: "float32", or "same" as in training
    deterministic: bool
    compile: bool
    log_every_steps: int
    validate_every_epochs: float
    figures_every_epochs: float
    best: str  # what the best step is chosen by: a key of `best_step.CRITERIA`
    early_stop_validations: int | None
    sync_batchnorm: bool  # of several ranks
    gradient_compression: str  # between ranks
    bucket_mb: float
    profile: bool
    prune_against: str | None

    def step_options(self, dtype: torch.dtype, ranks: Ranks) -> StepOptions:
        """Returns what all steps have in common, for the number format that `precision` means here."""
        return StepOptions(dtype, self.clip_norm, self.accumulation_steps, self.ema_decay, ranks, self.batch_size)

    def total_steps(self, steps_per_epoch: int) -> int:
        """Returns the optimizer steps of the whole run, at least 1."""
        return self.steps if self.steps is not None else max(1, round(self.epochs * steps_per_epoch))

    def validate_every_steps(self, steps_per_epoch: int) -> int:
        """Returns the optimizer steps from one validation to the next, at least 1."""
        return max(1, round(self.validate_every_epochs * steps_per_epoch))

    def figures_are_due(self, step: int, steps_per_epoch: int) -> bool:
        """Returns whether the validation after `step` steps is the first one of every `figures_every_epochs`."""
        before = max(0, step - self.validate_every_steps(steps_per_epoch))
        every = max(1, round(self.figures_every_epochs * steps_per_epoch))
        return step // every > before // every


def due(step: int, every: int, total: int) -> bool:
    """Returns whether something that happens every `every` steps, and after the last one, is due after `step` steps."""
    return step > 0 and (step % every == 0 or step == total)
