"""Sources of small data sets: each function returns uint8 splits and class names."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets

from vgg_nll.data.interface import Source, Split
from vgg_nll.data.memory import idx
from vgg_nll.data.splits import stratified_split
from vgg_nll.errors import DataError
from vgg_nll.files import expanded

DEBIAN = {"FashionMNIST": Path("/usr/share/datasets/fashion-mnist")}  # the package dataset-fashion-mnist
SIDE = 32  # VGG-16 halves a side five times
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def digits(*, image_size: int = 32, val_fraction: float = 0.1, test_fraction: float = 0.2, split_seed: int = 0) -> Source:
    """Returns scikit-learn's 1,797 handwritten digits, 8x8 scans in 17 greys, resized (bilinear) and repeated to RGB.

    The split is stratified and depends on `split_seed` alone, so runs with different seeds share one test set.
    """
    from sklearn.datasets import load_digits  # takes a second to load, which other data sets do not need

    bunch = load_digits()
    scans = torch.from_numpy(bunch.images).float()[:, None] * (255 / 16)  # [N, 1, 8, 8]
    resized = torch.nn.functional.interpolate(scans, size=(image_size, image_size), mode="bilinear")
    images = resized.round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1)
    target = torch.from_numpy(bunch.target).long()
    index = stratified_split(target, {"val": val_fraction, "test": test_fraction}, split_seed)
    return _take(images, target, index), tuple("0123456789")


def synthetic(
    *, num_classes: int = 10, num_images: int = 1000, image_size: int = 32, noise: float = 0.3, split_seed: int = 0
) -> Source:
    """Returns a smooth random pattern per class under per-pixel noise of `noise` times full scale; any size, any classes.

    60% train, 20% validation, 20% test, as closely as the images of a class allow.
    """
    if num_images < 5 * num_classes:
        raise DataError(f"data.num_images={num_images} is too few for {num_classes} classes: set at least 5 a class")
    draw = torch.Generator().manual_seed(split_seed)
    patterns = torch.rand(num_classes, 3, 4, 4, generator=draw)
    patterns = torch.nn.functional.interpolate(patterns, size=(image_size, image_size), mode="bilinear")
    target = torch.arange(num_images) % num_classes
    images = torch.empty(num_images, 3, image_size, image_size, dtype=torch.uint8)
    for i, label in enumerate(target):  # one at a time: floats of 224x224 take 600 kB an image
        pixels = patterns[label] + noise * torch.randn(3, image_size, image_size, generator=draw)
        images[i] = pixels.mul(255).clamp(0, 255).to(torch.uint8)
    index = stratified_split(target, {"val": 0.2, "test": 0.2}, split_seed)
    return _take(images, target, index), tuple(f"pattern {k}" for k in range(num_classes))


def cifar10(*, root: str, download: bool = True, val_fraction: float = 0.1, split_seed: int = 0) -> Source:
    """Returns CIFAR-10 (Krizhevsky, 2009): 45,000 / 5,000 / 10,000 images of 32x32; validation is split off training."""
    return _cifar(datasets.CIFAR10, root, download, val_fraction, split_seed)


def cifar100(*, root: str, download: bool = True, val_fraction: float = 0.1, split_seed: int = 0) -> Source:
    """Returns CIFAR-100: as `cifar10`, with 100 classes."""
    return _cifar(datasets.CIFAR100, root, download, val_fraction, split_seed)


def fashion_mnist(*, root: str, download: bool = True, val_fraction: float = 0.1, split_seed: int = 0) -> Source:
    """Returns Fashion-MNIST (arXiv:1708.07747): 54,000 / 6,000 / 10,000 grey images, 28x28 in a black frame of 32x32."""
    return _mnist(datasets.FashionMNIST, FASHION, root, download, val_fraction, split_seed)


def mnist(*, root: str, download: bool = True, val_fraction: float = 0.1, split_seed: int = 0) -> Source:
    """Returns MNIST (LeCun et al., 1998): 54,000 / 6,000 / 10,000 grey images of digits, as `fashion_mnist`."""
    return _mnist(datasets.MNIST, tuple("0123456789"), root, download, val_fraction, split_seed)


def _mnist(
    dataset: type[datasets.MNIST], names: tuple[str, ...], root: str, download: bool, val_fraction: float, split_seed: int
) -> Source:
    kind, folder = dataset.__name__, expanded(root)
    places = [folder, folder / kind / "raw", *([DEBIAN[kind]] if kind in DEBIAN else [])]  # the second one is torchvision's
    if idx.find_files(places) is None:
        try:
            dataset(folder, download=download)
        except (RuntimeError, OSError) as error:
            package = "; or apt-get install dataset-fashion-mnist" if kind in DEBIAN else ""
            reason = " ".join(str(error).split())
            raise DataError(
                f"data.root={root}: {kind} is missing and could not be downloaded ({reason}); put its four files there "
                f"({', '.join(idx.NAMES.values())}, also as .gz){package}"
            ) from error
    files = idx.find_files(places)
    if files is None:
        raise DataError(
            f"data.root={root}: {kind} is there in a form that is not read; put {', '.join(idx.NAMES.values())} there"
        )
    parts = {}
    for split in ("train", "test"):
        images, target = (idx.read(files[split, dimensions], dimensions) for dimensions in (3, 1))
        if len(images) != len(target):
            raise DataError(
                f"{files[split, 3]}: holds {len(images):,} images, and {files[split, 1].name} {len(target):,} labels"
            )
        parts[split] = Split(_framed(images), target.long())
    train = parts["train"]
    splits = _take(train.images, train.target, stratified_split(train.target, {"val": val_fraction}, split_seed))
    return splits | {"test": parts["test"]}, names


def _framed(images: Tensor) -> Tensor:
    """Returns grey images [N, h, w] in the middle of black squares, as RGB: [N, 3, SIDE, SIDE], one channel in memory."""
    height, width = images.shape[1:]
    if max(height, width) > SIDE:
        raise DataError(f"data: images of {width}x{height} pixels are larger than {SIDE}x{SIDE}")
    left, top = (SIDE - width) // 2, (SIDE - height) // 2
    framed = torch.nn.functional.pad(images, (left, SIDE - width - left, top, SIDE - height - top))
    return framed[:, None].expand(-1, 3, -1, -1)


def _cifar(dataset: type[datasets.CIFAR10], root: str, download: bool, val_fraction: float, split_seed: int) -> Source:
    folder = expanded(root)
    try:
        train = dataset(folder, train=True, download=download)
        test = dataset(folder, train=False, download=False)
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"data.root={root}: {dataset.__name__} is missing and could not be downloaded ({error}); "
            f"put {dataset.filename} of {dataset.url} there"
        ) from error
    target = torch.tensor(train.targets)
    index = stratified_split(target, {"val": val_fraction}, split_seed)
    splits = _take(_from_numpy(train.data), target, index)
    splits["test"] = Split(_from_numpy(test.data), torch.tensor(test.targets))
    return splits, tuple(train.classes)


def _from_numpy(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()  # [N, H, W, 3] -> [N, 3, H, W]


def _take(images: Tensor, target: Tensor, index: dict[str, Tensor]) -> dict[str, Split]:
    return {name: Split(images[i].contiguous(), target[i]) for name, i in index.items()}
