"""Data sets: disjoint splits, orders and augmentation that are functions of (seed, epoch, batch), and clear refusals."""

import io
import math
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.pictures import FOLDER, write_cifar, write_folder
from omegaconf import DictConfig
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets

from vgg_nll.config import build
from vgg_nll.data import folder, sources
from vgg_nll.data.decoding import decode_on, read_encoded
from vgg_nll.data.interface import ImageData, stratified_split, subsample
from vgg_nll.errors import DataError

CPU = torch.device("cpu")
Config = Callable[..., DictConfig]


def make(config: Config, *overrides: str) -> ImageData:
    return build.make_data(config(*overrides), CPU)


def test_digits_are_split_once_disjoint_and_stratified(config: Config) -> None:
    splits, names = sources.digits()
    assert names == tuple("0123456789")
    sizes = {name: len(split.target) for name, split in splits.items()}
    assert sum(sizes.values()) == 1797
    assert sizes["val"] == pytest.approx(179.7, abs=1)
    assert sizes["test"] == pytest.approx(359.4, abs=1)
    for split in splits.values():
        shares = split.target.bincount() / len(split.target)
        assert (shares - 0.1).abs().max() < 0.012
    # every scan is somewhere, once
    whole = sorted(row.tobytes() for row in load_digits().images.astype(np.uint8))
    flat = torch.cat([split.images for split in splits.values()])
    assert flat.shape == (1797, 3, 32, 32)
    assert len({image.numpy().tobytes() for image in flat}) == len(set(whole))
    again, _ = sources.digits()
    assert torch.equal(again["test"].images, splits["test"].images)
    other, _ = sources.digits(split_seed=1)
    assert not torch.equal(other["test"].images, splits["test"].images)


def test_digits_normalisation_is_of_the_training_images(config: Config) -> None:
    cfg, (splits, _) = config().data, sources.digits()
    pixels = splits["train"].images.double() / 255
    assert list(cfg.mean) == pytest.approx([pixels.mean().item()] * 3, abs=1e-3)
    assert list(cfg.std) == pytest.approx([pixels.std().item()] * 3, abs=1e-3)


def test_stratified_split_covers_everything_once() -> None:
    target = torch.tensor([0] * 7 + [1] * 13 + [2] * 3)
    parts = stratified_split(target, {"val": 0.2, "test": 0.3}, seed=0)
    assert torch.equal(torch.cat(list(parts.values())).sort().values, torch.arange(23))
    assert {name: len(part) for name, part in parts.items()} == {"train": 11, "val": 5, "test": 7}


def test_batches_are_functions_of_seed_epoch_and_position(config: Config) -> None:
    one, two = make(config, "data.shift_pixels=2"), make(config, "data.shift_pixels=2")
    other_seed = make(config, "data.shift_pixels=2", "seed=1")
    list(two.train_batches(5))  # what ran before does not matter
    whole = list(one.train_batches(3))
    resumed = list(two.train_batches(3, start=30))
    assert len(whole) == one.steps_per_epoch == 1258 // 32
    assert len(resumed) == len(whole) - 30
    for (images, target), (images_again, target_again) in zip(whole[30:], resumed, strict=True):
        assert torch.equal(images, images_again)
        assert torch.equal(target, target_again)
    assert not torch.equal(whole[0][0], next(one.train_batches(4))[0])
    assert not torch.equal(whole[0][0], next(other_seed.train_batches(3))[0])


def test_evaluation_sees_every_image_once_as_it_is(config: Config) -> None:
    data, (splits, _) = make(config, "trainer.eval_batch_size=50"), sources.digits()
    images = torch.cat([images for images, _ in data.eval_batches("val")])
    target = torch.cat([target for _, target in data.eval_batches("val")])
    assert torch.equal(target, splits["val"].target)
    mean, std = config().data.mean[0], config().data.std[0]
    torch.testing.assert_close(images * std + mean, splits["val"].images / 255, atol=1e-6, rtol=0)
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_cutout_is_part_of_training_alone(config: Config) -> None:
    data, plain = make(config, "data.cutout_pixels=8"), make(config)
    assert not torch.equal(next(data.train_batches(0))[0], next(plain.train_batches(0))[0])
    assert torch.equal(next(data.train_batches(0))[0], next(data.train_batches(0))[0])
    assert torch.equal(next(data.eval_batches("val"))[0], next(plain.eval_batches("val"))[0])


