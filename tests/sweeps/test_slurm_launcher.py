"""Slurm's launcher on submitit's stand-ins for a cluster."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.configs import ROOT, TINY
from helpers.processes import run_script
from sweeps.fake import table, wait

from vgg_nll.errors import ConfigError
from vgg_nll.sweeps.slurm_launcher import SlurmLauncher

pytest.importorskip("submitit")
TRAIN = ("-m", "sweep=s", *TINY, "tracking=none", "trainer.steps=2", "launcher=slurm")


def sweep(folder: Path, cluster: str, *words: str) -> subprocess.CompletedProcess[str]:
    return run_script(folder, "train.py", *TRAIN, f"launcher.cluster={cluster}", "launcher.cpus=1", *words)


DIVERGES = ("data.noise=0.3", "trainer.clip_norm=null", "optimizer.lr=0.001,1e30")


def check_table(folder: Path) -> None:
    rows = table(folder / "runs/sweeps/s")
    assert [row["state"] for row in rows] == ["finished", "failed"]
    assert "TrainingError: step 1: loss nan" in rows[1]["error"]


@pytest.mark.slow
def test_a_sweep(tmp_path: Path) -> None:
    """Jobs run, and a failed one says why in sweep.csv."""
    done = sweep(tmp_path, "local", *DIVERGES)
    assert done.returncode == 1, done.stderr
    check_table(tmp_path)


@pytest.mark.slow
def test_a_sweep_without_a_queue(command: Callable[..., int], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The same; and the same command repeats the failed job alone."""
    line = (*TRAIN, "launcher.cluster=debug", "launcher.cpus=1", *DIVERGES)
    assert command(*line) == 1
    check_table(tmp_path)
    capfd.readouterr()
    assert command(*line) == 1
    printed = capfd.readouterr().out
    assert printed.count(": finished before") == 1 and printed.count(": starts") == 1


@pytest.mark.slow
def test_jobs_of_two_ranks(tmp_path: Path) -> None:
    done = sweep(tmp_path, "local", "seed=0", "launcher.ranks=2")
    assert done.returncode == 0, done.stderr
    assert [row["state"] for row in table(tmp_path / "runs/sweeps/s")] == ["finished"]
    (log,) = (tmp_path / "runs/sweeps/s").rglob("train.log")
    assert "on 2 ranks with 2 images each" in log.read_text()


@pytest.mark.slow
def test_jobs_of_several_ranks_cannot_be_pruned(tmp_path: Path) -> None:
    """Refused before anything is submitted."""
    done = sweep(tmp_path, "debug", "seed=0,1", "launcher.ranks=2", "sweep.prune=median")
    assert done.returncode == 1
    assert done.stderr.startswith("error: sweep.prune: jobs of several ranks cannot be stopped early; ")
    assert not list(tmp_path.iterdir())


def launcher_of(cluster: str, folder: Path) -> SlurmLauncher:
    return SlurmLauncher(
        1,
        cluster=cluster,
        ranks=1,
        partition=None,
        timeout_minutes=5,
        gpus=0,
        cpus=1,
        memory_gb=1,
        main=wait,
        device="cpu",
        folder=folder,
    )


def test_a_machine_without_slurm(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"launcher\.cluster=slurm: .*; launcher=local runs jobs on this machine"):
        launcher_of("slurm", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_job_that_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'tests'}{os.pathsep}{ROOT}")  # the job finds `wait`
    launcher = launcher_of("local", tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if the tests run in the background of a shell
    job = launcher.start([str(tmp_path / "started")], tmp_path / "err")
    signal.signal(signal.SIGINT, before)
    while not (tmp_path / "started").exists():
        assert job.exit_code() is None
        launcher.wait([job], 0.1)
    job.stop()
    begin = time.monotonic()
    while job.exit_code() is None:
        launcher.wait([job], 0.1)
    assert time.monotonic() - begin < 50  # it would have slept for a minute
