"""IDX files: MNIST's format, packed or not, and what is wrong with a file that is none."""

import gzip
from pathlib import Path

import pytest
import torch
from helpers.configs import Config, make_data
from helpers.pictures import write_idx
from helpers.runs import train
from torchvision import datasets

from vgg_nll.data.memory import sources
from vgg_nll.data.memory.data_set import InMemoryData
from vgg_nll.errors import DataError

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("place", [".", "FashionMNIST/raw"])
def test_it_reads_what_torchvision_reads(packed: bool, place: str, tmp_path: Path) -> None:
    write_idx(tmp_path / place, packed=packed)
    splits, names = sources.fashion_mnist(root=str(tmp_path), download=False)
    assert (len(names), names[0]) == (10, "T-shirt/top")
    assert {name: len(split.target) for name, split in splits.items()} == {"train": 36, "val": 4, "test": 40}
    write_idx(tmp_path / "MNIST/raw", packed=False)
    theirs = datasets.MNIST(tmp_path, train=False)
    test = splits["test"]
    assert torch.equal(test.images[:, 1, 2:30, 2:30], theirs.data)
    assert torch.equal(test.target, theirs.targets)
    frame = test.images.clone()
    frame[:, :, 2:30, 2:30] = 0
    assert frame.sum() == 0
    assert test.images.shape == (40, 3, 32, 32)


def test_mnist_has_digits(config: Config, tmp_path: Path) -> None:
    write_idx(tmp_path)
    data = make_data(config, "data=mnist", f"data.root={tmp_path}", "trainer.batch_size=4")
    assert data.class_names == tuple("0123456789")
    assert isinstance(data, InMemoryData)
    pixels = data._splits["train"].images.double() / 255  # "auto": of the training images
    torch.testing.assert_close(data.preprocessing.mean.double(), pixels.mean(dim=(0, 2, 3)), atol=1e-6, rtol=0)
    torch.testing.assert_close(data.preprocessing.std.double(), pixels.std(dim=(0, 2, 3), correction=0), atol=1e-6, rtol=0)


def rewrite(path: Path, change: str) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    if change == "cut":
        del content[-5:]
    elif change == "type":
        content[2] = 0x0D  # floats
    elif change == "dimensions":
        content[3] = 2
    elif change == "none":
        content[4:8] = bytes(4)
    elif change == "short":
        del content[6:]
    path.write_bytes(b"no gzip" if change == "packed" else gzip.compress(bytes(content)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("cut", r"holds 31,355 bytes, not the 31,360 that it announces"),
        ("type", "is not an IDX file of bytes in 3 dimensions"),
        ("dimensions", "is not an IDX file of bytes in 3 dimensions"),
        ("none", "holds no images; fetch it again"),
        ("short", "is not an IDX file of bytes in 3 dimensions"),
        ("packed", "cannot be read .*Not a gzipped file.*; fetch it again"),
    ],
)
def test_damaged_files_are_named(change: str, words: str, tmp_path: Path) -> None:
    write_idx(tmp_path)
    rewrite(tmp_path / f"{IMAGES}.gz", change)
    with pytest.raises(DataError, match=rf"{IMAGES}\.gz: {words}"):
        sources.mnist(root=str(tmp_path), download=False)


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    write_idx(tmp_path, packed=False)
    (tmp_path / LABELS).write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 3]))
    with pytest.raises(DataError, match=rf"{IMAGES}: holds 40 images, and {LABELS} 3 labels"):
        sources.mnist(root=str(tmp_path), download=False)


def test_large_images_are_refused(tmp_path: Path) -> None:
    write_idx(tmp_path, side=33)
    with pytest.raises(DataError, match="33x33 pixels are larger than 32x32"):
        sources.mnist(root=str(tmp_path), download=False)


def test_missing_files_say_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "DEBIAN", {"FashionMNIST": tmp_path / "none"})
    with pytest.raises(
        DataError, match=r"FashionMNIST is missing .*; put its four .*gz\); or apt-get install dataset-fashion-mnist"
    ):
        sources.fashion_mnist(root=str(tmp_path), download=False)
    write_idx(tmp_path / "none")
    assert len(sources.fashion_mnist(root=str(tmp_path), download=False)[0]["test"].target) == 40


@pytest.mark.slow
@pytest.mark.skipif(not sources.DEBIAN["FashionMNIST"].is_dir(), reason="the package dataset-fashion-mnist is not installed")
def test_a_narrow_network_learns_clothes(tmp_path: Path) -> None:
    """The real files, from Debian's package: 3,000 images for three epochs."""
    options = ["data=fashion_mnist", f"data.root={tmp_path}", "data.train_images=3000", "model=vgg16_bn", "model.width=0.125"]
    content = train(tmp_path / "run", *options, "trainer.epochs=3", "tracking=none", "device=cpu")
    assert content["test"]["accuracy"] > 0.7
    assert set(content["classes"]) == set(sources.FASHION)
