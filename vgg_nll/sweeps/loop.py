"""The loop of a sweep: claim a job, start it, take its result, until there is none left."""

import contextlib
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vgg_nll.comparison.keys import IGNORED
from vgg_nll.config.compose import key_of
from vgg_nll.files import atomic_write
from vgg_nll.run_folder import paths
from vgg_nll.sweeps import record, status
from vgg_nll.sweeps.display import Display
from vgg_nll.sweeps.grid import Search
from vgg_nll.sweeps.job_names import Job
from vgg_nll.sweeps.local_launcher import Launcher, Started
from vgg_nll.sweeps.means import Means
from vgg_nll.sweeps.record import Sweep
from vgg_nll.sweeps.status import DONE_WITH, FAILED, INTERRUPTED, RUNNING, WAITING, Status
from vgg_nll.training.signals import Signals

POLL_SECONDS = 0.5
MAX_ERRORS_BYTES = 1 << 20
ERROR = "error: "
KEEP = "checkpoint.keep"


@dataclass
class Running:
    """A job that this process has claimed and started."""

    started: Started
    claim: contextlib.ExitStack
    errors: Path
    begin: float


@dataclass
class Loop:
    """Runs the jobs of a search, each once. A job that another process has claimed is left to it, and its result awaited.

    Args:
        register: overrides of a job -> the job, with its place in the sweep's record.
        arguments: of the command line of every job, besides its overrides.
        fail_fast: the first job that fails stops the others.
    """

    sweep: Sweep
    search: Search
    launcher: Launcher
    display: Display
    signals: Signals
    means: Means
    register: Callable[[Sequence[str]], Job]
    arguments: Sequence[str]
    fail_fast: bool
    statuses: dict[Job, Status] = field(default_factory=dict)
    _running: dict[Job, Running] = field(default_factory=dict)
    _elsewhere: deque[Job] = field(default_factory=deque)
    _stopping: bool = False
    _shares: bool = False

    def run(self) -> dict[Job, Status]:
        """Returns the status of every job, after the last one has ended or, after a signal, has saved its state."""
        try:
            while True:
                self._start_jobs()
                if not self._running and (self._stopping or not self._elsewhere):
                    return self.statuses
                self._wait()
                for job in list(self._running):
                    self._take_result(job)
                if self.signals.stop is not None:
                    self._stop(f"{self.signals.stop.name}: {len(self._running)} jobs save their state")
        finally:
            self._end_all()
            self.means.finish()
            self.display.close()

    def _start_jobs(self) -> None:
        while not self._stopping and len(self._running) < self.launcher.slots:
            if not (self._start_elsewhere() or self._start_new()):
                return

    def _start_elsewhere(self) -> bool:
        """Starts a job that another process had, and has left unfinished; returns whether there was one."""
        return any(self._start(self._elsewhere.popleft()) for _ in range(len(self._elsewhere)))

    def _start_new(self) -> bool:
        """Starts the next job of the search; returns whether there was one."""
        while (overrides := self.search.ask()) is not None:
            job = self.register(overrides)
            is_new = job not in self.statuses and job not in self._running and job not in self._elsewhere
            if is_new and self._start(job):
                return True
        return False

    def _start(self, job: Job) -> bool:
        """Claims a job and starts it; False if another process has it, or has finished it."""
        with contextlib.ExitStack() as claim:
            if claim.enter_context(self.sweep.claim(job)):
                now = status.of(self.sweep.folder_of(job))  # after the claim: another process may just have finished it
                if now.state in DONE_WITH:
                    self._settle(job, now)
                    self.display.known(job, now)
                    return False
                if now.state != RUNNING:
                    self._launch(job, claim.pop_all())
                    return True
        if not self._elsewhere and not self._shares:
            self._shares = True
            self.display.write("another process works on this sweep, too; on one CPU, launcher.jobs=2 in one command is faster")
        self._elsewhere.append(job)
        return False

    def _launch(self, job: Job, claim: contextlib.ExitStack) -> None:
        folder, errors = self.sweep.folder_of(job), self.sweep.private(f"{job.name}.err")
        resumed = paths.has_checkpoint(folder)
        folder.mkdir(parents=True, exist_ok=True)
        errors.unlink(missing_ok=True)
        (folder / paths.FAILED).unlink(missing_ok=True)
        # What changes no result, and classes of the user's own, which a record alone may not name.
        free = [word for word in job.overrides if f"{key_of(word)}.".startswith(IGNORED) or key_of(word).endswith("._target_")]
        # A finished job is never continued: its state, six times its weights, would serve nothing.
        kept = [] if any(key_of(word) == KEEP for word in job.overrides) else [f"{KEEP}=best"]
        place = [f"resume={folder}", *free] if resumed else [*job.overrides, f"hydra.run.dir={folder}", *kept]
        started = self.launcher.start([*place, *self.arguments], errors)
        self._running[job] = Running(started, claim, errors, time.monotonic())
        self.display.started(job, resumed=resumed)

    def _wait(self) -> None:
        self.display.refresh({job: self.sweep.folder_of(job) for job in self._running})
        started = [running.started for running in self._running.values()]
        if started:
            self.launcher.wait(started, POLL_SECONDS)
        else:
            time.sleep(POLL_SECONDS)

    def _take_result(self, job: Job) -> None:
        running = self._running[job]
        code = running.started.exit_code()
        if code is None:
            return
        del self._running[job]
        now = self._result(job, running, code)
        running.errors.unlink(missing_ok=True)
        running.claim.close()
        self._settle(job, now)
        self.display.ended(job, now, time.monotonic() - running.begin)
        if self.fail_fast and now.state == FAILED and not self._stopping:
            self._stop(f"sweep.fail_fast=true: {len(self._running)} jobs save their state")

    def _result(self, job: Job, running: Running, code: int) -> Status:
        """Returns the status of a job whose process has ended; writes what it printed into its log, and FAILED into its
        folder."""
        folder = self.sweep.folder_of(job)
        folder.mkdir(exist_ok=True)  # a run that does not begin removes its folder
        printed = _read(running.errors)
        if printed:
            with (folder / paths.LOG).open("a", encoding="utf-8") as log:
                log.write(printed)
        now = status.of(folder, look_for_processes=False)
        if now.state in (*DONE_WITH, FAILED):
            return now
        printed_lines = printed.splitlines()
        stopped = [line for line in printed_lines if line.startswith("stopped by ")]
        has_errors = any(line.startswith(ERROR) for line in printed_lines)
        was_asked = self._stopping or self.signals.stop is not None
        if not has_errors and (was_asked or code < 0 or code > 128 or stopped):
            by = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            reason = "" if was_asked else (stopped or [f"killed by {by}"])[-1]
            return Status(WAITING if now.state == WAITING and was_asked else INTERRUPTED, reason)
        reason = _reason(printed) or f"the process ended with exit code {code}"
        atomic_write(folder / paths.FAILED, f"{reason}\n")
        return Status(FAILED, reason)

    def _settle(self, job: Job, now: Status) -> None:
        self.statuses[job] = now
        self.search.tell(job, now)
        with record.locked(self.sweep.folder):
            others = {
                other: status.of(self.sweep.folder_of(other))
                for other in self.sweep.jobs.values()
                if other not in self.statuses
            }
            status.write_table(self.sweep, others | self.statuses)
        if now.state == status.FINISHED:
            self.means.update(job)

    def _stop(self, why: str) -> None:
        if not self._stopping:
            self._stopping = True
            self.display.write(why)
        for running in self._running.values():
            running.started.stop()

    def _end_all(self) -> None:
        """After an error of the sweep itself: no job runs on unseen."""
        for running in self._running.values():
            running.started.stop()
        for running in self._running.values():
            while running.started.exit_code() is None:
                self.launcher.wait([running.started], POLL_SECONDS)
            running.claim.close()


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_ERRORS_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return ""


def _reason(printed: str) -> str:
    """Returns the errors that a job has printed, on one line; of a traceback, its last line."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    errors = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    return "; ".join(errors) or (lines[-1] if lines else "")
