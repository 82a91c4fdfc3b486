"""Folders of pictures, one folder per class, read by worker processes."""

import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from vgg_nll import hardware
from vgg_nll.data.augmentation import Augmentation
from vgg_nll.data.bad_files import REPLACED, BadImage, BadImages
from vgg_nll.data.interface import TRAIN_EVAL, Batch, check_batch_size, number_of_images
from vgg_nll.data.pictures import report
from vgg_nll.data.pictures.crop import CropAndFlip
from vgg_nll.data.pictures.decoding import Decoding, jpeg_decoder
from vgg_nll.data.pictures.listing import Listing
from vgg_nll.data.pictures.reader import Key, PictureSet, Transform
from vgg_nll.data.pictures.samples import Samples
from vgg_nll.data.pictures.workers import load_batches, warn_of_many
from vgg_nll.data.preprocessing import MAX_MEGAPIXELS, Preprocessing, resizing, resolve_statistics
from vgg_nll.data.splits import fold_split, nested_subset, train_eval_indices, train_order
from vgg_nll.distributed.process_group import ALONE, Ranks
from vgg_nll.escapes import printable
from vgg_nll.progress import track

log = logging.getLogger(__name__)

MAX_MEASURED = 2000  # pictures whose mean and deviation are taken, evenly spread


