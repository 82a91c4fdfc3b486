"""Pictures in folders, one folder per class, read by worker processes."""

import logging
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from vgg_nll import hardware, rng
from vgg_nll.data.augment import CropAndFlip
from vgg_nll.data.decoding import decode_on, jpeg_decoder, read_encoded, read_picture, why_not_on
from vgg_nll.data.interface import Batch, check_batch_size
from vgg_nll.data.preprocessing import Preprocessing
from vgg_nll.data.workers import iterate_with_worker_restart
from vgg_nll.errors import DataError

log = logging.getLogger(__name__)
EXPECTED_TREE = "expected {root}/train/<class>/*.png|jpg, {root}/val/<class>/..., and optionally {root}/test/<class>/..."
TOGETHER = 16  # pictures that a GPU holds at their full size

Transform = Callable[[Tensor, torch.Generator], Tensor]
Key = tuple[int, int]  # epoch, index
Sample = tuple[bytes | Tensor, int, Key]


class FolderData:
    """`ImageData` over `root/train`, `root/val` and, where it exists, `root/test`.

    Training images are cropped at random (`min_crop` to 1 of the area) and resized, and mirrored every other time where
    `horizontal_flip`; others are resized to `image_size / 0.875` and cropped in the middle, the usual ImageNet
    protocol. Every draw is a function of (seed, epoch, image), whatever the number of workers.

    Args:
        num_workers: processes that read files, and decode, crop and resize what is in them; 0: this process does.
        decode_device: "cuda": the GPU decodes, crops and resizes JPEGs, whole, and the workers only read them; with a
            warning as "cpu" where there is no GPU, or it cannot. Its roundings are not the CPU's.

    Raises DataError where folders are missing or empty, or where splits differ in their classes.
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
        decode_device: str = "cpu",
        batch_size: int,
        eval_batch_size: int,
        seed: int,
        device: torch.device,
    ) -> None:
        folders = _open(Path(root).expanduser())
        self.class_names = tuple(folders["train"].classes)
        self.preprocessing = Preprocessing(image_size, round(image_size / 0.875), mean, std, device)
        self.sizes = {name: len(folder) for name, folder in folders.items()}
        check_batch_size(batch_size, self.sizes["train"])
        self._here = decode_device == "cuda" and _can_decode(device)
        advice = [f"raise data.num_workers (now {num_workers})"]
        if jpeg_decoder() is None:
            advice.append("install torchcodec")
        elif self._here:
            advice.append("data.decode_device=cpu")
        elif device.type == "cuda" and decode_device == "cpu":
            advice.append("data.decode_device=cuda")
        self.hint = f"{', '.join(advice)}, or keep smaller pictures on the disk"
        self.steps_per_epoch = self.sizes["train"] // batch_size
        # Large pictures are read with a shorter side of twice this or more, of which the smallest crop has image_size pixels.
        needed = max(image_size, math.ceil(image_size / math.sqrt(3 * min_crop)))
        if jpeg_decoder() is None:
            log.info(
                "data: torchcodec is missing, or does not go with this PyTorch; PIL reads the pictures, which takes longer"
            )
        self._train = _Pictures(folders["train"], CropAndFlip(image_size, min_crop, horizontal_flip), needed, seed, self._here)
        middle = partial(_without_draw, self.preprocessing.transform)
        self._eval = {name: _Pictures(folder, middle, image_size, seed, self._here) for name, folder in folders.items()}
        self._batch_size, self._eval_batch_size = batch_size, eval_batch_size
        self._num_workers, self._seed, self._device = num_workers, seed, device
        self._warned = False
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        order = torch.randperm(len(self._train), generator=rng.generator(self._seed, "order", epoch))
        order = order[start * self._batch_size : self.steps_per_epoch * self._batch_size]
        yield from self._load(self._train, [(epoch, int(i)) for i in order], self._batch_size)

    def eval_batches(self, split: str) -> Iterator[Batch]:
        pictures = self._eval[split]
        yield from self._load(pictures, [(0, i) for i in range(len(pictures))], self._eval_batch_size)

    def _load(self, pictures: "_Pictures", order: list[Key], batch_size: int) -> Iterator[Batch]:
        for batch in iterate_with_worker_restart(lambda done: self._loader(pictures, order[done * batch_size :], batch_size)):
            with torch.cuda.stream(self._copies):  # decoding waits for all that its stream was given: not for the step
                pair = self._decode(pictures, batch) if self._here else tuple(batch)
            images, target = hardware.to_device(pair, self._device, self._copies)
            yield self.preprocessing.normalise(images.permute(0, 3, 1, 2)), target

    def _decode(self, pictures: "_Pictures", samples: list[Sample]) -> tuple[Tensor, Tensor]:
        images = []
        for first in range(0, len(samples), TOGETHER):
            some = samples[first : first + TOGETHER]
            decoded = self._at_full_size(pictures, some)
            images += [pictures.make(picture, key) for picture, (_, _, key) in zip(decoded, some, strict=True)]
            del decoded
        return torch.stack(images), torch.tensor([label for _, label, _ in samples])

    def _at_full_size(self, pictures: "_Pictures", samples: list[Sample]) -> list[Tensor]:
        """One by one where not all can be decoded on the device; by the CPU what cannot. Says so of the first one."""
        try:
            return decode_on(self._device, [content for content, _, _ in samples])
        except RuntimeError as error:
            if hardware.is_out_of_memory(error):
                raise
        if len(samples) > 1:
            return [picture for sample in samples for picture in self._at_full_size(pictures, [sample])]
        key = samples[0][2]
        picture = pictures.read(key)  # or says that it is broken
        if not self._warned:
            log.warning(f"warning: {pictures.path(key)}: the GPU cannot decode it, the CPU does; others are not named")
        self._warned = True
        return [picture.to(self._device)]

    def _loader(self, pictures: "_Pictures", order: list[Key], batch_size: int) -> DataLoader[Any]:
        return DataLoader(
            pictures,
            batch_size=batch_size,
            sampler=order,
            num_workers=self._num_workers,
            pin_memory=self._device.type == "cuda" and not self._here,
            collate_fn=list if self._here else None,
            # Its own generator: the loader would draw the workers' seeds from the global one otherwise.
            generator=rng.generator(self._seed, "workers"),
        )


class _Pictures(Dataset[Any]):
    """(epoch, index) -> uint8 picture [H, W, 3] and its class; or, `encoded`, what `decode_on` takes, the class and the key."""

    def __init__(self, folder: ImageFolder, transform: Transform, image_size: int, seed: int, encoded: bool) -> None:
        self.folder, self.transform, self.image_size, self.seed, self.encoded = folder, transform, image_size, seed, encoded

    def __len__(self) -> int:
        return len(self.folder)

    def __getitem__(self, key: Key) -> tuple[Tensor, int] | Sample:
        label = self.folder.targets[key[1]]
        if self.encoded:
            return read_encoded(self.path(key), self.image_size), label, key
        return self.make(self.read(key), key), label

    def read(self, key: Key) -> Tensor:
        """The picture, uint8 [3, H, W]."""
        return read_picture(self.path(key), self.image_size)

    def path(self, key: Key) -> Path:
        return Path(self.folder.samples[key[1]][0])

    def make(self, picture: Tensor, key: Key) -> Tensor:
        """uint8 [3, H, W] of any size -> [H, W, 3] of the network's: cropped and resized."""
        return self.transform(picture, rng.generator(self.seed, "augment", *key)).permute(1, 2, 0).contiguous()


def _without_draw(transform: v2.Transform, picture: Tensor, _: torch.Generator) -> Tensor:
    return transform(picture)


def _can_decode(device: torch.device) -> bool:
    reason = why_not_on(device)
    if reason is not None:
        log.warning(f"warning: data.decode_device=cuda: no JPEG can be decoded there, processes on the CPU do it ({reason})")
    return reason is None


def _open(root: Path) -> dict[str, ImageFolder]:
    expected = EXPECTED_TREE.format(root=root)
    if not root.is_dir():
        raise DataError(f"data.root={root}: there is no such folder; {expected}")
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
