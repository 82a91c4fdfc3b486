"""What a sweep shows: a line when a job starts or ends, and, on a terminal, what each running job does now."""

import os
from collections.abc import Mapping
from pathlib import Path

from vgg_nll.progress import JobBars, duration
from vgg_nll.run_folder import paths
from vgg_nll.sweeps.job_names import Job
from vgg_nll.sweeps.status import FINISHED, INTERRUPTED, PRUNED, WAITING, Status

TAIL_BYTES = 2048
MAX_NAME = 60


class Display:
    """Shows the jobs of a sweep.

    Args:
        total: number of jobs; slots: how many run at once.
    """

    def __init__(self, total: int, slots: int) -> None:
        self._total, self._unfinished = total, 0
        self._numbers: dict[Job, int] = {}
        self._bars = JobBars(total, slots)

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
        if self._bars.is_live:
            self._bars.show([f"{self._mark(job)}: {_last_line(folder)}" for job, folder in running.items()])

    def write(self, text: str) -> None:
        """Writes a line that stays."""
        self._bars.write(text)

    def close(self) -> None:
        """Ends the live lines; the bar stays."""
        self._bars.close()

    def _end(self, job: Job, status: Status, text: str) -> None:
        self._unfinished += status.state not in (FINISHED, PRUNED)
        self.write(f"{self._mark(job)}: {text}")
        self._bars.advance(f"{self._unfinished} not finished" if self._unfinished else "")

    def _mark(self, job: Job) -> str:
        number = self._numbers.setdefault(job, len(self._numbers) + 1)
        name = job.name if len(job.name) <= MAX_NAME else f"{job.name[:MAX_NAME]}..."
        return f"[{number}/{max(self._total, number)}] {name}"


def _result(status: Status) -> str:
    return "" if status.objective is None else f", validation {status.metric.title} {status.objective:.4f}"


def _last_line(folder: Path) -> str:
    """Returns the last line of a run's log."""
    try:
        with (folder / paths.LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        lines = []
    return next((line for line in reversed(lines) if line.strip()), "loads")