class FolderData:
    """`ImageData` over picture files.

    Training pictures are cropped at random (`min_crop` to 1 of the area), resized, and, with `horizontal_flip`, mirrored with
    probability 1/2; the others are resized to `image_size / 0.875` and cropped in the middle, the usual ImageNet protocol.
    Every draw is a function of (seed, epoch, index), for any number of workers.

    A picture that cannot be read is replaced by another one of its class and split, the same in every epoch.

    Args:
        source: the pictures.
        mean, std: per channel, of pixels scaled to [0, 1]; "auto": those of up to 2,000 training pictures.
        augmentation: what else happens to training pictures; None: nothing.
        train_images: so many of the training pictures, stratified; fewer are a subset of more. None: all.
        balanced: training pictures are drawn, with repeats, so that classes are equally frequent.
        on_error: "skip", or "raise" for a DataError at the first picture that cannot be read.
        max_bad_fraction: of pictures that cannot be read; more, and more than 5, are an error. 0 allows none.
        white: the number that is white in pictures of more than 8 bits; None: the largest that they can hold.
        max_megapixels: of a picture as it is decoded; larger ones cannot be read.
        folds, fold: cross-validation: all pictures are pooled, and fold number `fold` of `folds` is tested;
            None: as the folders are.
        num_workers: processes that read, decode, crop and resize pictures; 0: this process does.
        ranks: of each training batch, the rows of this one are read.

    Raises DataError if too many pictures cannot be used, and for a training set smaller than a batch.
    """

    def __init__(
        self,
        source: Listing,
        *,
        image_size: int,
        mean: list[float] | str,
        std: list[float] | str,
        min_crop: float,
        horizontal_flip: bool,
        num_workers: int,
        augmentation: Augmentation | None = None,
        train_images: int | None = None,
        balanced: bool = False,
        on_error: str = "skip",
        max_bad_fraction: float = 0.01,
        white: int | None = None,
        max_megapixels: float = MAX_MEGAPIXELS,
        fit: str = "crop",
        folds: int | None = None,
        fold: int = 0,
        batch_size: int,
        eval_batch_size: int,
        seed: int,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self._num_workers, self._seed, self._device, self._balanced = num_workers, seed, device, balanced
        self._batch_size, self._eval_batch_size, self._ranks = batch_size, eval_batch_size, ranks
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        number = sum(map(len, source.samples.values())) + sum(row.is_damaged for row in source.bad)
        self.bad_images = BadImages(number, raises=on_error == "raise", max_fraction=max_bad_fraction)
        self.bad_images.add(source.bad)
        samples = source.samples if folds is None else _refold(source.samples, folds, fold)
        samples = samples if train_images is None else _fewer(samples, train_images)
        self._listing = replace(source, samples=samples, by_content=source.by_content and folds is None)
        self.class_names = source.class_names
        self.sizes = {name: len(files) for name, files in samples.items()}
        self.class_counts = samples["train"].labels().bincount(minlength=len(self.class_names)).float()
        self.digest, self.content_digest = self._listing.digest(), self._listing.digest(with_sizes=ranks.size > 1)
        check_batch_size(batch_size, self.sizes["train"])
        self.hint = _hint(num_workers)
        warn_of_many(num_workers)
        self.steps_per_epoch = self.sizes["train"] // batch_size
        self._augmentation = augmentation or Augmentation()
        flip_crop = self._augmentation.flip_crop
        resize, skips = round(image_size / 0.875), on_error == "skip"
        middle = partial(_without_draw, resizing(image_size, resize, fit))
        self._flips, self.is_augmented = flip_crop and horizontal_flip, flip_crop or self._augmentation.changes
        crop, needed = _random_crop(image_size, min_crop, horizontal_flip, fit) if flip_crop else (middle, image_size)
        self._decoding = decoding = Decoding(white, max_megapixels)
        augmented = partial(_augmented, crop, self._augmentation)
        self._train = PictureSet(samples["train"], augmented, needed, seed, skips, decoding=decoding)
        part = train_eval_indices(samples["train"].labels(), number_of_images(self, TRAIN_EVAL))
        evaluated = samples | {TRAIN_EVAL: samples["train"].select(part)}
        self._eval = {
            name: PictureSet(files, middle, image_size, seed, skips, samples.get(name, samples["train"]), decoding)
            for name, files in evaluated.items()
        }
        mean, std = resolve_statistics(mean, std, partial(self._sample_of_training, middle, image_size))
        self.preprocessing = Preprocessing(image_size, resize, mean, std, device, white, max_megapixels, fit)

    def survey(self, weights: Sequence[float] | None = None) -> list[str]:
        """Looks into the folder; returns what a person should know of it. Raises DataError if too many pictures are bad."""
        size, decoding = self.preprocessing.image_size, self._decoding
        headers = report.Headers(self._listing, decoding, size)
        self.bad_images.add(headers.bad)
        return report.lines(
            self._listing,
            headers,
            list(self.bad_images.rows.values()),
            size,
            decoding.white,
            self.preprocessing.fit,
            weights,
            flips=self._flips,
        )

    def train_order(self, epoch: int) -> Tensor:
        return train_order(self._train.samples.labels(), self._seed, epoch, self._balanced)

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        size, rows = self._batch_size, self._ranks.rows(self._batch_size)
        places = torch.arange(rows.start, rows.stop)
        # A mixture takes the image before each one: that of the first row is read, too.
        before = int(self._augmentation.mixes and self._ranks.size > 1)
        if before:
            places = torch.cat([places[:1] - 1, places]) % size
        order = self.train_order(epoch)[: self.steps_per_epoch * size].view(-1, size)[start:, places]
        batches = self._load(self._train, [(epoch, i) for i in order.flatten().tolist()], len(places))
        for step, (images, target) in enumerate(batches, start):
            images, target = self._augmentation.mix(images, target, len(self.class_names), self._seed, epoch, step)
            yield images[before:], target[before:]

    def image_paths(self, split: str) -> list[str]:
        pictures, root, bad = self._eval[split], self._listing.root, self.bad_images.rows
        files = [
            pictures.another(index)[0] if sample.path in bad else sample.path for index, sample in enumerate(pictures.samples)
        ]
        return [os.path.relpath(file, root) for file in files]

    def eval_batches(self, split: str, first: int = 0, every: int = 1, *, stride: int = 1) -> Iterator[Batch]:
        pictures, size = self._eval[split], self._eval_batch_size
        order = [(0, i) for i in range(0, len(pictures), stride) if i // stride // size % every == first]
        yield from self._load(pictures, order, size)

    def _load(self, pictures: "PictureSet", order: list[Key], batch_size: int) -> Iterator[Batch]:
        for images, target in self._read(pictures, order, batch_size):
            yield self.preprocessing.normalise(images.permute(0, 3, 1, 2)), target

    def _read(self, pictures: "PictureSet", order: list[Key], batch_size: int) -> Iterator[Batch]:
        """Yields batches of bytes [B, H, W, 3] on the device; notes the pictures that could not be read."""
        pin_memory = self._device.type == "cuda"
        batches = load_batches(
            pictures, order, batch_size, num_workers=self._num_workers, pin_memory=pin_memory, seed=self._seed
        )
        done = 0
        for images, target, reasons in batches:
            for (_, index), reason in zip(order[done:], reasons, strict=False):
                if reason:
                    self._note(pictures.samples, index, reason)
            done += len(reasons)
            images, target = hardware.to_device((images, target), self._device, self._copies)
            yield images, target

    def _note(self, samples: Samples, index: int, reason: str) -> None:
        path, label, _ = samples[index]
        if path in self.bad_images.rows:
            return
        split = next((name for name, part in self._listing.samples.items() if part is samples), "train")
        self.bad_images.add([BadImage(path, split, self.class_names[label], reason, REPLACED, True)])
        log.warning(f"warning: {printable(path)}: {reason}; another picture of its class takes its place")

    def _sample_of_training(self, middle: Transform, image_size: int) -> Iterator[Tensor]:
        samples = self._train.samples[:: -(-len(self._train) // MAX_MEASURED)]
        pictures = PictureSet(samples, middle, image_size, self._seed, self._train.skips, self._train.samples, self._decoding)
        batches = self._read(pictures, [(0, i) for i in range(len(samples))], self._eval_batch_size)
        for images, _ in track(batches, -(-len(samples) // self._eval_batch_size), "mean and deviation"):
            yield images.permute(0, 3, 1, 2).cpu()


def _random_crop(image_size: int, min_crop: float, flip: bool, fit: str) -> tuple[Transform, int]:
    """Returns the transform of training pictures, and the pixels that the shorter side of a picture needs for it.

    Large pictures keep twice that or more, so that the smallest crop has image_size pixels.
    """
    needed = max(image_size, math.ceil(image_size / math.sqrt(3 * min_crop)))
    # Else pieces of the square, which has the whole picture.
    square = None if fit == "crop" else resizing(needed, needed, fit)
    return CropAndFlip(image_size, min_crop, flip, square), needed


def _without_draw(transform: Callable[[Tensor], Tensor], picture: Tensor, _: torch.Generator) -> Tensor:
    return transform(picture)


def _augmented(crop: Transform, augmentation: Augmentation, picture: Tensor, generator: torch.Generator) -> Tensor:
    return augmentation.image(crop(picture, generator), generator)


def _hint(num_workers: int) -> str:
    advice = [f"raise data.num_workers (now {num_workers})"]
    if jpeg_decoder() is None:
        advice.append("install torchcodec")
        log.info("data: torchcodec is missing, or does not fit this PyTorch; PIL reads the pictures, which takes longer")
    return f"{', '.join(advice)}, or keep smaller pictures on the disk"


def _fewer(samples: dict[str, Samples], train_images: int) -> dict[str, Samples]:
    return samples | {"train": samples["train"].select(nested_subset(samples["train"].labels(), train_images, seed=0))}


def _refold(samples: dict[str, Samples], folds: int, fold: int) -> dict[str, Samples]:
    """Returns the pictures of a cross-validation; validation gets its share of what is not tested."""
    files = sum(samples.values(), Samples())
    val_share = len(samples["val"]) / (len(samples["train"]) + len(samples["val"]))
    return {name: files.select(index) for name, index in fold_split(files.labels(), folds, fold, val_share).items()}
