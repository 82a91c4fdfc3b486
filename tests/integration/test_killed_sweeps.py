"""Sweeps that are killed, and two processes on one sweep: every job once, and the bits of an undisturbed sweep."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.configs import LIGHT, ROOT
from helpers.runs import outcome

from vgg_nll.run_folder import paths
from vgg_nll.sweeps import status

JOBS = 4
# Long enough to be killed in the middle: 80 steps, a checkpoint every 10; on a loaded machine that takes seconds.
LENGTH = ("trainer.steps=80", "trainer.validate_every_epochs=3", "checkpoint.every_steps=10")
SWEEP = ("-m", *LIGHT, *LENGTH, "checkpoint.keep=all", "loss=argmax,all_logit", "seed=0,1", "launcher.jobs=2")
MAX_STARTS = 40


class Undisturbed(NamedTuple):
    """What a sweep that nobody kills gives, and how long it takes on this machine."""

    results: dict[str, object]
    seconds: float


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """Starts a sweep in a process group of its own."""
    line = [sys.executable, str(ROOT / "train.py"), *SWEEP, *words]
    with (folder / "printed").open("ab") as printed:
        return subprocess.Popen(line, cwd=folder, stdout=printed, stderr=printed, start_new_session=True)


def descendants(pid: int) -> list[int]:
    """Returns the processes below a process: the one that loads PyTorch, and the jobs below that."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    found, layer = [], [pid]
    while layer:
        layer = [child for child, parent in parents.items() if parent in layer]
        found += layer
    return found


def sessions(pids: Sequence[int]) -> list[int]:
    """Returns those that lead a session of their own: the jobs."""
    found = []
    for pid in pids:
        try:
            found += [pid] if os.getsid(pid) == pid else []
        except ProcessLookupError:
            continue
    return found


def finished(sweep: Path) -> dict[str, tuple[float, ...]]:
    """Returns when the files of each finished job were written."""
    names = (paths.DONE, paths.METRICS, paths.LAST)
    return {path.parent.name: tuple((path.parent / name).stat().st_mtime for name in names) for path in sweep.glob("*/DONE")}


def results(sweep: Path) -> dict[str, object]:
    return {path.parent.name: outcome(path.parent) for path in sorted(sweep.glob("*/DONE"))}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    began = time.monotonic()
    assert start(folder, "sweep=s").wait(300) == 0, (folder / "printed").read_text()
    found = results(folder / "runs/sweeps/s")
    assert len(found) == JOBS
    return Undisturbed(found, time.monotonic() - began)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["job", *(pytest.param(name, marks=pytest.mark.soak) for name in ("group", "sweep alone"))])
def test_kill_until_done(victim: str, tmp_path: Path, undisturbed: Undisturbed) -> None:
    draw = random.Random(victim)
    sweep, kills, code = tmp_path / "runs/sweeps/s", 0, 1
    done: dict[str, tuple[float, ...]] = {}
    for _ in range(MAX_STARTS):
        process = start(tmp_path, "sweep=s")
        while process.poll() is None and not sessions(descendants(process.pid)):  # it loads PyTorch
            time.sleep(0.02)
        end = time.monotonic() + draw.uniform(0, undisturbed.seconds / 3)  # about a job: most starts get on, most are killed
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        jobs = sessions(descendants(process.pid))
        if process.poll() is None and jobs:
            kills += 1
            if victim == "group":
                os.killpg(process.pid, signal.SIGKILL)
            elif victim == "sweep alone":
                process.kill()
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(draw.choice(jobs), signal.SIGKILL)
        code = process.wait(300)
        now = finished(sweep)
        assert {name: now[name] for name in done} == done, "a finished job was run again"
        done = now
        if code == 0:
            break
    assert code == 0, (tmp_path / "printed").read_text()
    assert kills >= 1
    assert results(sweep) == undisturbed.results
    assert not list(sweep.glob("*/FAILED"))


@pytest.mark.slow
def test_two_processes_share_the_jobs(tmp_path: Path, undisturbed: Undisturbed) -> None:
    """Each job is run by one of them, both wait for the last one, and both tell of all."""
    both = [start(tmp_path, "sweep=s", "launcher.jobs=1") for _ in range(2)]
    assert [process.wait(300) for process in both] == [0, 0], (tmp_path / "printed").read_text()
    printed = (tmp_path / "printed").read_text()
    assert printed.count(": starts\n") == JOBS
    assert printed.count(f"{JOBS} finished; all in") == 2
    assert results(tmp_path / "runs/sweeps/s") == undisturbed.results


@pytest.mark.slow
def test_an_interrupt_stops_all_jobs_with_their_state(tmp_path: Path, undisturbed: Undisturbed) -> None:
    sweep = tmp_path / "runs/sweeps/s"
    process = start(tmp_path, "sweep=s")
    while len(list(sweep.glob(f"*/{paths.LAST}"))) < 2:
        assert process.poll() is None, (tmp_path / "printed").read_text()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 128 + signal.SIGINT
    states = [status.of(path).state for path in sweep.glob("*=*")]
    assert set(states) <= {status.FINISHED, status.INTERRUPTED, status.WAITING} and status.INTERRUPTED in states
    printed = (tmp_path / "printed").read_text()
    assert "save their state" in printed and "continue with: " in printed and "Traceback" not in printed
    assert not sessions(descendants(process.pid))
    assert start(tmp_path, "sweep=s").wait(300) == 0
    assert ": continues\n" in (tmp_path / "printed").read_text()
    assert results(sweep) == undisturbed.results
