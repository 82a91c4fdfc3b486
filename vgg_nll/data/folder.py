"""Pictures in folders, one folder per class, read by worker processes."""

import logging
import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from vgg_nll import hardware, rng
from vgg_nll.data.pictures import jpeg_decoder, read_picture
from vgg_nll.data.preprocessing import Preprocessing
from vgg_nll.data.splits import Batch, DataError, check_batch_size

log = logging.getLogger(__name__)
EXPECTED_TREE = "expected {root}/train/<class>/*.png|jpg, {root}/val/<class>/..., and optionally {root}/test/<class>/..."


class FolderData:
    """`ImageData` over `root/train`, `root/val` and, where it exists, `root/test`.

    Training images are cropped at random (`min_crop` to 1 of the area) and resized, and mirrored every other time where
    `horizontal_flip`; others are resized to `image_size / 0.875` and cropped in the middle, the usual ImageNet
    protocol. Every draw is a function of (seed, epoch, image), whatever the number of workers.

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
        install = "" if jpeg_decoder() else ", install torchcodec"
        self.when_slow = f"raise data.num_workers (now {num_workers}){install}, or keep smaller pictures on the disk"
        self.steps_per_epoch = self.sizes["train"] // batch_size
        # Large pictures are read with a shorter side of twice this or more, of which the smallest crop has image_size pixels.
        needed = max(image_size, math.ceil(image_size / math.sqrt(3 * min_crop)))
        crop = [v2.RandomResizedCrop(image_size, scale=(min_crop, 1.0), antialias=True)]
        flip = [v2.RandomHorizontalFlip()] if horizontal_flip else []
        if jpeg_decoder() is None:
            log.info(
                "data: torchcodec is missing, or does not go with this PyTorch; PIL reads the pictures, which takes longer"
            )
        self._train = _Pictures(folders["train"], v2.Compose([*crop, *flip]), needed, seed)
        self._eval = {
            name: _Pictures(folder, self.preprocessing.transform, image_size, seed) for name, folder in folders.items()
        }
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

    def _load(self, pictures: "_Pictures", order: list[tuple[int, int]], batch_size: int) -> Iterator[Batch]:
        for images, target in _read(lambda done: self._loader(pictures, order[done * batch_size :], batch_size)):
            images, target = hardware.to_device((images, target), self._device, self._copies)
            yield self.preprocessing.normalise(images), target

    def _loader(self, pictures: "_Pictures", order: list[tuple[int, int]], batch_size: int) -> DataLoader[Any]:
        return DataLoader(
            pictures,
            batch_size=batch_size,
            sampler=order,
            num_workers=self._num_workers,
            pin_memory=self._device.type == "cuda",
            # Its own generator: the loader would draw the workers' seeds from the global one otherwise.
            generator=rng.generator(self._seed, "workers"),
        )


def _read(load: Callable[[int], Iterable[Any]]) -> Iterator[Any]:
    """The batches of a loader. Where a worker process dies, new ones go on behind the batches that are `done`.

    Raises DataError where a picture cannot be read, and where workers die twice at one batch.
    """
    done, died_at = 0, -1
    while True:
        try:
            with _own_child_handler():
                batches = iter(load(done))
            for batch in batches:
                yield batch
                done += 1
            return
        except DataError as error:  # from a worker, with the worker's traceback in its text
            line = str(error).strip().splitlines()[-1]
            raise DataError(line.removeprefix(f"{DataError.__module__}.DataError: ")) from error
        except (RuntimeError, ConnectionError, EOFError) as error:
            # The latter two: it died while handing over a batch. What a worker itself raises says "Caught ... in DataLoader".
            text = str(error)
            if "Caught" in text or (isinstance(error, RuntimeError) and "DataLoader worker" not in text):
                raise
            if died_at == done:
                raise DataError(
                    "data: processes that read pictures die again and again (out of memory?); "
                    "data.num_workers=0 reads without them"
                ) from error
            died_at = done
            log.warning("warning: a process that reads pictures has died (killed?); new ones go on in its place")


@contextmanager
def _own_child_handler() -> Iterator[None]:
    """Takes back the SIGCHLD handler that a loader installs with its first workers.

    It raises at a worker's death in the middle of whatever runs, an update of the weights say. Without it the loader notices
    when it next waits for a batch.
    """
    ours = hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGCHLD) if ours else None
    yield
    if ours:
        signal.signal(signal.SIGCHLD, before)


class _Pictures(Dataset[tuple[Tensor, int]]):
    """(epoch, index) -> uint8 picture [3, H, W] and its class."""

    def __init__(self, folder: ImageFolder, transform: v2.Transform, image_size: int, seed: int) -> None:
        self.folder, self.transform, self.image_size, self.seed = folder, transform, image_size, seed

    def __len__(self) -> int:
        return len(self.folder)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = key
        path, label = self.folder.samples[index]
        picture = read_picture(Path(path), self.image_size)
        with rng.seeded(self.seed, "augment", epoch, index):
            return self.transform(picture), label


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
