"""The interface of data sets to the trainer, and the split into train, validation and test.

Workers send uint8 [H, W, 3]; the network gets normalised float32 [B, 3, H, W], channels-last in memory, on the device.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vgg_nll import rng
from vgg_nll.data.bad_files import BadImages
from vgg_nll.data.preprocessing import Preprocessing
from vgg_nll.errors import DataError

TRAIN_EVAL = "train_eval"  # the part of the training images that is evaluated beside the validation images
TRAIN_EVAL_SHARE, MAX_TRAIN_EVAL = 16, 1000  # a forward pass over a sixteenth takes 2% of an epoch
Batch = tuple[Tensor, Tensor]  # normalised images [B, 3, H, W] on the device, class indices [B] or probabilities [B, C]


class ImageData(Protocol):
    """A data set, as the trainer sees it.

    Batch i of epoch e, its order and its augmentation, is a function of (seed, e, i) alone. The splits never overlap.
    """

    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    sizes: dict[str, int]  # images per split: "train", "val", and "test" if there is one
    digest: str  # of the images, or of the list of their files: another one gives other batches
    steps_per_epoch: int
    class_counts: Tensor  # [C] training images, float32
    is_augmented: bool  # whether training images differ from epoch to epoch
    bad_images: BadImages  # files that could not be used
    hint: str  # what to change if training waits for images

    def survey(self) -> list[str]:
        """Returns lines for a person: what is in the data, and what to change. Raises DataError if too much is bad."""
        ...

    def train_order(self, epoch: int) -> Tensor:
        """Returns the places [N] of an epoch's training images among those of `eval_batches("train")`."""
        ...

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yields the batches of an epoch from number `start` on; all of one size, the remainder is left out.

        Of each batch, the rows of this rank, if several train together.
        """
        ...

    def eval_batches(self, split: str, first: int = 0, every: int = 1) -> Iterator[Batch]:
        """Yields every image of a split once, in a fixed order, without augmentation; or those of TRAIN_EVAL.

        Args:
            first, every: of the batches, number `first`, `first + every`, ...
        """
        ...


@dataclass(frozen=True)
class Split:
    """Images that stay in memory: uint8 [N, 3, H, W] and their classes [N]."""

    images: Tensor
    target: Tensor


Source = tuple[dict[str, Split], tuple[str, ...]]  # splits by name, class names


def labels_of(target: Tensor) -> Tensor:
    """Returns the classes [B] of a target: of probabilities [B, C], the most probable ones."""
    return target if target.dim() == 1 else target.argmax(dim=1)


def digest_of(parts: Iterable[bytes | memoryview]) -> str:
    """Returns a hash of all parts in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def stratified_split(target: Tensor, shares: dict[str, float], seed: int) -> dict[str, Tensor]:
    """Returns disjoint, sorted index sets that cover all images; each class is split by `shares`, the rest is "train".

    Shares are fractions of all images. Counts are rounded per class, with the remainder carried over: totals are exact to one
    image, and no class is off by more than one.
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in ("train", *shares)}
    owed = dict.fromkeys(shares, 0.0)
    draw = torch.Generator().manual_seed(seed)
    for label in target.unique():
        members = (target == label).nonzero().squeeze(1)
        members = members[torch.randperm(len(members), generator=draw)]
        taken = 0
        for name, share in shares.items():
            owed[name] += share * len(members)
            count = round(owed[name])
            owed[name] -= count
            parts[name].append(members[taken : taken + count])
            taken += count
        parts["train"].append(members[taken:])
    return {name: torch.cat(pieces).sort().values for name, pieces in parts.items()}


def fold_split(target: Tensor, folds: int, fold: int, val_fraction: float) -> dict[str, Tensor]:
    """Returns disjoint, sorted index sets: fold number `fold` of `folds` is "test", the rest "train" and "val".

    Each class is dealt out evenly, so every image is in the test set of one fold; sizes of folds differ by one at most.

    Args:
        target: [N] classes of all images; val_fraction: of the rest.

    Raises DataError if there are fewer images than folds.
    """
    if len(target) < folds:
        raise DataError(f"data.folds={folds}: is more than the {len(target)} images")
    draw = torch.Generator().manual_seed(0)
    number = torch.empty(len(target), dtype=torch.int64)
    dealt = 0
    for label in target.unique():
        members = (target == label).nonzero().squeeze(1)
        members = members[torch.randperm(len(members), generator=draw)]
        number[members] = (dealt + torch.arange(len(members))) % folds
        dealt += len(members)
    rest = (number != fold).nonzero().squeeze(1)
    inner = stratified_split(target[rest], {"val": val_fraction}, seed=0)
    return {"train": rest[inner["train"]], "val": rest[inner["val"]], "test": (number == fold).nonzero().squeeze(1)}


def number_of_images(data: ImageData, split: str) -> int:
    """Returns the images that `eval_batches` gives of a split, or of TRAIN_EVAL: a sixteenth, at least 1, at most 1,000."""
    if split != TRAIN_EVAL:
        return data.sizes[split]
    return min(MAX_TRAIN_EVAL, max(1, data.sizes["train"] // TRAIN_EVAL_SHARE))


def train_eval_indices(target: Tensor, images: int) -> Tensor:
    """Returns sorted indices of a fixed part of the training images, with the classes' shares.

    Args:
        target: [N], the classes of the training images; images: of the part.
    """
    by_class = target.argsort(stable=True)
    places = (torch.arange(images) + 0.5) * len(target) / images
    return by_class[places.long()].sort().values


def nested_subset(target: Tensor, images: int, seed: int) -> Tensor:
    """Returns sorted indices of `images` of the N training images, with the classes' shares.

    A smaller number gives a subset of a larger one, so a learning curve adds images only: image r of the n of its class, in a
    drawn order, has the rank (r + 1/2) / n, and the lowest ranks are taken.

    Args:
        target: [N] classes; seed: of the order.

    Raises DataError if there are not so many images.
    """
    if images > len(target):
        raise DataError(f"data.train_images={images}: is more than the {len(target):,} training images")
    order = torch.randperm(len(target), generator=torch.Generator().manual_seed(seed))
    rank = torch.empty(len(target), dtype=torch.float64)
    for label in target.unique():
        members = order[target[order] == label]
        rank[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return rank.argsort(stable=True)[:images].sort().values


def train_order(target: Tensor, seed: int, epoch: int, balanced: bool) -> Tensor:
    """Returns the order of an epoch: a permutation [N], or, if balanced, N draws in which every class is as frequent.

    Args:
        target: [N] classes of the training images.
    """
    draw = rng.generator(seed, "order", epoch)
    if not balanced:
        return torch.randperm(len(target), generator=draw)
    weight = 1 / target.bincount().double()[target]
    return torch.multinomial(weight.cpu(), len(target), replacement=True, generator=draw)


def check_labels(target: Tensor, num_classes: int, what: str) -> None:
    """Raises DataError with the first label outside [0, num_classes)."""
    outside = ((target < 0) | (target >= num_classes)).nonzero()
    if len(outside) > 0:
        position = int(outside[0])
        raise DataError(
            f"{what}: label {int(target[position])} of image {position} is outside [0, {num_classes}); "
            f"{len(outside)} of {len(target)} labels are"
        )


def check_batch_size(batch_size: int, train_images: int) -> None:
    """Raises DataError if the training set does not fill one batch."""
    if batch_size > train_images:
        raise DataError(f"trainer.batch_size={batch_size} is more than the {train_images} training images: lower it")


def subsample(batches: Iterable[Batch], images: int, max_images: int) -> Iterator[Batch]:
    """Yields at most `max_images` of the `images` in the batches, evenly spread."""
    every, position = -(-images // max_images), 0
    for batch, target in batches:
        first = -position % every
        position += len(target)
        if first < len(target):
            yield batch[first::every], target[first::every]
