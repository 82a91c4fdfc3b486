"""Data sets that stay in memory, on the device, as bytes: no workers, no copies, no waiting."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vgg_nll import rng
from vgg_nll.data.augmentation import Augmentation
from vgg_nll.data.bad_files import BadImages
from vgg_nll.data.interface import TRAIN_EVAL, Batch, Source, Split, check_batch_size, check_labels, digest_of, number_of_images
from vgg_nll.data.memory import shift_flip
from vgg_nll.data.preprocessing import Preprocessing, resolve_statistics
from vgg_nll.data.splits import fold_split, nested_subset, train_eval_indices, train_order
from vgg_nll.distributed.process_group import ALONE, Ranks
from vgg_nll.errors import DataError


class InMemoryData:
    """`ImageData` over uint8 splits, augmented a batch at a time.

    Args:
        source: the splits "train", "val" and, if there is one, "test"; and the class names.
        mean, std: per channel, of pixels scaled to [0, 1]; "auto": those of the training images.
        train_images: so many of the training images, stratified; fewer are a subset of more. None: all.
        balanced: training images are drawn, with repeats, so that classes are equally frequent.
        shift_pixels: training images are shifted by up to this many pixels each way.
        horizontal_flip: training images are mirrored with probability 1/2.
        cutout_pixels: side of a black square in each training image; 0 for none.
        augmentation: what else happens to training images; None: nothing.
        folds, fold: cross-validation: all images are pooled, and fold number `fold` of `folds` is tested;
            None: the splits of the source.
        seed: of the order and the augmentation.
        ranks: of each training batch, the rows of this one are yielded.

    Raises DataError for labels outside [0, C), and for a training set smaller than a batch.
    """

    def __init__(
        self,
        source: Source,
        *,
        mean: list[float] | str,
        std: list[float] | str,
        train_images: int | None = None,
        balanced: bool = False,
        shift_pixels: int = 0,
        horizontal_flip: bool = False,
        cutout_pixels: int = 0,
        augmentation: Augmentation | None = None,
        folds: int | None = None,
        fold: int = 0,
        batch_size: int,
        eval_batch_size: int,
        seed: int,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        splits, class_names = source
        for name, split in splits.items():
            check_labels(split.target, len(class_names), f"data, {name} split")
            if len(split.target) == 0:
                raise DataError(f"data: the {name} split is empty; raise data.{name}_fraction")
        splits = splits if folds is None else _refold(splits, folds, fold)
        if train_images is not None:
            part = nested_subset(splits["train"].target, train_images, seed=0)
            splits = splits | {"train": Split(splits["train"].images[part], splits["train"].target[part])}
        self.class_names = class_names
        mean, std = resolve_statistics(mean, std, lambda: [splits["train"].images])
        image_size = splits["train"].images.shape[-1]
        self.preprocessing = Preprocessing(image_size, image_size, mean, std, device)
        self.sizes = {name: len(split.target) for name, split in splits.items()}
        self.digest = self.content_digest = digest_of(
            _bytes(part) for name in sorted(splits) for part in (splits[name].images, splits[name].target)
        )
        self.class_counts = splits["train"].target.bincount(minlength=len(class_names)).float()
        self.bad_images = BadImages(0, raises=True, max_fraction=0.0)
        check_batch_size(batch_size, self.sizes["train"])
        self.hint = "raise trainer.batch_size: the images are in memory, and the rest is overhead per batch"
        self.steps_per_epoch = self.sizes["train"] // batch_size
        train = splits["train"]
        part = train_eval_indices(train.target, number_of_images(self, TRAIN_EVAL))
        splits = splits | {TRAIN_EVAL: Split(train.images[part], train.target[part])}
        layout = torch.channels_last  # the network's; bytes are converted faster than floats
        self._splits = {
            name: Split(split.images.to(device).contiguous(memory_format=layout), split.target.to(device))
            for name, split in splits.items()
        }
        self._augmentation = augmentation or Augmentation()
        if not self._augmentation.flip_crop:
            shift_pixels, horizontal_flip, cutout_pixels = 0, False, 0
        self._shift_pixels, self._horizontal_flip, self._cutout_pixels = shift_pixels, horizontal_flip, cutout_pixels
        moves = shift_pixels > 0 or horizontal_flip or cutout_pixels > 0
        self.is_augmented = moves or self._augmentation.changes
        self._batch_size, self._eval_batch_size = batch_size, eval_batch_size
        self._seed, self._balanced, self._ranks = seed, balanced, ranks

    def survey(self, weights: Sequence[float] | None = None) -> list[str]:
        """Returns nothing: such data sets are known."""
        return []

    def train_order(self, epoch: int) -> Tensor:
        return train_order(self._splits["train"].target, self._seed, epoch, self._balanced)

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        train = self._splits["train"]
        order = self.train_order(epoch).to(train.target.device, non_blocking=True)
        for step in range(start, self.steps_per_epoch):
            index = order[step * self._batch_size : (step + 1) * self._batch_size]
            images = self._augment(train.images[index], epoch, step)
            images = self.preprocessing.normalise(self._augmentation.images(images, self._seed, epoch, index))
            target = train.target[index]
            images, target = self._augmentation.mix(images, target, len(self.class_names), self._seed, epoch, step)
            rows = self._ranks.rows(len(index))  # of bytes on the device: to draw for all costs less than to deal out draws
            yield images[rows], target[rows]

    def image_paths(self, split: str) -> list[str]:
        return [""] * self.sizes[split]

    def eval_batches(self, split: str, first: int = 0, every: int = 1, *, stride: int = 1) -> Iterator[Batch]:
        images, target = self._splits[split].images[::stride], self._splits[split].target[::stride]
        batches = list(zip(images.split(self._eval_batch_size), target.split(self._eval_batch_size), strict=True))
        for part, part_target in batches[first::every]:
            yield self.preprocessing.normalise(part), part_target

    def _augment(self, images: Tensor, epoch: int, step: int) -> Tensor:
        draw = rng.generator(self._seed, "augment", epoch, step)
        images = shift_flip.random_shift(images, self._shift_pixels, draw)
        images = shift_flip.random_horizontal_flip(images, draw) if self._horizontal_flip else images
        return shift_flip.cutout(images, self._cutout_pixels, draw)


def _refold(splits: dict[str, Split], folds: int, fold: int) -> dict[str, Split]:
    """Returns the splits of a cross-validation; validation gets its share of what is not tested."""
    images, target = (torch.cat([getattr(split, part) for split in splits.values()]) for part in ("images", "target"))
    sizes = {name: len(split.target) for name, split in splits.items()}
    index = fold_split(target, folds, fold, sizes["val"] / (sizes["train"] + sizes["val"]))
    return {name: Split(images[members], target[members]) for name, members in index.items()}


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.contiguous().view(torch.uint8).numpy().data.cast("B")
