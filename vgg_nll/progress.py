"""Progress: bars on a terminal, plain lines on a pipe."""

import logging
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import TypeVar

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from vgg_nll.escapes import printable

T = TypeVar("T")
log = logging.getLogger(__name__)
LINE_SECONDS = 10.0  # on a pipe, at least this long between two lines
MAX_COLUMNS = 80
WEEK = 7 * 86_400.0
ESTIMATE_SECONDS = 3.0  # of steps, before the rest of the run is estimated from them


class Progress:
    """A bar over the optimizer steps of a run, with the latest loss, accuracy and images/s."""

    def __init__(self, total_steps: int, first_step: int) -> None:
        self._on_terminal = _has_bars()
        self._total_steps = total_steps
        self._last_line = time.monotonic()
        self._steps, self._first_end = first_step, 0.0
        self._has_estimated = False
        self._bar = tqdm(
            total=total_steps,
            initial=first_step,
            disable=not self._on_terminal,
            ncols=_bar_columns(),
            bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {remaining}{desc}",
        )

    def advance(self) -> None:
        """Moves the bar by one step; once, after some seconds, writes how long the rest will take."""
        self._bar.ncols = _bar_columns()  # the window may have changed; it costs 6 microseconds
        self._bar.update()
        self._steps, now = self._steps + 1, time.monotonic()
        if self._first_end == 0.0:  # the first step sets libraries up, and does not count
            self._first_end, self._first_step = now, self._steps
        elif not self._has_estimated and now - self._first_end >= ESTIMATE_SECONDS:
            self._has_estimated = True
            step = (now - self._first_end) / (self._steps - self._first_step)
            rest = step * (self._total_steps - self._steps)
            if rest >= LINE_SECONDS:
                end = _until(time.time() + rest) if rest < WEEK else ""
                self.write(f"about {duration(rest)} to go{end}: {step:.2g} s a step; validations come on top")

    def update(self, step: int, parts: Sequence[str]) -> None:
        """Shows the latest metrics: after the bar, or as a line at most every ten seconds and at the last step.

        Args:
            parts: the most important one first: a narrow terminal shows those that fit beside five columns of bar.
        """
        text = "  ".join(parts)
        if self._on_terminal:
            self._bar.ncols = _bar_columns()
            room = self._bar.ncols - 22 - 2 * len(str(self._total_steps))
            while len(text) > room and "  " in text:
                text = text.rpartition("  ")[0]
            self._bar.set_description_str(f"  {text}")
        elif time.monotonic() - self._last_line >= LINE_SECONDS or step == self._total_steps:
            self._last_line = time.monotonic()
            self.write(f"step {step}/{self._total_steps}  {text}")

    def write(self, text: str) -> None:
        """Writes a line that stays, also in the log file."""
        # on a terminal, tqdm redraws the bar below the line
        with logging_redirect_tqdm() if self._on_terminal else nullcontext():
            log.info(text)

    def close(self) -> None:
        """Ends the bar, which stays on the screen."""
        self._bar.close()


class JobBars:
    """A bar over many jobs, with a live line above it for each of those that run; nothing on a pipe but plain lines.

    Args:
        total: number of jobs; lines: how many run at once.
    """

    def __init__(self, total: int, lines: int) -> None:
        self.is_live = sys.stderr.isatty()
        room = shutil.get_terminal_size().lines - 4 if self.is_live else lines
        lines, hidden = max(1, min(lines, room)), not self.is_live
        form = "{l_bar}{bar}| {n_fmt}/{total_fmt} jobs [{elapsed}<{remaining}]{postfix}"
        self._lines = [tqdm(position=k, bar_format="{desc}", leave=False, disable=hidden) for k in range(lines)]
        self._bar = tqdm(total=total, position=lines, bar_format=form, dynamic_ncols=True, disable=hidden)

    def show(self, texts: Sequence[str]) -> None:
        """Shows a text on each live line."""
        width = shutil.get_terminal_size().columns
        for k, line in enumerate(self._lines):
            line.set_description_str(printable(texts[k])[: width - 1] if k < len(texts) else "")

    def write(self, text: str) -> None:
        """Writes a line that stays."""
        if self.is_live:
            tqdm.write(printable(text))
        else:
            print(printable(text), flush=True)

    def advance(self, note: str) -> None:
        """Moves the bar by one job, with a note after it."""
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update()

    def close(self) -> None:
        """Ends the live lines; the bar stays."""
        for bar in (*self._lines, self._bar):
            bar.close()


def _has_bars() -> bool:
    """Returns whether to show bars: on a terminal, in the first of the processes that torchrun started."""
    return sys.stderr.isatty() and os.environ.get("RANK", "0") == "0"


def _bar_columns() -> int:
    """Returns the width of the bar: at most 80 columns, so that a wide window may be made narrower without a trace of it."""
    return min(shutil.get_terminal_size().columns, MAX_COLUMNS) - 1


def _until(end: float) -> str:
    """Returns ", until 14:05", with the day of the week if that is not today."""
    day, now = time.localtime(end), time.localtime(time.time())
    return time.strftime(", until %H:%M" if day[:3] == now[:3] else ", until %a %H:%M", day)


def duration(seconds: float) -> str:
    """Returns "50 s", "12 min", "3.5 h" or "2.1 days"."""
    for size, digits, unit, limit in ((1, 0, "s", 100), (60, 0, "min", 6000), (3600, 1, "h", 172_800)):
        if seconds < limit:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds / 86_400:.1f} days"


def track(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yields `items`, with a bar on a terminal that disappears at the end."""
    yield from tqdm(items, total=total, desc=what, leave=False, disable=not _has_bars(), dynamic_ncols=True)
