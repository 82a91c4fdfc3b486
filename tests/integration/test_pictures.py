"""The five commands of docs/pictures.md, on scans of digits with every kind of bad file among them."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.bad_files import write_bad_files
from helpers.runs import read_events
from PIL import Image
from sklearn.datasets import load_digits

# Small pictures that must not be mirrored; 40 bad ones of 1,800 are more than 1%.
DIGITS = ("data.image_size=32", "data.min_crop=0.8", "data.horizontal_flip=false", "data.max_bad_fraction=0.03")
Call = Callable[..., int]
Captured = pytest.CaptureFixture[str]


def write_digits(root: Path, classes: int) -> None:
    """Writes scikit-learn's digits as root/<digit>/<i>.png."""
    bunch = load_digits()
    for label in range(classes):
        folder = root / f"digit {label}"
        folder.mkdir(parents=True)
        for i in np.flatnonzero(bunch.target == label):
            Image.fromarray((bunch.images[i] * 15.9).astype(np.uint8)).save(folder / f"{i}.png")


@pytest.mark.slow
def test_five_commands(command: Call, script: Call, tmp_path: Path, capfd: Captured) -> None:
    write_digits(tmp_path / "pictures", 10)
    expected = write_bad_files(tmp_path / "pictures/digit 3")
    options = [
        "data=image_folder",
        "data.root=pictures",
        "model=vgg16_bn",
        "model.width=0.25",
        *DIGITS,
        "data.mean=auto",
        "data.std=auto",
        "loss=all_logit",
    ]
    assert command(*options, "hydra.run.dir=runs/digits") == 0
    printed = capfd.readouterr().out
    assert "  digit 3 " in printed and "split by content" in printed and "bad_images.csv" in printed
    metrics = json.loads((tmp_path / "runs/digits/metrics.json").read_text())
    assert metrics["test"]["accuracy"] >= 0.97
    assert metrics["test"]["balanced_accuracy"] >= 0.96 and len(metrics["classes"]) == 10
    with (tmp_path / "runs/digits/bad_images.csv").open() as file:
        rows = {str(tmp_path / row["path"]): row["reason"] for row in csv.DictReader(file)}
    assert set(rows) == set(expected)
    assert all(words in rows[path] for path, (words, _) in expected.items())

    assert {"images/augmented", "images/classes"} <= set(read_events(tmp_path / "runs/digits").Tags()["images"])
    assert script("evaluate", "runs/digits", "--temperature", "--flip") == 0
    assert "temperature " in capfd.readouterr().out
    assert script("predict", "runs/digits", "pictures/digit 7", "--csv", "--top", "1") == 0
    lines = capfd.readouterr().out.splitlines()[1:]
    assert np.mean([line.split(",")[2] == "digit 7" for line in lines]) > 0.97
    assert script("export", "runs/digits", "--format", "onnx") == 0
    assert "10 classes, temperature " in capfd.readouterr().out and (tmp_path / "runs/digits/export/model.onnx").is_file()


@pytest.mark.slow
def test_fine_tuning_the_default_run_on_five_classes(command: Call, tmp_path: Path, capfd: Captured) -> None:
    """The features are computed once, and the head alone learns."""
    write_digits(tmp_path / "five", 5)
    narrow = "model.width=0.25"
    assert command(narrow, "trainer.epochs=2", "hydra.run.dir=default", "tracking=none") == 0
    options = ["experiment=finetune", "data.root=five", "model.weights=default", "data.image_size=32", narrow]
    capfd.readouterr()
    assert command(*options, "hydra.run.dir=tuned") == 0
    printed = capfd.readouterr().out
    assert "features: frozen, and computed once for" in printed
    assert "last layer drawn at random: no class is known by its name" in printed
    assert json.loads((tmp_path / "tuned/metrics.json").read_text())["test"]["accuracy"] > 0.9
