"""Commands as processes: scripts to their end, and runs that a test sends signals to, forked from one with PyTorch loaded."""

import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch

from helpers.configs import ROOT
from vgg_nll.distributed import process_group
from vgg_nll.distributed.process_group import Ranks

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["vgg_nll.cli.launch", "vgg_nll.cli.resume", "vgg_nll.run", "vgg_nll.data.memory.data_set", "vgg_nll.data.memory.sources"]
)


def run_script(folder: Path, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `python <script> <arguments>`, a script of this repository, with `folder` as the working directory."""
    line = [sys.executable, str(ROOT / script), *arguments]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, env=os.environ | environment)


class Run:
    """One process, and what it prints.

    Args:
        folder: its working directory; file_limit: bytes that a file may have, as if the disk were full then.
        own_group: whether it and its children are a process group.
        environment: variables besides those of this process.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        file_limit: int | None = None,
        own_group: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.printed = folder / f"printed-{time.monotonic_ns()}"
        self._process: ForkServerProcess = CONTEXT.Process(
            target=_main,
            args=(list(arguments), folder, self.printed, file_limit, own_group, dict(environment or {})),
            # A daemon is killed at the end of the tests, but may start no processes.
            daemon=not own_group,
        )
        self._process.start()

    def text(self) -> str:
        """Returns what it has printed so far."""
        return self.printed.read_text() if self.printed.exists() else ""

    def until(self, happened: Callable[[], object], seconds: float = 180) -> None:
        """Waits until something is true; fails if the process ends before that, or if it takes too long."""
        end = time.monotonic() + seconds
        while not happened():
            assert self._process.is_alive(), self.text()
            if time.monotonic() > end:
                self._process.kill()  # nobody else does, if it is no daemon
                raise AssertionError(self.text())
            time.sleep(0.002)

    def send(self, number: int) -> None:
        """Sends a signal; does nothing if the process has ended."""
        assert self._process.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, number)

    def send_to_group(self, number: int) -> None:
        """Sends a signal to it and to what it has started, as a terminal does; it must have a group of its own."""
        assert self._process.pid is not None and os.getpgid(self._process.pid) == self._process.pid
        os.killpg(self._process.pid, number)

    def group(self) -> list[int]:
        """Returns the other processes of its group: those that it has started, and that have not ended."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, _, group = path.read_text().rpartition(")")[2].split()[:3]
                found += [int(path.parent.name)] if int(group) == self._process.pid and state != "Z" else []
        return [pid for pid in found if pid != self._process.pid]

    def is_alive(self) -> bool:
        """Returns whether the process has not ended yet."""
        return self._process.is_alive()

    def end(self, seconds: float = 300) -> int:
        """Waits for its end; returns the exit code, or minus the signal that ended it."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, self.text()
        return self._process.exitcode


def free_port() -> str:
    """Returns the number of a port that nobody uses now."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return str(free.getsockname()[1])


def start_ranks(
    folder: Path, size: int, *arguments: str, of_last: Sequence[str] = (), last_in: Path | None = None
) -> list[Run]:
    """Starts processes that train together, as torchrun does.

    Args:
        of_last: more arguments of the last one; last_in: its working directory, that of the others if None.
    """
    shared = {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "localhost", "MASTER_PORT": free_port()}
    numbers = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]
    more = [()] * (size - 1) + [tuple(of_last)]
    places = [folder] * (size - 1) + [last_in or folder]
    return [
        Run(place, *arguments, *own, environment=shared | number)
        for place, number, own in zip(places, numbers, more, strict=True)
    ]


RANKS = 3  # of `in_ranks`


def in_ranks(folder: Path, function: Callable[[Ranks, Path], Any]) -> list[Any]:
    """Calls a function of a test module with each rank of three, in three processes; returns what they give."""
    port = free_port()
    processes = [CONTEXT.Process(target=_rank, args=(rank, port, function, folder)) for rank in range(RANKS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return [torch.load(folder / str(rank), weights_only=False) for rank in range(RANKS)]


def _rank(rank: int, port: str, function: Callable[[Ranks, Path], Any], folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(RANKS), "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    torch.set_num_threads(1)
    torch.save(function(process_group.init_process_group(torch.device("cpu")), folder), folder / str(rank))
    process_group.destroy_process_group()


def _main(
    arguments: list[str],
    folder: Path,
    printed: Path,
    file_limit: int | None,
    own_group: bool,
    environment: dict[str, str],
) -> None:
    os.chdir(folder)
    if own_group:
        os.setpgrp()
    os.environ.update(environment)
    out = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ.pop("HYDRA_FULL_ERROR", None)  # `main` sets it, and the test before may have started the process forked from
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup, the command does not
    if file_limit is not None:  # a write beyond it fails with an error instead of a signal
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    sys.argv = [str(ROOT / "train.py"), *arguments]
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    from vgg_nll.cli import launch, torchrun

    torchrun.SECONDS_OF_FIRST = 0  # only torchrun kills the others when one has ended
    launch.main()