@pytest.mark.parametrize(("classes", "size"), [(2, 32), (7, 40), (100, 32)])
def test_synthetic_has_any_size(config: Config, classes: int, size: int) -> None:
    data = make(config, "data=synthetic", f"data.num_classes={classes}", f"data.image_size={size}", "data.num_images=600")
    images, target = next(data.train_batches(0))
    assert images.shape == (32, 3, size, size)
    assert (len(data.class_names), data.preprocessing.image_size) == (classes, size)
    assert sum(data.sizes.values()) == 600
    assert target.max() < classes


@pytest.mark.parametrize(("name", "classes", "sizes"), [("CIFAR10", 10, (90, 10, 20)), ("CIFAR100", 100, (180, 20, 200))])
def test_cifar(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, classes: int, sizes: tuple) -> None:
    dataset = getattr(datasets, name)
    write_cifar(tmp_path, dataset, monkeypatch)
    data = make(config, f"data={name.lower()}", f"data.root={tmp_path}", "trainer.batch_size=8")
    assert tuple(data.sizes.values()) == sizes
    assert data.class_names == tuple(f"class {i}" for i in range(classes))
    stored = pickle.loads((tmp_path / dataset.base_folder / ("test" if classes == 100 else "test_batch")).read_bytes())
    images, target = next(data.eval_batches("test"))
    cfg = config(f"data={name.lower()}").data
    first = images[0] * torch.tensor(list(cfg.std))[:, None, None] + torch.tensor(list(cfg.mean))[:, None, None]
    torch.testing.assert_close(first.flatten() * 255, torch.from_numpy(stored["data"][0]).float(), atol=1e-2, rtol=0)
    assert target[:5].tolist() == [0, 1, 2, 3, 4]


def test_cifar_labels_outside_are_refused(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, datasets.CIFAR10, monkeypatch, bad_label=10)
    with pytest.raises(DataError, match=r"test split: label 10 of image 3 is outside \[0, 10\); 1 of 20 labels are"):
        make(config, "data=cifar10", f"data.root={tmp_path}", "trainer.batch_size=8")


def test_missing_cifar_says_what_to_put_where(config: Config, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.root=.*cifar-10-python.tar.gz"):
        make(config, "data=cifar10", f"data.root={tmp_path}", "data.download=false")


@pytest.mark.parametrize("workers", [0, 2])
def test_image_folder(config: Config, tmp_path: Path, workers: int) -> None:
    write_folder(tmp_path)
    data = make(config, *FOLDER, f"data.root={tmp_path}", f"data.num_workers={workers}")
    assert data.class_names == ("one", "two", "zero")
    assert data.sizes == {"train": 24, "val": 24, "test": 24}
    whole = list(data.train_batches(1))
    assert len(whole) == data.steps_per_epoch == 6
    assert whole[0][0].shape == (4, 3, 32, 32)
    reference = make(config, *FOLDER, f"data.root={tmp_path}", "data.num_workers=0")
    for (images, target), (expected, labels) in zip(
        data.train_batches(1, start=4), list(reference.train_batches(1))[4:], strict=True
    ):
        assert torch.equal(images, expected)
        assert torch.equal(target, labels)
    assert not torch.equal(whole[0][0], next(data.train_batches(2))[0])
    target = torch.cat([target for _, target in data.eval_batches("test")])
    assert target.tolist() == [0] * 8 + [1] * 8 + [2] * 8


@pytest.mark.parametrize(("min_crop", "least"), [(1.0, 64), (0.35, 64), (0.08, 132)])
def test_small_crops_have_pixels_enough(config: Config, tmp_path: Path, min_crop: float, least: int) -> None:
    """The narrowest crop that torchvision draws, 3:4 of `min_crop` of a square, is no smaller than what is made of it."""
    for split in ("train", "val"):
        (tmp_path / split / "x").mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8 * least, 8 * least)).save(tmp_path / split / "x" / f"{i}.jpg")
    for i, side in enumerate((2 * least, 2 * least - 2)):  # the second one is not to be halved
        Image.new("RGB", (side, side)).save(tmp_path / "train/x" / f"{i}.jpg")
    data = make(config, *FOLDER, f"data.root={tmp_path}", f"data.min_crop={min_crop}")
    seen: list[torch.Size] = []
    data._train.transform = lambda picture, _: seen.append(picture.shape) or picture
    for i in range(3):
        data._train[0, i]
    assert seen == [(3, least, least), (3, 2 * least - 2, 2 * least - 2), (3, least, least)]
    assert least * math.sqrt(min_crop * 3 / 4) >= 32


