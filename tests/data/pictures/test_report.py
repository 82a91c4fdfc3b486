"""What is in a folder, said before training: once, with the setting to change."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from helpers.configs import Config, compose_config, make_data
from helpers.pictures import FOLDER, write_folder
from helpers.runs import train
from PIL import Image

from vgg_nll.inference import evaluate
from vgg_nll.run_folder.record import RunRecord


def survey(config: Config, root: Path, *overrides: str) -> str:
    data = make_data(config, *FOLDER, f"data.root={root}", "data.num_workers=0", *overrides)
    return "\n".join(data.survey())


def test_classes_sizes_and_formats(config: Config, tmp_path: Path) -> None:
    write_folder(tmp_path)
    Image.new("CMYK", (300, 200)).save(tmp_path / "train/two/a.jpg")
    Image.new("RGB", (20, 20)).save(tmp_path / "test/zero/b.webp")
    lines = survey(config, tmp_path).splitlines()
    assert lines[:4] == [
        "  class    train      val     test",
        "  two          9        8        8",
        "  one          8        8        8",
        "  zero         8        8        9",
    ]
    assert lines[4] == ("pictures of 20x20 to 300x200 pixels (median 40x36); 72 PNG, 1 JPEG, 1 WEBP; become RGB: 72 L, 1 CMYK")
    assert lines[5].startswith("warning: 8, 8, 9 test pictures a class are too few to judge: ")
    assert len(lines) == 6  # digits differ all, and nothing is wrong


@pytest.mark.slow
def test_many_classes_stay_one_screen(config: Config, tmp_path: Path) -> None:
    for split in ("train", "val"):
        for k in range(50):
            (tmp_path / split / f"class {k:02d}").mkdir(parents=True)
            for i in range(1 + k):
                Image.new("RGB", (32, 32), (k, i, len(split))).save(tmp_path / split / f"class {k:02d}" / f"{i}.png")
    text = survey(config, tmp_path)
    lines = text.splitlines()
    assert lines[1].split() == ["class", "49", "50", "50"] and lines[11] == "  ... 30 classes between these"
    assert lines[21].split() == ["class", "00", "1", "1"] and len(lines) == 24
    assert "warning: class 49 has 50.0 times as many training pictures as class 00; loss.weight=auto" in text


def test_copies_missing_classes_and_small_pictures(config: Config, tmp_path: Path) -> None:
    write_folder(tmp_path)
    content = (tmp_path / "train/one/0.png").read_bytes()
    for copy in ("train/one/copy.png", "test/one/copy.png", "train/two/copy.png"):
        (tmp_path / copy).write_bytes(content)
    for path in (tmp_path / "val/zero").iterdir():
        path.unlink()
    text = survey(config, tmp_path, "data.image_size=64")
    assert f"copies: 3 pictures with the same bytes as another ({tmp_path}/train/one/0.png = " in text
    assert "warning: 1 picture in two splits" in text and "tests on them are too good; remove one of each" in text
    assert "warning: 1 picture in two classes" in text
    assert "warning: val has no picture of zero: it says nothing of them" in text
    assert "note: 100% of the pictures are smaller than data.image_size=64, and are enlarged" in text


def test_bad_files_are_counted_by_reason(config: Config, tmp_path: Path) -> None:
    write_folder(tmp_path)
    for k in range(2):
        (tmp_path / f"train/one/x{k}.png").write_bytes(b"text")
        (tmp_path / f"val/one/x{k}.mp4").write_bytes(b"text")
    text = survey(config, tmp_path, "data.max_bad_fraction=0.1")
    assert "left out: 2 other files, listed in the run's bad_images.csv" in text
    assert "      2  .mp4: is not read as a picture; convert it to PNG or JPEG, if it is one" in text
    assert "warning: cannot be used: 2 pictures, listed in the run's bad_images.csv" in text
    assert "      2  cannot be read as a picture (not a picture, or of a format that Pillow does not know)" in text


@pytest.mark.slow
def test_it_is_said_once_and_the_list_is_in_the_run_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(tmp_path / "pictures")
    (tmp_path / "pictures/train/one/bad.png").write_bytes(b"text")
    caplog.set_level(logging.INFO)
    options = [*FOLDER, f"data.root={tmp_path}/pictures", "data.num_workers=0", "data.max_bad_fraction=0.1", "data.mean=auto"]
    options += ["model.width=0.0625", "tracking=none", "device=cpu", "data.std=auto"]
    train(tmp_path / "run", *options, "trainer.steps=2")
    assert "  class    train" in caplog.text
    table = (tmp_path / "run/bad_images.csv").read_text()
    assert table.splitlines()[1].endswith(
        "train/one/bad.png,train,one,"
        '"cannot be read as a picture (not a picture, or of a format that Pillow does not know)",replaced'
    )
    caplog.clear()
    train(tmp_path / "run", *options, f"resume={tmp_path}/run", "trainer.steps=4")
    assert "class    train" not in caplog.text
    assert (tmp_path / "run/bad_images.csv").read_text() == table


@pytest.mark.slow
def test_statistics_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run, and the evaluation of a finished one, take those that the run began with."""
    write_folder(tmp_path / "pictures")
    options = [*FOLDER, f"data.root={tmp_path}/pictures", "data.num_workers=0", "data.mean=auto", "data.std=auto"]
    options += ["model.width=0.0625", "tracking=none", "device=cpu"]
    train(tmp_path / "run", *options, "trainer.steps=2")
    network = json.loads((tmp_path / "run/run.json").read_text())["preprocessing"]
    pixels = make_data(compose_config, *options).preprocessing.mean.tolist()
    assert network["mean"] == pytest.approx(pixels) and len(set(pixels)) == 1 and 0 < pixels[0] < 1
    monkeypatch.setattr("vgg_nll.data.preprocessing.channel_statistics", lambda _: pytest.fail("measured again"))
    train(tmp_path / "run", *options, f"resume={tmp_path}/run", "trainer.steps=4")
    assert RunRecord.open(tmp_path / "run").config["data"]["mean"] == "auto"
    assert json.loads((tmp_path / "run/run.json").read_text())["preprocessing"]["mean"] == network["mean"]
    assert evaluate.open_run(tmp_path / "run", device="cpu").data.preprocessing.mean.tolist() == pixels


def test_twelve_bits_in_sixteen(config: Config, tmp_path: Path) -> None:
    write_folder(tmp_path)
    values = np.tile(np.linspace(0, 4095, 40), (40, 1)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "train/one/x.png")
    words = "1 pictures of 16 bits hold numbers up to 4,095 alone, which become 17 levels of 256; data.white=4095 (12 bits)"
    assert words in survey(config, tmp_path)
    assert "data.white" not in survey(config, tmp_path, "data.white=4095")
    for i in range(10):
        Image.fromarray(values * 16).save(tmp_path / f"train/one/y{i}.png")
        if i in (0, 8):
            assert f"warning: 1 of {i + 2} pictures of 16 bits" in survey(config, tmp_path)
    assert "data.white" not in survey(config, tmp_path)
