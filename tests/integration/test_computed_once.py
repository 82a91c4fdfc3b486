"""Nothing is computed to be thrown away, and nothing twice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.configs import compose_config, make_model
from helpers.runs import train
from torch.overrides import TorchFunctionMode

import vgg_nll
from vgg_nll import rng


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
