"""A clock that a test moves."""

from collections.abc import Callable
from typing import Any


class Clock:
    """Takes the place of `time.perf_counter`; see the fixture `clock`."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Moves the clock."""
        self.now += seconds

    def takes(self, seconds: float, call: Callable[..., Any] = lambda *_, **__: None) -> Callable[..., Any]:
        """Returns `call`, which moves the clock by `seconds`."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            self.now += seconds
            return call(*args, **kwargs)

        return timed
