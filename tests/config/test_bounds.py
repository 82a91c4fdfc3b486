"""A constructor that checks an argument itself takes what the rule of its key allows, and refuses what the rule refuses."""

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import hydra
import pytest
import torch
from helpers.configs import ROOT
from omegaconf import OmegaConf

from vgg_nll.config.rule import Rule
from vgg_nll.config.rules import RULES, find_errors
from vgg_nll.data.preprocessing import Preprocessing
from vgg_nll.hardware import choose_device, choose_dtype

CPU = torch.device("cpu")
Call = Callable[[Any], object]
# Keys whose constructors have a check of their own. The others are checked by their rules alone.
CHECKED = {
    *("device", "data.num_classes", "data.image_size", "data.mean", "data.std", "trainer.precision"),
    *("model.dropout", "model.head", "model.width"),
    *("loss.select", "loss.class_reduction", "loss.reduction", "loss.label_smoothing", "loss.eps"),
}
PARTLY = {"augment.erasing"}  # torchvision refuses more than 1; less than 0 is none
# By the program, before the constructor is called.
REPLACED = [("model.head", "auto")]


def neighbours(rule: Rule) -> Iterator[Any]:
    """Yields values at each bound of a rule and just beyond, and values of no number or choice."""
    if rule.choices:
        yield from (*rule.choices, "nope", "")
        return
    bounds = [bound for bound in (rule.min_value, rule.above, rule.below, rule.max_value) if math.isfinite(bound)]
    for bound in bounds:
        if rule.type is int:
            yield from (int(bound) - 1, int(bound), int(bound) + 1)
        else:
            yield from (math.nextafter(bound, -math.inf), float(bound), math.nextafter(bound, math.inf))
    if rule.type is float:
        yield from (math.nan, math.inf, -math.inf)


def values_of(key: str) -> list[Any]:
    """Returns values at the bounds of a key's rule and just beyond; for a list, lists in which one number is such a value."""
    rule = RULES[key]
    if key == "device":
        return [
            "auto",
            "cpu",
            "cuda",
            "cuda:0",
            "cuda:1",
            "cuda:99",
            "cuda:100",
            "cuda:128",
            "cuda:01",
            "cuda:-1",
            "cuda:",
            "mps",
            "",
        ]
    if rule.items is None:
        return list(neighbours(rule))
    valid = [0.5] * rule.items
    return [valid, valid[1:], *([*valid[1:], value] for value in neighbours(rule))]


def on_meta(constructor: Callable[..., object], **given: Any) -> object:
    with torch.device("meta"):  # a network of width 8 takes gigabytes
        return constructor(**given)


def calls() -> Iterator[tuple[str, Call, bool]]:
    """Yields (key, constructor as a function of its value, whether it is of this package) for every file of configs/."""
    yield "device", choose_device, True
    yield "trainer.precision", lambda value: choose_dtype(value, CPU), True
    yield "data.image_size", lambda value: Preprocessing(value, value, [0.5] * 3, [0.5] * 3, CPU), True
    yield "data.mean", lambda value: Preprocessing(32, 32, value, [0.5] * 3, CPU), True
    yield "data.std", lambda value: Preprocessing(32, 32, [0.5] * 3, value, CPU), True
    found = {}
    for group in ("model", "loss", "augment", "optimizer"):
        for path in (ROOT / "configs" / group).glob("*.yaml"):
            target = OmegaConf.load(path).get("_target_")
            if target is not None:
                found[target] = group
    for target, group in sorted(found.items()):
        constructor = hydra.utils.get_object(target)
        given: dict[str, Any] = {"params": [torch.zeros(1)], "momentum": 0.5} if group == "optimizer" else {}
        names = inspect.signature(constructor).parameters
        given = {name: value for name, value in given.items() if name in names}
        for name in names:
            key = "data.num_classes" if name == "num_classes" else f"{group}.{name}"
            if key in RULES and key != "loss.weight":  # a tensor

                def call(value: Any, made: Any = constructor, name: str = name, given: Any = given) -> object:
                    return on_meta(made, **given | {name: value})

                yield key, call, target.startswith("vgg_nll.")


def takes(call: Call, value: Any) -> bool:
    try:
        call(value)
    except (ValueError, TypeError, LookupError):
        return False
    return True


CALLS = [pytest.param(*row, id=f"{row[0]}-{number}") for number, row in enumerate(calls())]


@pytest.fixture(autouse=True)
def a_hundred_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 100)


@pytest.mark.parametrize(("key", "call", "is_ours"), CALLS)
def test_a_constructor_agrees_with_the_rule(key: str, call: Call, is_ours: bool) -> None:
    """PyTorch's may take more: a learning rate of 0, a momentum of 1."""
    values = [value for value in values_of(key) if (key, value) not in REPLACED]
    allowed = {str(value): find_errors({key: value}) == [] for value in values}
    taken = {str(value): takes(call, value) for value in values}
    assert RULES[key].type is bool or {*allowed.values()} == {True, False}
    if is_ours and key in CHECKED:
        assert taken == allowed
    else:
        assert [value for value in allowed if allowed[value] and not taken[value]] == []
        assert not is_ours or key in PARTLY or all(taken.values()), f"{key} has a check of its own: add it to CHECKED"


def test_every_checked_key_is_compared() -> None:
    assert {key for key, _, is_ours in calls() if is_ours} >= CHECKED
