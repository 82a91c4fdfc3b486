"""trainer.profile=true: ten steps, and nothing else changes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.configs import TINY
from helpers.runs import outcome

Command = Callable[..., int]


@pytest.mark.slow
def test_a_trace_and_a_table(command: Command, tmp_path: Path) -> None:
    """Of steps 9 to 18; with it and without it a run comes to the same, to the bit."""
    run = (*TINY, "trainer.steps=20", "trainer.validate_every_epochs=100")
    assert command(*run, "hydra.run.dir=plain") == 0
    assert not (tmp_path / "plain/profile").exists()
    assert command(*run, "trainer.profile=true", "hydra.run.dir=watched") == 0
    assert "operators.txt" in (tmp_path / "watched/train.log").read_text()
    trace = json.loads((tmp_path / "watched/profile/trace.json").read_text())
    steps = {event["name"] for event in trace["traceEvents"] if event["name"].startswith("ProfilerStep#")}
    assert steps == {f"ProfilerStep#{step}" for step in range(8, 18)}
    table = (tmp_path / "watched/profile/operators.txt").read_text()
    assert "aten::mkldnn_convolution" in table or "aten::addmm" in table
    assert outcome(tmp_path / "watched") == outcome(tmp_path / "plain")


@pytest.mark.slow
def test_too_few_steps(command: Command, tmp_path: Path) -> None:
    """A run that ends before them leaves no half of a profile."""
    assert command(*TINY, "trainer.steps=3", "trainer.profile=true", "hydra.run.dir=run") == 0
    assert not (tmp_path / "run/profile").exists()
