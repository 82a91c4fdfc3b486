"""The trainer's settings as numbers of steps, and what is due after a step."""

from typing import Any

import pytest
import torch

from vgg_nll.distributed.process_group import Ranks
from vgg_nll.training.settings import TrainerSettings, due
from vgg_nll.training.step import StepOptions

DEFAULTS: dict[str, Any] = {
    "epochs": 2.0,
    "steps": None,
    "batch_size": 8,
    "eval_batch_size": 16,
    "accumulation_steps": 2,
    "clip_norm": 1.5,
    "ema_decay": 0.9,
    "precision": "auto",
    "test_precision": "float32",
    "deterministic": False,
    "compile": False,
    "log_every_steps": 1,
    "validate_every_epochs": 1.0,
    "figures_every_epochs": 2.0,
    "best": "accuracy",
    "early_stop_validations": None,
    "sync_batchnorm": False,
    "gradient_compression": "none",
    "bucket_mb": 25.0,
    "profile": False,
    "prune_against": None,
}


def settings(**changes: Any) -> TrainerSettings:
    return TrainerSettings(**(DEFAULTS | changes))


def test_due() -> None:
    assert [step for step in range(12) if due(step, 5, 11)] == [5, 10, 11]
    assert not due(0, 1, 5)


def test_a_run_shorter_than_the_interval_has_its_last_step() -> None:
    assert [step for step in range(4) if due(step, 100, 3)] == [3]


@pytest.mark.parametrize(
    ("epochs", "steps", "expected"),
    [(2.0, None, 12), (0.5, None, 3), (1.25, None, 8), (0.01, None, 1), (2.0, 5, 5), (0.01, 100, 100)],  # 7.5 rounds to 8
)
def test_steps_take_the_place_of_epochs(epochs: float, steps: int | None, expected: int) -> None:
    """Of 6 steps each; a run has one step at least."""
    assert settings(epochs=epochs, steps=steps).total_steps(6) == expected


@pytest.mark.parametrize(("epochs", "expected"), [(1.0, 6), (1.5, 9), (0.5, 3), (0.01, 1), (20, 120)])
def test_steps_between_validations(epochs: float, expected: int) -> None:
    assert settings(validate_every_epochs=epochs).validate_every_steps(6) == expected


@pytest.mark.parametrize(
    ("validate", "figures", "expected"),
    [
        (1.0, 2.0, [12, 24, 36]),
        (1.0, 0.1, [6, 12, 18, 24, 30, 36]),  # no more often than validations
        (1.5, 2.0, [18, 27, 36]),  # the first validation at or after 12, 24 and 36 steps
        (0.5, 1.0, [6, 12, 18, 24, 30, 36]),
        (1.0, 100.0, []),  # the trainer draws those of the last validation whatever this says
    ],
)
def test_figures_are_of_the_first_validation_of_an_interval(validate: float, figures: float, expected: list[int]) -> None:
    chosen = settings(validate_every_epochs=validate, figures_every_epochs=figures)
    validations = range(0, 37, chosen.validate_every_steps(6))
    assert [step for step in validations if chosen.figures_are_due(step, 6)] == expected


def test_a_step_gets_what_the_settings_say() -> None:
    ranks = Ranks(1, 2)
    expected = StepOptions(torch.bfloat16, clip_norm=1.5, accumulation_steps=2, ema_decay=0.9, ranks=ranks, batch_size=8)
    assert settings().step_options(torch.bfloat16, ranks) == expected
