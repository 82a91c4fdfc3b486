"""A launcher whose jobs end at once, in this process, as a test says; and a sweep with jobs of every state."""

import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vgg_nll.run_folder import checked_json, paths
from vgg_nll.sweeps import record
from vgg_nll.sweeps.job_names import Job
from vgg_nll.sweeps.local_launcher import Started
from vgg_nll.sweeps.record import Sweep

Act = Callable[[Path, list[str]], int]  # run folder, arguments -> exit code


def folder_of(arguments: Sequence[str]) -> Path:
    """The run folder that the arguments of a job name."""
    (place,) = [word.partition("=")[2] for word in arguments if word.startswith(("resume=", "hydra.run.dir="))]
    return Path(place)


def finish(folder: Path, accuracy: float = 0.5) -> int:
    """Leaves what a finished run leaves, as far as a sweep reads it; returns its exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"val": {"accuracy": accuracy}, "test": {"accuracy": accuracy / 2, "ece": 0.25}, "seconds": 1.5}
    checked_json.write(folder / paths.METRICS, content, "x")
    (folder / paths.DONE).touch()
    return 0


def begin(folder: Path) -> None:
    """Leaves what a run leaves that was stopped after its first checkpoint."""
    (folder / paths.LAST).parent.mkdir(parents=True, exist_ok=True)
    (folder / paths.LAST).touch()


def write_sweep(folder: Path, finished: Callable[[Path, int], object]) -> Path:
    """Writes a sweep of six jobs, one of each state but two that are finished, `a` and `b`; returns its folder.

    Args:
        finished: run folder, seed -> writes a finished run.
    """
    folder.mkdir(parents=True)
    jobs = [Job(name, ()) for name in ("a", "b", "failed", "pruned", "missing", "stopped")]
    record.write(Sweep(folder, "x", jobs={job.name: job for job in jobs}))
    for seed, name in enumerate("ab"):
        finished(folder / name, seed)
    for name, marker in (("failed", paths.FAILED), ("pruned", paths.PRUNED)):
        (folder / name).mkdir()
        (folder / name / marker).write_text(f"why it {name}\n")
    (folder / "stopped").mkdir()
    (folder / "stopped" / paths.RUN).touch()
    return folder


@dataclass
class FakeJob:
    """A job that has ended, or that ends when it is asked to."""

    code: int | None
    stopped: bool = False

    def exit_code(self) -> int | None:
        return 143 if self.stopped and self.code is None else self.code

    def stop(self) -> None:
        self.stopped = True


@dataclass
class FakeLauncher:
    """Runs `act` in the place of a job. An exit code of None is that of a job that runs until it is stopped."""

    act: Callable[[Path, list[str]], int | None]
    slots: int = 1
    calls: list[list[str]] = field(default_factory=list)
    jobs: list[FakeJob] = field(default_factory=list)

    def start(self, arguments: Sequence[str], errors: Path) -> FakeJob:
        self.calls.append(list(arguments))
        errors.write_text("")
        self.jobs.append(FakeJob(self.act(folder_of(arguments), list(arguments))))
        return self.jobs[-1]

    def wait(self, started: Sequence[Started], seconds: float) -> None:
        pass

    def describe(self) -> str:
        return "at once"

    def names(self) -> list[str]:
        """The run folders of the jobs that were started, in order."""
        return [folder_of(call).name for call in self.calls]


def table(folder: Path) -> list[dict[str, str]]:
    """Returns the rows of sweep.csv."""

    with (folder / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


def wait(arguments: list[str]) -> None:
    """A job that runs for a minute."""
    Path(arguments[0]).touch()
    time.sleep(60)


def install(monkeypatch: pytest.MonkeyPatch) -> FakeLauncher:
    """Puts a launcher whose jobs finish at once in the place of the local one. PyTorch is not loaded, no means are written."""
    fake = FakeLauncher(lambda folder, _: finish(folder))

    class Local:
        def __new__(cls, jobs: int | str, main: object, device: str, folder: Path) -> FakeLauncher:  # type: ignore[misc]
            fake.slots = 2 if jobs == "auto" else int(jobs)
            return fake

    monkeypatch.setattr("vgg_nll.sweeps.LocalLauncher", Local)
    monkeypatch.setattr("vgg_nll.cli.sweep._load", lambda: None)
    monkeypatch.setattr("vgg_nll.sweeps.means.Means._start", lambda _: None)
    monkeypatch.setattr("vgg_nll.sweeps.loop.POLL_SECONDS", 0.01)
    return fake
