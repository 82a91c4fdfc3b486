"""Evaluation during training: by any batch size, by all ranks together, until a signal."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.configs import TINY, Config, make_data, make_model
from helpers.runs import train

from vgg_nll.data.bad_files import REPLACED, BadImage
from vgg_nll.data.interface import TRAIN_EVAL
from vgg_nll.distributed.process_group import ALONE, Ranks
from vgg_nll.errors import DataError
from vgg_nll.losses import argmax_nll
from vgg_nll.training.evaluator import Evaluator
from vgg_nll.training.optim import make_average
from vgg_nll.training.state import TrainState


class Stopped(Exception):
    """Stands for a signal."""


def make_evaluator(config: Config, **changes: Any) -> Evaluator:
    """Of an untrained network and its 8 validation images, in batches of 3."""
    cfg = config(*TINY, "trainer.eval_batch_size=3")
    data = make_data(config, *TINY, "trainer.eval_batch_size=3")
    model = make_model(cfg, data)
    state = TrainState(model, torch.optim.SGD(model.parameters(), lr=0.1), torch.device("cpu"))
    settings = {"batch_size": 3, "ranks": ALONE, "stop_if_requested": lambda ranks: None} | changes
    return Evaluator(state, data, argmax_nll, torch.float32, **settings)


def test_bars_count_the_batches_of_their_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also that of the training images, which is of a part of them."""
    bars: dict[str, set[tuple[int, int]]] = {}

    def count(items: Iterable[object], total: int, what: str) -> Iterator[object]:
        batches = list(items)
        bars.setdefault(what, set()).add((total, len(batches)))
        yield from batches

    monkeypatch.setattr("vgg_nll.training.evaluator.track", count)
    train(tmp_path, *TINY, "trainer.steps=1", "trainer.eval_batch_size=1", "data.num_images=100", "tracking=none")
    assert {what: all(total == batches for total, batches in pairs) for what, pairs in bars.items()} == dict.fromkeys(
        ("val", "test", "training images"), True
    )
    assert max(bars["training images"]) > (1, 1)


@pytest.mark.slow
def test_evaluation_by_any_batch_size(tmp_path: Path) -> None:
    quick = (*TINY, "tracking=none", "trainer.steps=2")
    results = [train(tmp_path / str(size), *quick, f"trainer.eval_batch_size={size}")["val"] for size in (1, 7, 8)]
    for name, first in results[0].items():
        for other in results[1:]:
            assert (other[name] is first is None) or other[name] == pytest.approx(first, abs=1e-5), name


@pytest.mark.parametrize(
    ("size", "rounds", "images"), [(1, 3, [8]), (2, 2, [5, 3]), (3, 1, [3, 3, 2]), (5, 1, [3, 3, 2, 0, 0])]
)
def test_all_ranks_go_as_many_rounds(config: Config, size: int, rounds: int, images: list[int]) -> None:
    """Also one without a batch in the last round, or in any: each round, all agree on whether to stop."""
    asked: list[Ranks] = []
    evaluator = make_evaluator(config, stop_if_requested=asked.append)
    for rank, expected in enumerate(images):
        asked.clear()
        ranks = Ranks(rank, size)
        assert sum(len(target) for _, target in replace(evaluator, ranks=ranks).batches("val")) == expected
        assert asked == [ranks] * rounds


def test_a_signal_ends_an_evaluation_between_two_batches(config: Config) -> None:
    asked: list[Ranks] = []

    def stop(ranks: Ranks) -> None:
        asked.append(ranks)
        if len(asked) == 2:
            raise Stopped

    evaluator = make_evaluator(config, stop_if_requested=stop)
    evaluator.state.model.train()
    with pytest.raises(Stopped):
        evaluator.evaluate("val")
    assert len(asked) == 2
    assert evaluator.state.model.training


def test_the_average_is_evaluated_if_there_is_one(config: Config) -> None:
    evaluator = make_evaluator(config)
    plain = evaluator.evaluate("val").values
    evaluator.state.average = make_average(evaluator.state.model, 0.5)
    with torch.no_grad():
        for parameter in evaluator.state.model.parameters():
            parameter.mul_(3)
    assert evaluator.evaluate("val").values == plain
    evaluator.state.average = None
    assert evaluator.evaluate("val").values != plain


def test_training_images_are_a_fixed_part(config: Config) -> None:
    evaluator = make_evaluator(config)
    first, second = (evaluator.evaluate(TRAIN_EVAL).sums.by_image() for _ in range(2))
    assert len(first.target) == 1  # a sixteenth of 24
    assert torch.equal(first.true_margin, second.true_margin)


class Other(Ranks):
    """Rank 0 of two; what the other one has met is one bad picture of the validation split."""

    def gather(self, value: Any) -> list[Any]:
        return [value, [BadImage("a.png", "val", "x", "broken", REPLACED, True)]]


def test_bad_pictures_of_other_ranks_count(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = make_evaluator(config, ranks=Other(0, 2))
    monkeypatch.setattr("vgg_nll.evaluation.loop.evaluate", lambda *_, **__: "done")
    monkeypatch.setattr(Ranks, "broadcast_module", lambda *_, **__: None)
    with pytest.raises(DataError, match=r"a\.png: broken"):
        evaluator.evaluate("val")
    assert list(evaluator.data.bad_images.rows) == ["a.png"]
