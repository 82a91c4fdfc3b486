"""Shared by all tests: where the configs are, and the command run in this process."""

import logging
import os
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

THREADS = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2  # where two tests run at a time, one each
torch.set_num_threads(THREADS)
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))  # for child processes
from helpers.configs import ROOT, TINY, compose_config

from vgg_nll import run


@pytest.fixture
def config() -> Callable[..., DictConfig]:
    return compose_config


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Arguments -> exit code of `python train.py <arguments>`, run in this process in an empty folder."""
    from vgg_nll.cli import launch

    monkeypatch.chdir(tmp_path)
    # set here, so that the value `main` puts there is taken back after the test
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    handlers, level = list(logging.root.handlers), logging.root.level

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", [str(ROOT / "train.py"), *arguments])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
        try:
            launch.main()
        except SystemExit as end:
            return int(end.code or 0)
        finally:
            GlobalHydra.instance().clear()
            logging.root.handlers[:] = handlers
            logging.root.setLevel(level)
        return 0

    yield run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 12 steps on synthetic images of 2 classes, of a narrow network: not to be changed."""
    folder = tmp_path_factory.mktemp("run")
    run.train(compose_config(*TINY, "trainer.epochs=2", "loss=all_logit", "data.noise=1.0"), folder, {})
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


@pytest.fixture(autouse=True)
def no_global_leaks() -> Iterator[None]:
    """No test leaves PyTorch's global settings changed."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    assert (threads, deterministic) == (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
