"""A TensorBoard that is open while a run is killed and resumed shows every point once."""

import signal
import time
import urllib.error
from pathlib import Path
from typing import Any

import pytest
from helpers.board import ask, tensorboard
from helpers.configs import TINY
from helpers.processes import Run

from vgg_nll.run_folder import paths
from vgg_nll.tracking import event_files

STEPS = 800  # it should still train when TensorBoard has opened
RUN = (
    *TINY,
    *(f"trainer.steps={STEPS}", "trainer.validate_every_epochs=5", "checkpoint.every_steps=70", "trainer.log_every_steps=10"),
    *("trainer.figures_every_epochs=1000", "hydra.run.dir=runs/run"),
)
TAGS = ("loss/train", "accuracy/val", "confidence/mean", "gradient/all_logit/leading_wrong", "speed/epoch")


def shown(address: str, tag: str) -> list[int]:
    """Returns the steps of a curve's points, as the page gets them."""
    try:
        points: list[list[Any]] = ask(address, "plugin/scalars/scalars", run="run", tag=tag)
    except urllib.error.HTTPError:  # not there yet
        return []
    return [step for _, step, _ in points]


def until(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("loader", ["--load_fast=false", "--load_fast=true"])
def test_no_point_stands_twice_after_a_kill(tmp_path: Path, loader: str) -> None:
    (tmp_path / "runs").mkdir()
    run = Run(tmp_path, *RUN)
    folder = tmp_path / "runs/run"
    run.until(lambda: (folder / paths.LAST).exists())
    with tensorboard(tmp_path / "runs", loader, "--reload_interval=1") as address:
        run.until(lambda: len(shown(address, "loss/train")) > 8)
        run.send(signal.SIGKILL)
        run.end()
        before = shown(address, "loss/train")
        resumed = Run(tmp_path, f"resume={folder}")
        assert resumed.end() == 0, resumed.text()
        until(lambda: shown(address, "loss/train")[-1:] == [STEPS])
        time.sleep(2)  # one more reload
        for tag in TAGS:
            steps = shown(address, tag)
            assert steps == sorted(set(steps)), tag
            assert steps == [step for step, _ in event_files.read_curves(folder)[tag]], tag
        assert set(before) <= set(shown(address, "loss/train"))
