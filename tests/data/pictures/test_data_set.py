"""Folders of pictures: the same batches for any number of workers, and one line for what cannot be read."""

import functools
import math
import multiprocessing
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.configs import Config, make_data
from helpers.pictures import FOLDER, write_folder
from PIL import Image
from torch.utils.data import DataLoader

from vgg_nll.data.pictures.data_set import FolderData
from vgg_nll.data.pictures.reader import PictureSet
from vgg_nll.errors import DataError


def make_folder(config: Config, root: Path, *overrides: str) -> FolderData:
    data = make_data(config, *FOLDER, f"data.root={root}", *overrides)
    assert isinstance(data, FolderData)
    return data


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_image_folder(config: Config, tmp_path: Path, workers: int) -> None:
    write_folder(tmp_path)
    data = make_data(config, *FOLDER, f"data.root={tmp_path}", f"data.num_workers={workers}")
    assert data.class_names == ("one", "two", "zero")
    assert data.sizes == {"train": 24, "val": 24, "test": 24}
    whole = list(data.train_batches(1))
    assert len(whole) == data.steps_per_epoch == 6
    assert whole[0][0].shape == (4, 3, 32, 32)
    reference = make_data(config, *FOLDER, f"data.root={tmp_path}", "data.num_workers=0")
    for (images, target), (expected, labels) in zip(
        data.train_batches(1, start=4), list(reference.train_batches(1))[4:], strict=True
    ):
        assert torch.equal(images, expected)
        assert torch.equal(target, labels)
    assert not torch.equal(whole[0][0], next(data.train_batches(2))[0])
    target = torch.cat([target for _, target in data.eval_batches("test")])
    assert target.tolist() == [0] * 8 + [1] * 8 + [2] * 8


@pytest.mark.parametrize(("min_crop", "side"), [(1.0, 64), (0.35, 64), (0.08, 132)])
def test_small_crops_have_enough_pixels(config: Config, tmp_path: Path, min_crop: float, side: int) -> None:
    """The narrowest crop that torchvision draws, 3:4 of `min_crop` of a square, has at least `image_size` pixels a side."""
    for split in ("train", "val"):
        (tmp_path / split / "x").mkdir(parents=True)
        (tmp_path / split / "y").mkdir()
        Image.new("RGB", (8 * side, 8 * side)).save(tmp_path / split / "y" / "0.jpg")
        for i in range(4):
            Image.new("RGB", (8 * side, 8 * side)).save(tmp_path / split / "x" / f"{i}.jpg")
    for i, length in enumerate((2 * side, 2 * side - 2)):  # the second one must not be halved
        Image.new("RGB", (length, length)).save(tmp_path / "train/x" / f"{i}.jpg")
    data = make_folder(config, tmp_path, f"data.min_crop={min_crop}")
    seen: list[torch.Size] = []

    def note(picture: torch.Tensor, _: torch.Generator) -> torch.Tensor:
        seen.append(picture.shape)
        return picture

    data._train.transform = note
    for i in range(3):
        data._train[0, i]
    assert seen == [(3, side, side), (3, 2 * side - 2, 2 * side - 2), (3, side, side)]
    assert side * math.sqrt(min_crop * 3 / 4) >= 32


def test_image_folder_without_test(config: Config, tmp_path: Path) -> None:
    write_folder(tmp_path, ("train", "val"))
    assert make_data(config, *FOLDER, f"data.root={tmp_path}").sizes == {"train": 24, "val": 24}


def test_bad_folders_are_refused(config: Config, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.root=.*no such folder; expected .*/train/<class>"):
        make_data(config, *FOLDER, f"data.root={tmp_path}/nowhere")
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match=r"no class folders with pictures in train/; expected"):
        make_data(config, *FOLDER, f"data.root={tmp_path}")
    write_folder(tmp_path / "x")
    (tmp_path / "x" / "val" / "one").rename(tmp_path / "x" / "val" / "four")
    with pytest.raises(DataError, match=r"val/ has four, which train/ lacks \(and val/ has no one\)"):
        make_data(config, *FOLDER, f"data.root={tmp_path}/x")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_is_named(config: Config, tmp_path: Path, workers: int) -> None:
    write_folder(tmp_path)
    (tmp_path / "val" / "one" / "3.png").write_bytes(b"not a picture")
    data = make_data(config, *FOLDER, f"data.root={tmp_path}", f"data.num_workers={workers}", "data.on_error=raise")
    before = set(multiprocessing.active_children())
    with pytest.raises(
        DataError, match=rf"^{tmp_path}/val/one/3.png: cannot be read as a picture \(not a picture, .*\); fix or remove it$"
    ):
        list(data.eval_batches("val"))
    assert set(multiprocessing.active_children()) <= before  # the workers are stopped


def test_augmentation_changes_with_the_epoch(config: Config, tmp_path: Path) -> None:
    write_folder(tmp_path)
    pictures = make_folder(config, tmp_path)._train
    assert torch.equal(pictures[0, 3][0], pictures[0, 3][0])
    assert not torch.equal(pictures[0, 3][0], pictures[1, 3][0])


