"""Folders of pictures, one folder per class, read by worker processes."""

import logging
import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from vgg_nll import hardware, rng
from vgg_nll.data.augment import CropAndFlip
from vgg_nll.data.decoding import jpeg_decoder, read_picture
from vgg_nll.data.interface import (
    TRAIN_EVAL,
    Batch,
    check_batch_size,
    digest_of,
    fold_split,
    number_of_images,
    train_eval_indices,
)
from vgg_nll.data.layout import EXPECTED_TREE, check_root
from vgg_nll.data.preprocessing import Preprocessing
from vgg_nll.data.workers import load_batches
from vgg_nll.errors import DataError
from vgg_nll.files import expanded

log = logging.getLogger(__name__)

Transform = Callable[[Tensor, torch.Generator], Tensor]
Key = tuple[int, int]  # epoch, index
Samples = list[tuple[str, int]]  # path, class


class FolderData:
    """`ImageData` over `root/train`, `root/val` and, if it exists, `root/test`.

    Training pictures are cropped at random (`min_crop` to 1 of the area), resized, and, with `horizontal_flip`, mirrored with
    probability 1/2; the others are resized to `image_size / 0.875` and cropped in the middle, the usual ImageNet protocol.
    Every draw is a function of (seed, epoch, index), for any number of workers.

    Args:
        folds, fold: cross-validation: all pictures are pooled, and fold number `fold` of `folds` is tested;
            None: as the folders are.
        num_workers: processes that read, decode, crop and resize pictures; 0: this process does.

    Raises DataError if folders are missing or empty, or if splits differ in their classes.
    """

    def __init__(
        self,
        root: str,
        *,
        image_size: int,
        mean: list[float],
        std: list[float],
        min_crop: float,
        horizontal_flip: bool,
        num_workers: int,
        folds: int | None = None,
        fold: int = 0,
        batch_size: int,
        eval_batch_size: int,
        seed: int,
        device: torch.device,
    ) -> None:
        folders = _open(expanded(root))
        self.class_names = tuple(folders["train"].classes)
        samples = {name: folder.samples for name, folder in folders.items()}
        samples = samples if folds is None else _refold(samples, folds, fold)
        self.preprocessing = Preprocessing(image_size, round(image_size / 0.875), mean, std, device)
        self.sizes = {name: len(files) for name, files in samples.items()}
        start = len(str(expanded(root)))
        self.digest = digest_of(
            os.fsencode(f"{name}{path[start:]}\0") for name, files in sorted(samples.items()) for path, _ in files
        )
        check_batch_size(batch_size, self.sizes["train"])
        advice = [f"raise data.num_workers (now {num_workers})"]
        if jpeg_decoder() is None:
            advice.append("install torchcodec")
            log.info("data: torchcodec is missing, or does not fit this PyTorch; PIL reads the pictures, which takes longer")
        self.hint = f"{', '.join(advice)}, or keep smaller pictures on the disk"
        self.steps_per_epoch = self.sizes["train"] // batch_size
        # Large pictures keep twice this or more on their shorter side, so that the smallest crop has image_size pixels.
        needed = max(image_size, math.ceil(image_size / math.sqrt(3 * min_crop)))
        self._train = _Pictures(samples["train"], CropAndFlip(image_size, min_crop, horizontal_flip), needed, seed)
        middle = partial(_without_draw, self.preprocessing.transform)
        labels = torch.tensor([label for _, label in samples["train"]])
        part = train_eval_indices(labels, number_of_images(self, TRAIN_EVAL))
        samples = samples | {TRAIN_EVAL: [samples["train"][k] for k in part.tolist()]}
        self._eval = {name: _Pictures(files, middle, image_size, seed) for name, files in samples.items()}
        self._batch_size, self._eval_batch_size = batch_size, eval_batch_size
        self._num_workers, self._seed, self._device = num_workers, seed, device
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        order = torch.randperm(len(self._train), generator=rng.generator(self._seed, "order", epoch))
        order = order[start * self._batch_size : self.steps_per_epoch * self._batch_size]
        yield from self._load(self._train, [(epoch, int(i)) for i in order], self._batch_size)

    def eval_batches(self, split: str) -> Iterator[Batch]:
        pictures = self._eval[split]
        yield from self._load(pictures, [(0, i) for i in range(len(pictures))], self._eval_batch_size)

    def _load(self, pictures: "_Pictures", order: list[Key], batch_size: int) -> Iterator[Batch]:
        pin_memory = self._device.type == "cuda"
        batches = load_batches(
            pictures, order, batch_size, num_workers=self._num_workers, pin_memory=pin_memory, seed=self._seed
        )
        for batch in batches:
            images, target = hardware.to_device(tuple(batch), self._device, self._copies)
            yield self.preprocessing.normalise(images.permute(0, 3, 1, 2)), target


class _Pictures(Dataset[Any]):
    """Maps (epoch, index) to a uint8 picture [H, W, 3] and its class."""

    def __init__(self, samples: Samples, transform: Transform, image_size: int, seed: int) -> None:
        self.samples, self.transform, self.image_size, self.seed = samples, transform, image_size, seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        path, label = self.samples[key[1]]
        picture = read_picture(Path(path), self.image_size)
        square = self.transform(picture, rng.generator(self.seed, "augment", *key))
        return square.permute(1, 2, 0).contiguous(), label


def _without_draw(transform: v2.Transform, picture: Tensor, _: torch.Generator) -> Tensor:
    return transform(picture)


def _refold(samples: dict[str, Samples], folds: int, fold: int) -> dict[str, Samples]:
    """Returns the pictures of a cross-validation; validation gets its share of what is not tested."""
    files = [sample for part in samples.values() for sample in part]
    val_share = len(samples["val"]) / (len(samples["train"]) + len(samples["val"]))
    index = fold_split(torch.tensor([label for _, label in files]), folds, fold, val_share)
    return {name: [files[k] for k in members.tolist()] for name, members in index.items()}


def _open(root: Path) -> dict[str, ImageFolder]:
    check_root(root)
    expected = EXPECTED_TREE.format(root=root)
    names = ["train", "val"] + (["test"] if (root / "test").is_dir() else [])
    folders = {}
    for name in names:
        try:
            folders[name] = ImageFolder(str(root / name))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataError(f"data.root={root}: no class folders with pictures in {name}/; {expected}") from error
    for name, folder in folders.items():
        if folder.classes != folders["train"].classes:
            odd = sorted(set(folder.classes) ^ set(folders["train"].classes))
            raise DataError(f"data.root={root}: train/ and {name}/ differ in their class folders: {', '.join(odd[:5])}")
    return folders
