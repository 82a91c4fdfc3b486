"""Jobs as processes of this machine: one process, one session and, if there are any, one GPU each."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from vgg_nll.errors import ConfigError

MAX_THREADS = 1 << 10  # none: PyTorch knows the cores
MEMORY_PER_JOB = 4 << 30  # bytes, for `launcher.jobs=auto` without GPUs
JobMain = Callable[[list[str]], None]  # the command line of one run -> its run, in this process


class Started(Protocol):
    """A job that has been started."""

    def exit_code(self) -> int | None:
        """Returns None while the job runs; then its exit code, or minus the signal that ended it."""
        ...

    def stop(self) -> None:
        """Asks the job to save its state and end."""
        ...


class Launcher(Protocol):
    """Starts jobs, up to `slots` at once."""

    slots: int

    def start(self, arguments: Sequence[str], errors: Path) -> Started:
        """Starts a run with these arguments of the command line; what it prints to stderr goes to the file `errors`."""
        ...

    def wait(self, started: Sequence[Started], seconds: float) -> None:
        """Waits until one of the jobs ends, for `seconds` at most."""
        ...

    def describe(self) -> str:
        """Returns where jobs run, for a line that a person reads."""
        ...


class LocalLauncher:
    """Starts jobs on this machine. Every job stops, with its state saved, if this process ends in whatever way.

    Args:
        jobs: how many at once, or "auto".
        main: what a job does; importable.
        device: of the jobs' configs: "auto", "cpu", "cuda" or "cuda:<number>".

    Raises ConfigError if there are fewer GPUs than jobs.
    """

    def __init__(self, jobs: int | str, *, main: JobMain, device: str, folder: Path) -> None:
        self._main = main
        self._gpus = gpus() if device in ("auto", "cuda") else []
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if jobs == "auto":
            jobs = len(self._gpus) or (1 if device.startswith("cuda") else max(1, min(cores, _memory() // MEMORY_PER_JOB)))
        self.slots = int(jobs)
        if self._gpus and self.slots > len(self._gpus):
            there = "there is 1 GPU" if len(self._gpus) == 1 else f"there are {len(self._gpus)} GPUs"
            raise ConfigError(f"launcher.jobs={jobs}: {there}, and every job takes one; lower it, or set device=cpu")
        if self.slots > 1 and device.startswith("cuda:"):
            raise ConfigError(f"launcher.jobs={jobs}: device={device} is one GPU; device=auto gives each job its own")
        if self.slots > 1 and device == "cuda" and not self._gpus:
            raise ConfigError(f"launcher.jobs={jobs}: no GPU was found; set device=cpu, or install nvidia-smi")
        self._free = list(range(self.slots))

    def start(self, arguments: Sequence[str], errors: Path) -> "LocalJob":
        slot = self._free.pop(0)
        environment = {"CUDA_VISIBLE_DEVICES": self._gpus[slot]} if self._gpus else {}
        share = Share(environment, self.slots, MAX_THREADS, errors)
        # PyTorch reads which GPUs it may see when it is loaded: a job with a GPU of its own starts from nothing.
        process = new_process(run_job, self._main, list(arguments), share, afresh=bool(self._gpus))
        process.start()
        return LocalJob(process, slot, self._free)

    def wait(self, started: Sequence[Started], seconds: float) -> None:
        connection.wait([job.process.sentinel for job in started if isinstance(job, LocalJob)], seconds)

    def describe(self) -> str:
        if self.slots == 1:
            return "one at a time"
        where = "a GPU each" if self._gpus else "the cores divided among them"
        return f"{self.slots} at a time, {where}"


@dataclass
class LocalJob:
    """A process, and the slot that it takes."""

    process: BaseProcess
    slot: int
    free: list[int]

    def exit_code(self) -> int | None:
        code = self.process.exitcode
        if code is not None and self.slot >= 0:
            self.free.append(self.slot)
            self.slot = -1
        return code

    def stop(self) -> None:
        if self.process.is_alive():
            self.process.terminate()


@dataclass(frozen=True)
class Share:
    """What a job gets of the machine: environment variables, 1 / `jobs` of the threads, but no more than `max_threads`; and a
    file for its stderr."""

    environment: Mapping[str, str]
    jobs: int
    max_threads: int
    errors: Path


# Loaded once, by the process that the others are forked from, which saves each of them two to four seconds: what a run needs,
# what means need, and the library that has the digits.
PRELOADED = [
    *("vgg_nll.cli.launch", "vgg_nll.run", "vgg_nll.data.memory.data_set", "vgg_nll.data.memory.sources", "sklearn.datasets"),
    *("vgg_nll.tracking.event_files", "vgg_nll.comparison.statistics"),
]


def new_process(function: Callable[..., object], *arguments: Any, afresh: bool = False) -> BaseProcess:
    """Returns a process that will call the function.

    Args:
        afresh: it loads everything itself.
    """
    if afresh or "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    # A Ctrl-C while PyTorch is loaded is for this process; the other one ends with it, and says nothing.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    forkserver.ensure_running()
    signal.signal(signal.SIGINT, before)
    return context.Process(target=function, args=arguments)


def run_job(main: JobMain, arguments: list[str], share: Share) -> None:
    """Runs `python train.py <arguments>` in this new process."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C in the terminal is for the sweep, which asks its jobs to stop, once
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    os.environ.update(share.environment)
    nothing, errors = os.open(os.devnull, os.O_RDWR), os.open(share.errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number, handle in enumerate((nothing, nothing, errors)):
        os.dup2(handle, number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, "w" if number else "r", 1, closefd=False) for number in range(3))
    import torch  # not before its GPU is set

    torch.set_num_threads(threads_of(torch.get_num_threads(), share.jobs, share.max_threads))
    main(arguments)


def threads_of(total: int, jobs: int, max_threads: int = MAX_THREADS) -> int:
    """Returns how many of the machine's threads each of so many jobs gets."""
    return max(1, min(total // jobs, max_threads))


def _stop_with_parent() -> None:
    """A job does not outlive its sweep: a second sweep of that name would meet it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def gpus() -> list[str]:
    """Returns the names of the GPUs that jobs may use: those of CUDA_VISIBLE_DEVICES, else all that nvidia-smi lists.

    Not with PyTorch, which takes seconds to load.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    try:
        done = subprocess.run([program, "--list-gpus"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(k) for k, _ in enumerate(line for line in done.stdout.splitlines() if line.startswith("GPU "))]


def _memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return MEMORY_PER_JOB