def write_photographs(root: Path) -> None:
    """JPEGs, one of them on its side, in grey, in inks, of another size; and a PNG."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 9, 11, 3), dtype=np.uint8)
    pictures = [Image.fromarray(scene).resize((50, 40), Image.Resampling.BICUBIC) for scene in noise]
    pictures[1:4] = pictures[1].convert("L"), pictures[2].convert("CMYK"), pictures[3].resize((60, 60))
    exif = Image.Exif()
    exif[0x0112] = 6
    for split in ("train", "val"):
        (root / split / "x").mkdir(parents=True)
        for i, picture in enumerate(pictures):
            picture.save(root / split / "x" / f"{i}.jpg", **({"exif": exif} if i == 4 else {}))
        pictures[0].save(root / split / "x" / "8.png")


@pytest.fixture
def decoding_here(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """`data.decode_device=cuda` on a CPU, where torchcodec can do the same; how many JPEGs each call was given."""
    pytest.importorskip("torchcodec")
    calls: list[int] = []

    def count(device: torch.device, contents: list[bytes | torch.Tensor]) -> list[torch.Tensor]:
        calls.append(sum(isinstance(content, bytes) for content in contents))
        return decode_on(device, contents)

    monkeypatch.setattr(folder, "why_not_on", lambda device: None)
    monkeypatch.setattr(folder, "decode_on", count)
    monkeypatch.setattr(folder, "TOGETHER", 3)
    return calls


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_decoded_by_the_device_are_the_same(
    config: Config, tmp_path: Path, workers: int, decoding_here: list[int]
) -> None:
    write_photographs(tmp_path)
    common = (*FOLDER, f"data.root={tmp_path}", f"data.num_workers={workers}", "trainer.batch_size=9")
    batches = []
    for device in ("cpu", "cuda"):
        data = make(config, *common, f"data.decode_device={device}")
        batches.append([*data.train_batches(3), *data.eval_batches("val")])
    assert sum(decoding_here) == 2 * 6 and max(decoding_here) <= 3 and len(decoding_here) == 3 + 2 + 2
    for (images, target), (expected, labels) in zip(*batches, strict=True):
        assert torch.equal(images, expected) and images.stride() == expected.stride()
        assert torch.equal(target, labels)


def test_what_the_device_cannot_decode_is_decoded_as_usual(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoding_here: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """One JPEG at a time, said once; others of its batch stay where they are decoded."""
    write_photographs(tmp_path)
    odd = {(tmp_path / f"train/x/{i}.jpg").read_bytes() for i in (5, 6)}
    common = (*FOLDER, f"data.root={tmp_path}", "data.num_workers=0", "trainer.batch_size=9")
    expected = next(make(config, *common).train_batches(0))
    data = make(config, *common, "data.decode_device=cuda")
    usual: list[int] = []
    read = data._train.read
    monkeypatch.setattr(data._train, "read", lambda key: usual.append(key[1]) or read(key))

    def decode(device: torch.device, contents: list[bytes | torch.Tensor]) -> list[torch.Tensor]:
        if odd.intersection(content for content in contents if isinstance(content, bytes)):
            raise RuntimeError("nvJPEG: status 4")
        return decode_on(device, contents)

    monkeypatch.setattr(folder, "decode_on", decode)
    assert all(torch.equal(a, b) for a, b in zip(next(data.train_batches(0)), expected, strict=True))
    assert sorted(usual) == [5, 6]
    assert caplog.text.count("the GPU cannot decode it, the CPU does") == 1


def test_a_full_gpu_is_no_broken_picture(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoding_here: list[int]
) -> None:
    """torchcodec hands PyTorch's errors on as plain ones."""
    write_photographs(tmp_path)
    data = make(config, *FOLDER, f"data.root={tmp_path}", "data.num_workers=0", "data.decode_device=cuda")
    full = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB (originally from torch_call_dispatcher)")
    monkeypatch.setattr(folder, "decode_on", lambda *_: (_ for _ in ()).throw(full))
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        next(data.train_batches(0))


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.97])
def test_a_broken_picture_is_named_wherever_it_is_decoded(
    config: Config, tmp_path: Path, kept: float, decoding_here: list[int]
) -> None:
    """Cut short, with a preview that is whole in its EXIF data, or with nothing between its ends."""
    write_photographs(tmp_path)
    path = tmp_path / "train/x/6.jpg"
    picture, preview = Image.open(path), io.BytesIO()
    picture.resize((16, 16)).save(preview, "JPEG")
    picture.save(path, exif=b"Exif\0\0" + preview.getvalue())
    whole = path.read_bytes()
    data = make(config, *FOLDER, f"data.root={tmp_path}", "data.num_workers=0", "data.decode_device=cuda")
    list(data.train_batches(0))
    assert isinstance(read_encoded(path, 32), bytes)
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(DataError, match="mend or remove it"):  # before a GPU sees it, which would make up the rest
        read_encoded(path, 32)
    for broken in (path.read_bytes(), whole[:200] + whole[-2:]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"x/6\.jpg: cannot be read as a picture; mend or remove it"):
            list(data.train_batches(0))


