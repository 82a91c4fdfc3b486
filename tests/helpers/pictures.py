"""Data sets on disk, written for a test."""

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
