"""Data sets on disk, written for a test."""

import gzip
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets

FOLDER = ("data=image_folder", "data.image_size=32", "trainer.batch_size=4", "trainer.eval_batch_size=5")


def write_folder(root: Path, splits: tuple[str, ...] = ("train", "val", "test"), classes: int = 3) -> None:
    """Writes digits as PNGs: train/zero/0.png, ..."""
    bunch, names = load_digits(), ("zero", "one", "two")
    for s, split in enumerate(splits):
        for label in range(classes):
            folder = root / split / names[label]
            folder.mkdir(parents=True)
            scans = bunch.images[bunch.target == label][8 * s : 8 * s + 8]
            for i, scan in enumerate(scans):
                Image.fromarray((scan * 15).astype(np.uint8)).resize((40, 36)).save(folder / f"{i}.png")


def write_table(path: Path) -> None:
    """Writes a table of the pictures of `write_folder` beside it: path,label,split."""
    files = sorted(path.parent.rglob("*.png"))
    rows = [f"{file.relative_to(path.parent)},{file.parts[-2]},{file.parts[-3]}\n" for file in files]
    path.write_text("".join(["path,label,split\n", *rows]))


def write_cifar(
    root: Path, dataset: type[datasets.CIFAR10], monkeypatch: pytest.MonkeyPatch, bad_label: int | None = None
) -> None:
    """Writes an archive in CIFAR's own format: pickled batches of [N, 3072] bytes in a tar.gz, 20 images a file."""
    draw, fine = np.random.default_rng(0), dataset is datasets.CIFAR100
    names = ["train", "test"] if fine else [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    classes = 100 if fine else 10
    folder = root / dataset.base_folder
    folder.mkdir(parents=True)
    for name in names:
        count = 200 if fine else 20
        labels = [int(i % classes) for i in range(count)]
        if bad_label is not None and "test" in name:
            labels[3] = bad_label
        content = {"data": draw.integers(0, 256, (count, 3072), dtype=np.uint8), "fine_labels" if fine else "labels": labels}
        (folder / name).write_bytes(pickle.dumps(content))
    key = "fine_label_names" if fine else "label_names"
    meta = "meta" if fine else "batches.meta"
    (folder / meta).write_bytes(pickle.dumps({key: [f"class {i}" for i in range(classes)]}))
    with tarfile.open(root / dataset.filename, "w:gz") as archive:
        archive.add(folder, dataset.base_folder)
    # the checksums are of the real archive
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5=None: Path(path).is_file())


def write_idx(root: Path, images: int = 40, side: int = 28, packed: bool = True) -> None:
    """Writes MNIST's four files: noise of `side` pixels, classes 0 to 9 in turn; as they are, or packed by gzip."""
    draw = np.random.default_rng(0)
    root.mkdir(parents=True, exist_ok=True)
    for split in ("train", "t10k"):
        pixels = draw.integers(0, 256, (images, side, side), dtype=np.uint8)
        labels = (np.arange(images) % 10).astype(np.uint8)
        for name, array in ((f"{split}-images-idx3-ubyte", pixels), (f"{split}-labels-idx1-ubyte", labels)):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            content = head + array.tobytes()
            (root / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)


def write_imagenet(root: Path) -> None:
    """Writes a picture for each of 1,000 class folders n01440764, ... of train/ and val/."""
    content = io.BytesIO()
    Image.new("RGB", (40, 36), "teal").save(content, "JPEG")
    for split in ("train", "val"):
        for k in range(1000):
            folder = root / split / f"n{1440764 + k:08d}"
            folder.mkdir(parents=True)
            (folder / "x.JPEG").write_bytes(content.getvalue())


def write_stand_in(data: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes a few images in the format of a data set, by the name of its source."""
    match data:
        case "cifar10" | "cifar100":
            write_cifar(root, getattr(datasets, data.upper()), monkeypatch)
        case "mnist" | "fashion_mnist":
            write_idx(root)
        case "list_imagenet":
            write_imagenet(root)
        case "list_csv":
            write_folder(root)
            write_table(root / "labels.csv")
        case _:
            write_folder(root)
