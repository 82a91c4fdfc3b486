"""Every error of a config, at once, with its key and what is allowed."""

from dataclasses import replace

import pytest
from helpers.configs import compose_config

from vgg_nll.config.rules import RULES, find_errors
from vgg_nll.run.build import make_settings
from vgg_nll.training.settings import TrainerSettings


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("trainer.batch_size", 0, "must be an integer, at least 1"),
        ("trainer.batch_size", 2.5, "must be an integer"),
        ("trainer.batch_size", True, "must be an integer"),
        ("trainer.batch_size", None, "trainer.batch_size=null: must be an integer, at least 1"),
        ("trainer.epochs", "abc", "trainer.epochs=abc: must be a number, more than 0"),
        ("trainer.epochs", float("nan"), "must be a number"),
        ("trainer.epochs", float("inf"), "must be a number"),
        ("trainer.steps", 0, "at least 1, or null"),
        ("optimizer.lr", -1, "must be a number, more than 0"),
        ("optimizer.momentum", 1.0, "at least 0 and less than 1"),
        ("loss.weight", ["a=2", "b"], "must be a list of any number, each class=number or a number, at least 0"),
        ("loss.weight", ["a=-1"], "at least 0"),
        ("loss.weight", ["=1"], "class=number"),
        ("model.head", "big", "must be one of auto, paper, compact"),
        ("model.batch_norm", 1, "must be true or false"),
        ("data.image_size", 31, "at least 32"),
        ("seed", -1, "at least 0"),
        ("name", 3, "must be text"),
        ("data.std", [1.0, 0.0, 1.0], "must be a list of 3, each a number, at least 1e-06"),
        ("data.std", [1e-300, 1, 1], "must be a list of 3, each a number, at least 1e-06"),
        ("data.mean", [1e300, 1, 1], "must be a list of 3, each a number, at least -1e+06 and at most 1e+06"),
        (
            "loss.weight",
            [1e300, 1],
            "must be a list of any number, each class=number or a number, at least 0 and at most 1e+09",
        ),
        ("optimizer.weight_decay", 1e300, "must be a number, at least 0 and at most 1e+09"),
        ("data.mean", [0.5, 0.5], "must be a list of 3"),
        ("optimizer.betas", 0.9, "must be a list of 2, each a number, at least 0 and less than 1"),
        ("schedule.decay.milestones", [0.5, "x"], "must be a list of any number, each a number, more than 0 and less than 1"),
        ("loss.reduction", "sum", "must be one of mean"),
    ],
)
def test_errors_are_named(key: str, value: object, words: str) -> None:
    (line,) = find_errors({key: value})
    assert line.startswith(f"{key}=")
    assert words in line


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.steps", None),
        ("trainer.epochs", 3),
        ("trainer.epochs", 0.5),
        ("seed", 0),
        ("loss.eps", 0),
        ("data.mean", [0, 0.5, 1]),
        ("loss.weight", ["a=2", "b=c=0.5"]),
    ],
)
def test_sound_values_pass(key: str, value: object) -> None:
    assert find_errors({key: value}) == []


def test_all_errors_at_once() -> None:
    found = find_errors({"trainer.batch_size": 0, "optimizer.lr": -1, "trainer.epochs": "abc", "seed": 0})
    assert [line.split("=")[0] for line in found] == ["trainer.batch_size", "optimizer.lr", "trainer.epochs"]


def test_errors_of_two_keys_together() -> None:
    assert "trainer.accumulation_steps=8" in find_errors({"trainer.batch_size": 4, "trainer.accumulation_steps": 8})[0]
    assert "something to train on" in find_errors({"data.val_fraction": 0.5, "data.test_fraction": 0.5})[0]


def test_every_trainer_setting_has_a_rule() -> None:
    assert {key.removeprefix("trainer.") for key in RULES if key.startswith("trainer.")} == set(
        TrainerSettings.__dataclass_fields__
    )


def test_durations() -> None:
    settings = replace(make_settings(compose_config()), epochs=2.5, validate_every_epochs=0.5)
    assert settings.total_steps(10) == 25
    assert settings.validate_every_steps(10) == 5
    assert settings.validate_every_steps(1) == 1
    assert replace(settings, steps=7).total_steps(10) == 7
