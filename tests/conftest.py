"""Fixtures that all tests share: configs, the commands run in this process, a finished run."""

import os
import runpy
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.clock import Clock

if TYPE_CHECKING:
    from omegaconf import DictConfig

# One thread: the networks are too small for two, and two that share a busy core wait for each other (16 times slower).
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for child processes
os.environ.pop("HYDRA_FULL_ERROR", None)  # with 1, errors are tracebacks: a test that is about that sets it
ROOT = Path(__file__).resolve().parents[1]

CHOICES = {"data": "synthetic", "model": "vgg16", "loss": "all_logit"}


def pytest_sessionstart(session: pytest.Session) -> None:
    """Sets PyTorch up; but the process that only deals the tests out to others does not load it, which takes seconds."""
    if session.config.getoption("numprocesses", None) and "PYTEST_XDIST_WORKER" not in os.environ:
        return
    import torch

    torch.set_num_threads(1)
    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"  # the kernel of the losses runs in Python; read when Triton is imported


@pytest.fixture
def config() -> "Callable[..., DictConfig]":
    """Overrides -> the composed config."""
    from helpers.configs import compose_config

    return compose_config


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Arguments -> exit code of `python train.py <arguments>`, run in this process in an empty folder."""
    from helpers.command import make_command

    return make_command(monkeypatch, tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 12 steps of a narrow network on synthetic images of 2 classes. Tests read its folder, and do not change it."""
    from helpers.configs import TINY, compose_config

    from vgg_nll.run.train import train
    from vgg_nll.run_folder.record import RunRecord

    folder = tmp_path_factory.mktemp("run")
    cfg = compose_config(*TINY, "trainer.epochs=2", "loss=all_logit", "data.noise=1.0")
    train(RunRecord.new(cfg, CHOICES), folder)
    return folder


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Name, arguments -> exit code of `python scripts/<name>.py <arguments>`, run in this process."""

    def call(name: str, *arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        try:
            runpy.run_path(str(ROOT / f"scripts/{name}.py"), run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return call


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw no figures: the last validation draws them whatever the settings are, in half of a short run's time."""
    monkeypatch.setattr("vgg_nll.training.logger.evaluation_summaries.pictures_and_curves", lambda *_: [])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """`time.perf_counter`, as the test moves it."""
    made = Clock()
    monkeypatch.setattr(time, "perf_counter", made)
    return made


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """`torch.set_num_threads`, undone after the test."""
    import torch

    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def own_compiled_code(tmp_path_factory: pytest.TempPathFactory) -> None:
    """PyTorch's compiler keeps what it has made for later processes, also of another code, or for another chip's units."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path_factory.mktemp("inductor"))


@pytest.fixture(autouse=True)
def no_global_leaks() -> Iterator[None]:
    """No test leaves PyTorch's global settings changed."""
    import torch

    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    assert (threads, deterministic) == (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
