"""The interface of data sets to the trainer, and the split into train, validation and test.

Workers send uint8 [H, W, 3]; the network gets normalised float32 [B, 3, H, W], channels-last in memory, on the device.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

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
    content_digest: str  # the same if that is of the images, else of the sizes of the files, too: ranks compare it
    steps_per_epoch: int
    class_counts: Tensor  # [C] training images, float32
    is_augmented: bool  # whether training images differ from epoch to epoch
    bad_images: BadImages  # files that could not be used
    hint: str  # what to change if training waits for images

    def survey(self, weights: Sequence[float] | None = None) -> list[str]:
        """Returns lines for a person: what is in the data, and what to change. Raises DataError if too much is bad.

        Args:
            weights: [C], of the classes in the loss, for the table of classes.
        """
        ...

    def train_order(self, epoch: int) -> Tensor:
        """Returns the places [N] of an epoch's training images among those of `eval_batches("train")`."""
        ...

    def train_batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yields the batches of an epoch from number `start` on; all of one size, the remainder is left out.

        Of each batch, the rows of this rank, if several train together.
        """
        ...

    def image_paths(self, split: str) -> list[str]:
        """Returns for each image that `eval_batches` gives the file that was read, below the root of the data; "" if none was.

        Call it after they were given: another file of the class takes the place of one that could not be read.
        """
        ...

    def eval_batches(self, split: str, first: int = 0, every: int = 1, *, stride: int = 1) -> Iterator[Batch]:
        """Yields every image of a split once, in a fixed order, without augmentation; or those of TRAIN_EVAL.

        Args:
            first, every: of the batches, number `first`, `first + every`, ...
            stride: of the images, number 0, `stride`, 2 `stride`, ... alone make the batches.
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


def number_of_images(data: ImageData, split: str) -> int:
    """Returns the images that `eval_batches` gives of a split, or of TRAIN_EVAL: a sixteenth, at least 1, at most 1,000."""
    if split != TRAIN_EVAL:
        return data.sizes[split]
    return min(MAX_TRAIN_EVAL, max(1, data.sizes["train"] // TRAIN_EVAL_SHARE))


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
