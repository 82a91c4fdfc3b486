"""Which network is better: by its metric, then by the NLL; and what the choices are."""

import math

import pytest

from vgg_nll.config.rules import RULES
from vgg_nll.evaluation.best_step import CRITERIA, score

EARLIER = {"accuracy": 0.9, "balanced_accuracy": 0.8, "nll_argmax": 0.41, "refinement": 0.3}


def test_the_choices_are_those_of_the_config() -> None:
    assert set(RULES["trainer.best"].choices) == set(CRITERIA)


@pytest.mark.parametrize(
    ("best", "later", "is_better"),
    [
        ("accuracy", {"nll_argmax": 0.87}, False),  # as accurate, and more confident
        ("accuracy", {"nll_argmax": 0.40}, True),
        ("accuracy", {}, False),  # nothing has changed
        ("accuracy", {"accuracy": 0.91, "nll_argmax": 9.0}, True),
        ("balanced_accuracy", {"balanced_accuracy": 0.81, "accuracy": 0.5}, True),
        ("nll", {"nll_argmax": 0.40, "accuracy": 0.1}, True),
        ("nll", {"nll_argmax": 0.42, "accuracy": 1.0}, False),
        ("refinement", {"refinement": 0.29, "nll_argmax": 2.0}, True),
        ("refinement", {"refinement": 0.31, "nll_argmax": 0.1}, False),
    ],
)
def test_what_is_better(best: str, later: dict[str, float], is_better: bool) -> None:
    assert (score(EARLIER | later, best) > score(EARLIER, best)) is is_better


@pytest.mark.parametrize("best", CRITERIA)
def test_a_value_is_better_than_none(best: str) -> None:
    assert score({"nll_argmax": 0.4} | EARLIER, best) >= score({"accuracy": 0.0, "nll_argmax": math.inf}, best)
