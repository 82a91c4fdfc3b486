"""What a sweep shows: on a terminal one live line per job and a bar for all; on a pipe, a line when a job starts or ends."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from vgg_nll import run_folder
from vgg_nll.escapes import printable
from vgg_nll.progress import duration
from vgg_nll.sweeps.jobs import Job
from vgg_nll.sweeps.status import FINISHED, INTERRUPTED, PRUNED, WAITING, Status

TAIL_BYTES = 2048
MAX_NAME = 60


class Display:
    """Shows the jobs of a sweep.

    Args:
        total: number of jobs; slots: how many run at once.
    """

    def __init__(self, total: int, slots: int) -> None:
        self._total, self._ended = total, 0
        self._numbers: dict[Job, int] = {}
        self._on_terminal = sys.stderr.isatty()
        lines = min(slots, max(1, (os.get_terminal_size(2).lines if self._on_terminal else 24) - 4))
        hidden = not self._on_terminal
        self._lines = [tqdm(position=k, bar_format="{desc}", leave=False, disable=hidden) for k in range(lines)]
        form = "{l_bar}{bar}| {n_fmt}/{total_fmt} jobs [{elapsed}<{remaining}]{postfix}"
        self._bar = tqdm(total=total, position=lines, bar_format=form, dynamic_ncols=True, disable=hidden)
        self._failures = 0

    def started(self, job: Job, *, resumed: bool) -> None:
        """A job begins, or continues."""
        self.write(f"{self._mark(job)}: {'continues' if resumed else 'starts'}")

    def known(self, job: Job, status: Status) -> None:
        """An earlier command, or another process, has done the job."""
        self._end(job, status, f"{status.state} before{_result(status)}")

    def ended(self, job: Job, status: Status, seconds: float) -> None:
        """A job that this process ran has ended."""
        reason = f": {status.reason}" if status.reason else ""
        stayed = " (the same command continues it)" if status.state in (INTERRUPTED, WAITING) else ""
        self._end(job, status, f"{status.state} after {duration(seconds)}{_result(status)}{reason}{stayed}")

    def refresh(self, running: Mapping[Job, Path]) -> None:
        """Shows the last line of the log of each running job."""
        if not self._on_terminal:
            return
        jobs = list(running.items())
        for k, line in enumerate(self._lines):
            line.set_description_str(f"{self._mark(jobs[k][0])}: {_last_line(jobs[k][1])}" if k < len(jobs) else "")

    def write(self, text: str) -> None:
        """Writes a line that stays."""
        if self._on_terminal:
            tqdm.write(printable(text), file=sys.stdout)
        else:
            print(printable(text), flush=True)

    def close(self) -> None:
        """Ends the live lines; the bar stays."""
        for bar in (*self._lines, self._bar):
            bar.close()

    def _end(self, job: Job, status: Status, text: str) -> None:
        self._ended += 1
        self._failures += status.state not in (FINISHED, PRUNED)
        self.write(f"{self._mark(job)}: {text}")
        if self._failures:
            self._bar.set_postfix_str(f", {self._failures} not finished", refresh=False)
        self._bar.update()

    def _mark(self, job: Job) -> str:
        number = self._numbers.setdefault(job, len(self._numbers) + 1)
        name = job.name if len(job.name) <= MAX_NAME else f"{job.name[:MAX_NAME]}..."
        return f"[{number}/{max(self._total, number)}] {name}"


def _result(status: Status) -> str:
    return "" if status.objective is None else f", validation accuracy {status.objective:.4f}"


def _last_line(folder: Path) -> str:
    """Returns the last line of a run's log; empty if there is none yet."""
    try:
        with (folder / run_folder.LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return "loads"
    return printable(next((line for line in reversed(lines) if line.strip()), "loads"))
