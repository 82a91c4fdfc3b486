"""Processes of this machine: what each job gets of it, and how many there may be."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vgg_nll.errors import ConfigError
from vgg_nll.sweeps import local_launcher
from vgg_nll.sweeps.local_launcher import LocalLauncher

REPORT = "report"


def report(arguments: list[str]) -> None:
    """A job that says what it got."""
    before = "torch" in sys.modules
    import torch

    words = (os.environ.get("CUDA_VISIBLE_DEVICES", "-"), before, torch.get_num_threads(), os.getsid(0) == os.getpid())
    Path(arguments[0]).write_text(" ".join(map(str, words)))
    print("printed")
    print("said", file=sys.stderr)
    sys.exit(int(arguments[1]))


def sleep(arguments: list[str]) -> None:
    Path(arguments[0]).touch()
    time.sleep(60)


def machine(monkeypatch: pytest.MonkeyPatch, folder: Path, gpus: int) -> None:
    """Makes the launcher see so many GPUs."""
    program = folder / "nvidia-smi"
    lines = "\n".join(f"echo 'GPU {k}: NVIDIA H100 (UUID: GPU-{k})'" for k in range(gpus))
    program.write_text(f"#!/bin/sh\n{lines}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def run(launcher: LocalLauncher, folder: Path, number: int, code: int = 0) -> list[str]:
    """Runs so many jobs at once; returns what they got."""
    started = [launcher.start([str(folder / f"{REPORT}{k}"), str(code)], folder / f"{k}.err") for k in range(number)]
    while any(job.exit_code() is None for job in started):
        launcher.wait(started, 1)
    assert [job.exit_code() for job in started] == [code] * number
    return [(folder / f"{REPORT}{k}").read_text() for k in range(number)]


PROGRAM = """
import sys
from pathlib import Path
from vgg_nll.sweeps.local_launcher import LocalLauncher

def report(arguments):
    import os, sys
    from pathlib import Path
    Path(arguments[0]).write_text(f"{os.environ['CUDA_VISIBLE_DEVICES']} {torch_is_loaded}")

torch_is_loaded = "torch" in sys.modules
if __name__ == "__main__":
    launcher = LocalLauncher("auto", main=report, device="auto", folder=Path())
    jobs = [launcher.start([f"report{k}"], Path(f"{k}.err")) for k in range(launcher.slots)]
    while any(job.exit_code() is None for job in jobs):
        launcher.wait(jobs, 1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("visible", [None, "2,5"])
def test_each_job_has_its_gpu_before_torch_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None
) -> None:
    machine(monkeypatch, tmp_path, 2)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    (tmp_path / "program.py").write_text(PROGRAM)
    subprocess.run([sys.executable, "program.py"], cwd=tmp_path, check=True)
    found = [(tmp_path / f"{REPORT}{k}").read_text() for k in range(2)]
    assert found == [f"{name} False" for name in (visible or "0,1").split(",")]


@pytest.mark.slow
def test_jobs_on_a_cpu_divide_its_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And share a process that has loaded PyTorch; a session each; what they say on stderr is kept."""
    machine(monkeypatch, tmp_path, 2)
    launcher = LocalLauncher(2, main=report, device="cpu", folder=tmp_path)
    assert run(launcher, tmp_path, 2, code=3) == [f"- True {max(1, int(os.environ['OMP_NUM_THREADS']) // 2)} True"] * 2
    assert (tmp_path / "0.err").read_text() == "said\n"
    assert run(launcher, tmp_path, 2) != []  # the slots are free again


def test_threads() -> None:
    assert [local_launcher.threads_of(total, jobs) for total, jobs in ((8, 1), (8, 2), (8, 3), (2, 4))] == [8, 4, 2, 1]
    assert local_launcher.threads_of(8, 1, 4) == 4


@pytest.mark.parametrize(
    ("jobs", "device", "gpus", "expected"),
    [
        (3, "auto", 2, "launcher.jobs=3: there are 2 GPUs, and every job takes one; lower it, or set device=cpu"),
        (2, "cuda", 1, "launcher.jobs=2: there is 1 GPU"),
        (2, "cuda:1", 2, "launcher.jobs=2: device=cuda:1 is one GPU; device=auto gives each job its own"),
        (2, "cuda", 0, "launcher.jobs=2: no GPU was found"),
    ],
)
def test_more_jobs_than_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int, device: str, gpus: int, expected: str
) -> None:
    machine(monkeypatch, tmp_path, gpus)
    with pytest.raises(ConfigError, match=expected):
        LocalLauncher(jobs, main=report, device=device, folder=tmp_path)


@pytest.mark.parametrize(
    ("device", "gpus", "cores", "memory", "expected"),
    [
        ("auto", 4, 8, 64 << 30, 4),
        ("auto", 0, 8, 64 << 30, 8),
        ("auto", 0, 8, 9 << 30, 2),
        ("auto", 0, 8, 1 << 30, 1),
        ("cpu", 4, 2, 64 << 30, 2),
        ("cuda:1", 4, 8, 64 << 30, 1),
    ],
)
def test_auto(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, gpus: int, cores: int, memory: int, expected: int
) -> None:
    machine(monkeypatch, tmp_path, gpus)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores))
    monkeypatch.setattr(local_launcher, "_memory", lambda: memory)
    assert LocalLauncher("auto", main=report, device=device, folder=tmp_path).slots == expected


def test_a_job_that_is_stopped_or_killed(tmp_path: Path) -> None:
    launcher = LocalLauncher(2, main=sleep, device="cpu", folder=tmp_path)
    jobs = [launcher.start([str(tmp_path / name)], tmp_path / f"{name}.err") for name in "ab"]
    while not ((tmp_path / "a").exists() and (tmp_path / "b").exists()):
        time.sleep(0.01)
    assert [job.exit_code() for job in jobs] == [None, None]
    jobs[0].stop()
    assert jobs[1].process.pid is not None
    os.kill(jobs[1].process.pid, signal.SIGKILL)
    while None in [job.exit_code() for job in jobs]:
        launcher.wait(jobs, 1)
    assert [job.exit_code() for job in jobs] == [-signal.SIGTERM, -signal.SIGKILL]
