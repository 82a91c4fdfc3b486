"""Runs of 6 steps for tests of what goes wrong: their configs, the undisturbed run, and one that was stopped."""

import shutil
from pathlib import Path

import pytest
from helpers.configs import LIGHT
from helpers.runs import interrupt, outcome, train

from vgg_nll.training.signals import Interrupted


@pytest.fixture(scope="session")
def light() -> tuple[str, ...]:
    """Overrides for a run of 6 steps."""
    return LIGHT


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """The result of an undisturbed run of 6 steps."""
    folder = tmp_path_factory.mktemp("whole")
    train(folder, *LIGHT)
    return outcome(folder)


@pytest.fixture(scope="session")
def stopped_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that `stopped` copies."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, 4, "_step")
        with pytest.raises(Interrupted):
            train(folder, *LIGHT)
    return folder


@pytest.fixture
def stopped(stopped_once: Path, tmp_path: Path) -> Path:
    """A run that was stopped after step 4 of 6, with step 3 (its best) in previous.pt and best.pt."""
    return Path(shutil.copytree(stopped_once, tmp_path / "run"))
