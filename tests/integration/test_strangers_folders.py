"""Folders of pictures as people bring them, through `train.py`, `evaluate.py`, `predict.py`: nothing wrong without a word."""

import csv
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from helpers.bad_files import write_bad_files
from PIL import Image, PngImagePlugin

pytestmark = pytest.mark.slow
SMALL = ("data=image_folder", "data.image_size=32", "model.width=0.0625", "device=cpu", "tracking=none", "data.num_workers=0")
SHORT = (*SMALL, "trainer.batch_size=8", "trainer.steps=4")
LONG = (*SMALL, "trainer.batch_size=8", "trainer.steps=60", "model=vgg16_bn", "data.horizontal_flip=false", "data.min_crop=1")


class Commands(NamedTuple):
    """The commands, in this process, and what they print."""

    train: Callable[..., int]
    script: Callable[..., int]
    capture: pytest.CaptureFixture[str]

    def trains(self, *arguments: str) -> str:
        """Returns what a run prints that must succeed."""
        code = self.train(*arguments)
        printed = self.capture.readouterr()
        assert code == 0, printed.err
        return printed.out

    def refuses(self, *arguments: str) -> str:
        """Returns the error of a run that must be refused: without a traceback, and before a folder is made."""
        assert self.train(*arguments, "hydra.run.dir=refused") == 1
        assert not Path("refused").exists()
        error = self.capture.readouterr().err
        assert "Traceback" not in error and "error: " in error
        return error

    def runs(self, name: str, *arguments: object) -> str:
        """Returns what a script prints that must succeed."""
        code = self.script(name, *arguments)
        printed = self.capture.readouterr()
        assert code == 0, printed.err
        return printed.out