def test_without_a_gpu_the_workers_decode(config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(tmp_path)
    data = make(config, *FOLDER, f"data.root={tmp_path}", "data.num_workers=0", "data.decode_device=cuda")
    assert (
        caplog.text.count("data.decode_device=cuda: no JPEG can be decoded there") == 1 and "the device is cpu" in caplog.text
    )
    assert next(data.train_batches(0))[0].shape == (4, 3, 32, 32)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_decodes_nearly_the_same(config: Config, tmp_path: Path) -> None:
    pytest.importorskip("torchcodec")
    write_photographs(tmp_path)
    here, there = torch.device("cpu"), torch.device("cuda")
    contents = [read_encoded(path, 150) for path in sorted((tmp_path / "train/x").iterdir())]
    assert [isinstance(content, bytes) for content in contents] == [True, True, False, True, False, True, True, True, False]
    for got, expected in zip(decode_on(there, contents), decode_on(here, contents), strict=True):
        assert got.is_cuda and got.shape == expected.shape
        assert (got.cpu().float() - expected.float()).abs().mean() < 3  # of 255
    common = config(*FOLDER, f"data.root={tmp_path}", "data.num_workers=2", "trainer.batch_size=9")
    batches = []
    for device in ("cpu", "cuda"):
        common.data.decode_device = device
        data = build.make_data(common, there)
        batches.append([*data.train_batches(3), *data.eval_batches("val")])
        assert not data._warned
    for (images, target), (expected, labels) in zip(*batches, strict=True):
        assert images.is_cuda and torch.equal(target, labels)
        pixels = [data.preprocessing.pixels(x).float() for x in (images, expected)]
        assert (pixels[0] - pixels[1]).abs().mean() < 3


def test_image_folder_without_test(config: Config, tmp_path: Path) -> None:
    write_folder(tmp_path, ("train", "val"))
    assert make(config, *FOLDER, f"data.root={tmp_path}").sizes == {"train": 24, "val": 24}


def test_bad_folders_are_refused(config: Config, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.root=.*no such folder; expected .*/train/<class>"):
        make(config, *FOLDER, f"data.root={tmp_path}/nowhere")
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match=r"no class folders with pictures in train/; expected"):
        make(config, *FOLDER, f"data.root={tmp_path}")
    write_folder(tmp_path / "x")
    (tmp_path / "x" / "val" / "one").rename(tmp_path / "x" / "val" / "four")
    with pytest.raises(DataError, match=r"train/ and val/ differ in their class folders: four, one"):
        make(config, *FOLDER, f"data.root={tmp_path}/x")


def test_a_batch_larger_than_the_set_is_refused(config: Config) -> None:
    with pytest.raises(DataError, match=r"trainer.batch_size=2000 is more than the 1258 training images"):
        make(config, "trainer.batch_size=2000")


def test_an_empty_split_is_refused(config: Config) -> None:
    with pytest.raises(DataError, match=r"the val split is empty; raise data.val_share"):
        make(config, "data.val_share=0.0002")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_is_named(config: Config, tmp_path: Path, workers: int) -> None:
    write_folder(tmp_path)
    (tmp_path / "val" / "one" / "3.png").write_bytes(b"not a picture")
    data = make(config, *FOLDER, f"data.root={tmp_path}", f"data.num_workers={workers}")
    with pytest.raises(DataError, match=rf"^{tmp_path}/val/one/3.png: cannot be read as a picture; mend or remove it$"):
        list(data.eval_batches("val"))


def test_order_and_augmentation_each_change_with_the_epoch(config: Config, tmp_path: Path) -> None:
    still = make(config, "data.shift_pixels=0")
    assert not torch.equal(next(still.train_batches(0))[1], next(still.train_batches(1))[1])
    write_folder(tmp_path)
    pictures = make(config, *FOLDER, f"data.root={tmp_path}")._train
    assert torch.equal(pictures[0, 3][0], pictures[0, 3][0])
    assert not torch.equal(pictures[0, 3][0], pictures[1, 3][0])


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_worker_that_dies_is_replaced(
    config: Config, tmp_path: Path, deaths: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Killed at its third picture: new ones go on behind the batches that are done. Twice at one batch is an error."""
    write_folder(tmp_path / "pictures")
    cfg = (*FOLDER, f"data.root={tmp_path}/pictures", "trainer.batch_size=1")
    expected = list(make(config, *cfg, "data.num_workers=0").train_batches(0))
    from vgg_nll.data.folder import _Pictures

    original, order = _Pictures.__getitem__, []

    def read(self: _Pictures, key: tuple[int, int]) -> tuple:
        order.append(key)  # of this worker
        marks = [tmp_path / f"died-{i}" for i in range(deaths)]
        if len(order) == (3 if not marks[0].exists() else 1):
            for mark in marks:
                if not mark.exists():
                    mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
        return original(self, key)

    monkeypatch.setattr(_Pictures, "__getitem__", read)
    before = signal.getsignal(signal.SIGCHLD)
    batches = make(config, *cfg, "data.num_workers=1").train_batches(0)
    if deaths == 1:
        got = list(batches)
        assert all(torch.equal(a, b) for pair in zip(got, expected, strict=True) for a, b in zip(*pair, strict=True))
        assert caplog.text.count("a process that reads pictures has died") == 1
    else:
        with pytest.raises(DataError, match=r"die again and again .*data\.num_workers=0"):
            list(batches)
    assert signal.getsignal(signal.SIGCHLD) is before


def test_a_picture_that_is_refused_is_named(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One with far too many pixels: PIL's error for it is no OSError."""
    write_folder(tmp_path / "pictures")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    data = make(config, *FOLDER, f"data.root={tmp_path}/pictures", "data.num_workers=0")
    with pytest.raises(DataError, match=r"\.png: cannot be read as a picture; mend or remove it"):
        next(data.train_batches(0))


@pytest.mark.parametrize(("images", "most"), [(10, 3), (10, 10), (10, 100), (7, 2), (1, 1)])
@pytest.mark.parametrize("batch_size", [1, 3, 10])
def test_thinned(images: int, most: int, batch_size: int) -> None:
    """Every k-th image, whatever the batches."""
    everything = torch.arange(images)
    parts = [(part, part + 100) for part in everything.split(batch_size)]
    kept = list(subsample(parts, images, most))
    found = torch.cat([part for part, _ in kept])
    assert found.tolist() == list(range(0, images, -(-images // most)))
    assert len(found) <= most
    assert torch.equal(torch.cat([labels for _, labels in kept]), found + 100)


def test_pixels_come_back(config: Config) -> None:
    """Bytes to floats and back are the same bytes; what cannot be a pixel is black, or the nearest one."""
    data = make(config, "data=synthetic")
    bytes_ = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    floats = data.preprocessing.normalise(bytes_)
    assert torch.equal(data.preprocessing.pixels(floats), bytes_)
    assert data.preprocessing.pixels(torch.full((1, 3, 1, 1), 1e9)).unique().tolist() == [255]
    assert data.preprocessing.pixels(torch.full((1, 3, 1, 1), torch.nan)).unique().tolist() == [0]
