"""What a person sees while a run works: bars on a terminal, plain lines on a pipe."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import TypeVar

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

T = TypeVar("T")
log = logging.getLogger(__name__)
LINE_SECONDS = 10.0  # on a pipe, at most one line of news per so many seconds


class Progress:
    """A bar over the optimizer steps of a run, with the latest loss, accuracy and images/s behind it."""

    def __init__(self, total_steps: int, first_step: int) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._total_steps = total_steps
        self._last_line = time.monotonic()
        self._bar = tqdm(total=total_steps, initial=first_step, unit="step", disable=not self._on_terminal, dynamic_ncols=True)

    def advance(self) -> None:
        """One step more."""
        self._bar.update()

    def update(self, step: int, text: str) -> None:
        """The latest figures: behind the bar, or as a line of its own every ten seconds."""
        if self._on_terminal:
            self._bar.set_postfix_str(text)
        elif time.monotonic() - self._last_line >= LINE_SECONDS or step == self._total_steps:
            self._last_line = time.monotonic()
            self.write(f"step {step}/{self._total_steps}  {text}")

    def write(self, text: str) -> None:
        """A line that stays, also in the log file."""
        # on a terminal the bar steps aside for it
        with logging_redirect_tqdm() if self._on_terminal else nullcontext():
            log.info(text)

    def close(self) -> None:
        """Leaves the bar where it is."""
        self._bar.close()


def track(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """`items`, with a bar on a terminal that goes away at the end."""
    yield from tqdm(items, total=total, desc=what, leave=False, disable=not sys.stderr.isatty(), dynamic_ncols=True)
