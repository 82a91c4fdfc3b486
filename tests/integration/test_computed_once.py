"""Nothing is computed to be thrown away, and nothing twice."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.configs import TINY, compose_config, make_model
from helpers.runs import train
from torch.overrides import TorchFunctionMode

import vgg_nll
from vgg_nll import rng
from vgg_nll.data.interface import Batch
from vgg_nll.data.memory.data_set import InMemoryData
from vgg_nll.training.first_batches import FirstBatches


class Draws(TorchFunctionMode):
    """Counts the draws of weights inside the block."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.number += function in rng.DRAWS
        return function(*args, **(kwargs or {}))


def test_a_network_that_gets_weights_draws_none(stopped: Path, light: tuple[str, ...]) -> None:
    """Neither in a resumed run nor to predict, evaluate or export."""
    with Draws() as draws:
        make_model(compose_config(*light))
    assert draws.number > 0
    with Draws() as draws:
        train(stopped, *light, f"resume={stopped}")
        vgg_nll.load(stopped)
    assert draws.number == 0


@pytest.mark.parametrize("overrides", [(), ("model.freeze=features", "augment=none", "data.shift_pixels=0")])
@pytest.mark.usefixtures("no_figures")
def test_the_first_batches_are_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]) -> None:
    """For the images in TensorBoard (16, of 4 batches), for the untrained loss, and for the first steps."""
    loaded: list[tuple[int, int]] = []
    train_batches = InMemoryData.train_batches

    def counted(self: InMemoryData, epoch: int, start: int = 0) -> Iterator[Batch]:
        for place, batch in enumerate(train_batches(self, epoch, start), start):
            loaded.append((epoch, place))
            yield batch

    monkeypatch.setattr(InMemoryData, "train_batches", counted)
    train(tmp_path, *TINY, "trainer.steps=2", *overrides)
    assert loaded == [(0, place) for place in range(4)]


@pytest.mark.usefixtures("no_figures")
def test_nothing_is_loaded_for_images_that_nobody_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, light: tuple[str, ...]
) -> None:
    looked_at: list[int] = []
    peek = FirstBatches.peek

    def noted(self: FirstBatches, batches: int) -> list[Batch]:
        looked_at.append(batches)
        return peek(self, batches)

    monkeypatch.setattr(FirstBatches, "peek", noted)
    train(tmp_path, *light, "trainer.steps=1")
    assert looked_at == [1]  # the untrained loss