@pytest.mark.slow
@pytest.mark.parametrize("deaths", [1, 2])
def test_a_worker_that_dies_is_replaced(
    config: Config, tmp_path: Path, deaths: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Killed at its third picture: new ones continue after the batches that are done. Twice at one batch is an error."""
    write_folder(tmp_path / "pictures")
    cfg = (*FOLDER, f"data.root={tmp_path}/pictures", "trainer.batch_size=1")
    expected = list(make_data(config, *cfg, "data.num_workers=0").train_batches(0))
    original = PictureSet.__getitem__
    order: list[tuple[int, int]] = []

    def read(self: PictureSet, key: tuple[int, int]) -> tuple[Any, ...]:
        order.append(key)  # of this worker
        marks = [tmp_path / f"died-{i}" for i in range(deaths)]
        if len(order) == (3 if not marks[0].exists() else 1):
            for mark in marks:
                if not mark.exists():
                    mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
        return original(self, key)

    monkeypatch.setattr(PictureSet, "__getitem__", read)
    # A loader looks for a dead worker after 5 s without a batch, or after its timeout; a batch takes milliseconds here.
    monkeypatch.setattr(DataLoader, "__init__", functools.partialmethod(DataLoader.__init__, timeout=2))
    before = signal.getsignal(signal.SIGCHLD)
    batches = make_data(config, *cfg, "data.num_workers=1").train_batches(0)
    if deaths == 1:
        got = list(batches)
        assert all(torch.equal(a, b) for pair in zip(got, expected, strict=True) for a, b in zip(*pair, strict=True))
        assert caplog.text.count("a worker process has died") == 1
    else:
        with pytest.raises(DataError, match=r"die again and again .*data\.num_workers=0"):
            list(batches)
    assert signal.getsignal(signal.SIGCHLD) is before


def test_a_refused_picture_is_named(config: Config, tmp_path: Path) -> None:
    write_folder(tmp_path / "pictures")
    options = [f"data.root={tmp_path}/pictures", "data.num_workers=0", "data.on_error=raise", "data.max_megapixels=0.001"]
    data = make_data(config, *FOLDER, *options)
    words = r"\.png: cannot be read as a picture \(40x36: more than data.max_megapixels=0.001 million pixels.*\); fix or remove"
    with pytest.raises(DataError, match=words):
        next(data.train_batches(0))


def test_pictures_are_looked_at_once(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When they are listed: an epoch opens them, and asks for nothing else by their names."""
    asked: list[str] = []
    for name in ("stat", "lstat", "access"):
        original = getattr(os, name)

        def noted(path: Any, *args: Any, original: Any = original, **options: Any) -> Any:
            asked.append(os.fspath(path) if not isinstance(path, int) else "")
            return original(path, *args, **options)

        monkeypatch.setattr(os, name, noted)
    write_folder(tmp_path)
    data = make_folder(config, tmp_path, "data.num_workers=0")
    assert {path for path in asked if path.endswith(".png")}  # listed
    asked.clear()
    list(data.train_batches(0))
    assert [path for path in asked if path.startswith(str(tmp_path))] == []


def test_paths_are_those_of_the_pictures_that_were_read(config: Config, tmp_path: Path) -> None:
    """Below data.root; of a picture that cannot be read, the one that took its place, whose pixels are there twice."""
    write_folder(tmp_path)
    victim = sorted((tmp_path / "test/two").iterdir())[2]
    victim.write_bytes(b"no picture")
    data = make_folder(config, tmp_path, "data.max_bad_fraction=0.5")
    images = torch.cat([images for images, _ in data.eval_batches("test")])
    paths = data.image_paths("test")
    assert len(paths) == len(images) == 24
    own = [os.path.relpath(sample.path, tmp_path) for sample in data._listing.samples["test"]]
    (k,) = [k for k, (path, mine) in enumerate(zip(paths, own, strict=True)) if path != mine]
    assert own[k] == os.path.relpath(victim, tmp_path) and Path(paths[k]).parent == Path("test/two")
    assert torch.equal(images[k], images[own.index(paths[k])])


def write_wide(root: Path) -> None:
    """Pictures of 160x40, whose class is a mark at the left end."""
    for colour, name in (((255, 0, 0), "red"), ((0, 255, 0), "green")):
        (root / name).mkdir(parents=True)
        for k in range(20):
            picture = Image.new("RGB", (160, 40), (100 + k, 100, 100))
            picture.paste(colour, (4, 8, 28, 32))
            picture.save(root / name / f"{k}.png")


@pytest.mark.parametrize(("fit", "is_seen"), [("crop", False), ("pad", True), ("squash", True)])
def test_the_ends_of_wide_pictures(config: Config, tmp_path: Path, fit: str, is_seen: bool) -> None:
    """In training, too; and the survey says how to see them."""
    write_wide(tmp_path)
    data = make_folder(config, tmp_path, f"data.fit={fit}", "data.test_fraction=0", "data.min_crop=0.9")
    for batches in (data.eval_batches("val"), data.train_batches(0)):
        for images, target in batches:
            pixels = data.preprocessing.pixels(images).flatten(2).int()
            marks = {name: (pixels[:, k] - pixels[:, 1 - k]).amax(1) > 100 for k, name in enumerate(("red", "green"))}
            for name, found in marks.items():
                of_class = target == data.class_names.index(name)
                assert bool(found[of_class].all()) is is_seen or not of_class.any()
                assert not found[~of_class].any()
    note = [line for line in data.survey() if "its ends are cut off; data.fit=pad or squash keeps them" in line]
    assert bool(note) is not is_seen
    assert data.preprocessing.to_dict().get("fit", "crop") == fit


def test_mirrored_sides(config: Config, tmp_path: Path) -> None:
    for name in ("left hand", "Right hand"):
        write_wide(tmp_path / "x")
        (tmp_path / "x/red").rename(tmp_path / name)
        shutil.rmtree(tmp_path / "x")
    for flip in ("true", "false"):
        lines = "\n".join(make_folder(config, tmp_path, f"data.horizontal_flip={flip}").survey())
        assert ("Right hand and left hand are classes, and data.horizontal_flip=true mirrors" in lines) is (flip == "true")