@pytest.fixture
def commands(command: Callable[..., int], script: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> Commands:
    return Commands(command, script, capfd)


def put(folder: str, number: int, hue: int, seed: int = 0) -> None:
    """Writes noisy pictures in one colour."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for i in range(number):
        pixels = np.random.default_rng([seed, hue, i]).integers(0, 90, (36, 36, 3))
        pixels[..., hue] += 150
        Image.fromarray(pixels.astype(np.uint8)).save(f"{folder}/{i}.png")


def test_classes_that_are_others_and_a_new_test_set(commands: Commands) -> None:
    """Weights go by the name of a class, not by its place, and another folder is a test set as a whole."""
    for hue, name in enumerate(["cat", "dog", "emu"]):
        put(f"a/{name}", 20, hue)
        put(f"new/{name}", 20, hue, 7)
        put(f"b/{'zcat' if hue == 0 else name}", 20, hue)
    commands.trains(*LONG, "data.root=a", "hydra.run.dir=run_a")
    printed = commands.trains(*SHORT, "model=vgg16_bn", "data.root=b", "model.weights=run_a", "hydra.run.dir=run_b")
    assert "from nothing" not in printed and "last layer: dog, emu from " in printed and "; zcat drawn at random" in printed
    untrained = float(printed.partition("untrained loss: ")[2].split()[0])
    assert untrained < 3  # by place it was 140.9: sure of another class
    printed = commands.runs("evaluate", "run_a", "--data-root", "new")
    assert "60 images of " in printed and "(n = 60)" in printed
    (folder,) = [path for path in Path("run_a/evaluation").iterdir() if path.is_dir()]
    with (folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60 and all(row["label"] == Path(row["path"]).parent.name for row in rows)
    assert np.mean([row["correct"] == "1" for row in rows]) > 0.9


def test_splits_that_look_like_classes(commands: Commands) -> None:
    for split in ("seg_train", "seg_test"):
        for hue, name in enumerate(["forest", "sea"]):
            put(f"kaggle/{split}/{split}/{name}", 15, hue)
    error = commands.refuses(*SHORT, "data.root=kaggle")
    assert "seg_train" in error and "forest" in error and "data." in error


def test_a_class_that_is_called_as_a_split(commands: Commands) -> None:
    for hue, name in enumerate(["bus", "car"]):
        put(f"vehicles/{name}", 8, hue)
    for hue, name in enumerate(["steam", "diesel"]):
        put(f"vehicles/train/{name}", 8, hue + 1)
    error = commands.refuses(*SHORT, "data.root=vehicles")
    assert "train" in error and "bus" in error


def test_many_classes_of_three_pictures(commands: Commands) -> None:
    for k in range(200):
        put(f"few/person{k:03d}", 3, k % 3, k)
    for seed in (0, 1):
        printed = commands.trains(*SHORT, "data.root=few", f"data.split_seed={seed}", f"hydra.run.dir=few_{seed}")
        assert "too few to judge" in printed and "data.folds" in printed
    printed = commands.trains(*SHORT, "data.root=few", "data.folds=3", "data.fold=1", "hydra.run.dir=few_folds")
    assert "200 classes" in printed
    assert len(set(json.loads(Path("few_folds/run.json").read_text())["data"]["classes"])) == 200


def test_wide_pictures(commands: Commands) -> None:
    """Whose mark is at one end: the centre shows nothing, and that is said."""
    for k, colour in enumerate([(255, 0, 0), (0, 255, 0)]):
        folder = Path("wide") / ("red", "green")[k]
        folder.mkdir(parents=True)
        for i in range(40):
            pixels = np.random.default_rng([k, i]).integers(90, 140, (40, 160, 3))
            pixels[8:32, 4:28] = colour
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    printed = commands.trains(*SHORT, "data.root=wide", "hydra.run.dir=cropped")
    assert "data.fit=pad" in printed and "are few to learn from nothing: experiment=finetune starts from" in printed
    for fit in ("pad", "squash"):
        commands.trains(*LONG, "data.root=wide", f"data.fit={fit}", f"hydra.run.dir={fit}")
        assert json.loads(Path(fit, "metrics.json").read_text())["test"]["accuracy"] > 0.9


def test_weights_of_classes(commands: Commands) -> None:
    for split, numbers in (("train", (3, 12, 30)), ("val", (3, 3, 3))):
        for hue, (name, number) in enumerate(zip(["apple", "mango", "zebra"], numbers, strict=True)):
            put(f"fruit/{split}/{name}", number, hue, len(split))
    weights = 'loss.weight=["zebra=20","mango=10"]'
    printed = commands.trains(*SHORT, "data.root=fruit", weights, "hydra.run.dir=weighed")
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if line.startswith("  ") and line.split()}
    assert rows["class"][-1] == "weight"
    assert {name: float(rows[name][-1]) for name in ("apple", "mango", "zebra")} == {"apple": 1, "mango": 10, "zebra": 20}
    assert "zebras" in commands.refuses(*SHORT, "data.root=fruit", 'loss.weight=["zebras=20"]')


def test_names_in_other_scripts(commands: Commands) -> None:
    for hue, name in enumerate(["猫", "犬"]):
        put(f"cjk/{name}", 12, hue)
    commands.trains(*SHORT, "data.root=cjk", "hydra.run.dir=cjk_run")
    assert "猫" in commands.runs("predict", "cjk_run", "cjk/猫", "--csv")
    for split, form in (("train", "NFC"), ("val", "NFD")):
        for hue, name in enumerate(["Café", "Tee"]):
            put(f"accents/{split}/{unicodedata.normalize(form, name)}", 12, hue, len(split))
    assert "2 classes" in commands.trains(*SHORT, "data.root=accents", "hydra.run.dir=accents_run")


def write_odd_but_good(folder: Path) -> int:
    """Writes pictures that were refused or read wrongly once; returns their number."""
    text = PngImagePlugin.PngInfo()
    text.add_text("note", "a" * 3_000_000, zip=True)
    Image.new("RGB", (64, 64), "red").save(folder / "text.png", pnginfo=text)
    Image.new("RGB", (16320, 12240), "red").save(folder / "phone.jpg")
    grey = np.tile(np.linspace(0, 65535, 64), (64, 1)).astype(np.uint16)
    Image.fromarray(grey).save(folder / "sixteen_bits.png")
    Image.fromarray(grey // 16).save(folder / "twelve_bits.png")
    Image.new("CMYK", (64, 64), (0, 200, 200, 0)).save(folder / "cmyk.jpg")
    Image.new("P", (64, 64), 3).save(folder / "palette.gif")
    return 6


def test_a_folder_with_everything(commands: Commands, tmp_path: Path) -> None:
    """150 files with every fault: one screen says what is left out, and the run is trained, evaluated, used and exported."""
    for hue, name in enumerate(["Café", "猫", "left", "right"]):
        put(f"mixed/{name}", 28, hue % 3, hue)
    expected = write_bad_files(tmp_path / "mixed/left")
    good = 112 + write_odd_but_good(Path("mixed/right"))
    printed = commands.trains(*SHORT, "data.root=mixed", "data.max_bad_fraction=0.5", "hydra.run.dir=run")
    survey, _, _ = printed.partition("model: ")
    assert len(survey.splitlines()) <= 40 and max(map(len, survey.splitlines())) <= 200
    with Path("run/bad_images.csv").open() as file:
        left_out = {str(tmp_path / row["path"]) for row in csv.DictReader(file)}
    assert left_out == set(expected)
    assert "horizontal_flip" in survey and "data.white=4095" in survey
    commands.runs("evaluate", "run")
    assert commands.script("predict", "run", "mixed", "--csv", "--top", "1") == 3  # some could not be read, and that is said
    rows, said = commands.capture.readouterr()
    assert len(rows.splitlines()) == 1 + good + 3  # with the three that are no part of a class, or lead out of it
    assert "22 of 143 files were left out" in said and "Traceback" not in said
    assert "4 classes" in commands.runs("export", "run", "--format", "onnx")
