"""Runs that released versions have written open with today's program, with every command."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.configs import ROOT
from helpers.pictures import write_folder

import vgg_nll
from vgg_nll.evaluation.outputs import read_outputs
from vgg_nll.run_folder import checked_json, paths
from vgg_nll.run_folder.record import RunRecord

RELEASES = sorted(path.parent for path in (ROOT / "tests/releases").glob("*/*/run.json"))
MAX_BYTES = 1_000_000


def test_there_are_some_and_they_are_small() -> None:
    assert {path.name for path in RELEASES} >= {"digits", "pictures"}
    for folder in RELEASES:
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < MAX_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("stored", RELEASES, ids=lambda path: f"{path.parent.name} {path.name}")
def test_a_stored_run(
    stored: Path, tmp_path: Path, command: Callable[..., int], script: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    """It is loaded, evaluated (with the outputs of then), used, exported, compared, and continued."""
    run = Path(shutil.copytree(stored, tmp_path / "run"))
    write_folder(tmp_path / "pictures")
    has_pictures = stored.name == "pictures"
    moved = ["--data-root", "pictures"] if has_pictures else []
    record = RunRecord.open(run)
    assert vgg_nll.load(run, device="cpu").step == 4
    assert script("evaluate", "run", "--device", "cpu", *moved) == 0
    (folder,) = (path for path in (run / paths.EVALUATION).iterdir() if path.is_dir())
    then, now = (read_outputs(path / paths.OUTPUTS, record.run_id)["test"] for path in (run, folder))
    assert np.abs(then.logits - now.logits).max() < 1e-4 * max(1.0, np.abs(then.logits).max())  # on whatever machine
    assert then.labels.tolist() == now.labels.tolist()
    capfd.readouterr()
    assert script("predict", "run", "pictures/test", "--device", "cpu", "--csv") == 0
    assert {row["class"] for row in csv.DictReader(capfd.readouterr().out.splitlines())} <= set(
        vgg_nll.load(run, device="cpu").class_names
    )
    assert script("export", "run", "--format", "safetensors") == 0
    assert script("compare", "run") == 0
    assert command("resume=run", "trainer.steps=6", *(["data.root=pictures"] if has_pictures else [])) == 0
    content = checked_json.read(run / paths.METRICS, record.run_id)
    assert content["step"] == 6 and content["test"].keys() >= checked_json.read(stored / paths.METRICS)["test"].keys()
