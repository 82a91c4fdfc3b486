"""Picture files as a data set for worker processes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from vgg_nll import rng
from vgg_nll.data.pictures.decoding import Decoding, read_picture, reason_of
from vgg_nll.data.pictures.samples import Samples
from vgg_nll.data.preprocessing import Preprocessing
from vgg_nll.errors import DataError

Transform = Callable[[Tensor, torch.Generator], Tensor]
Key = tuple[int, int]  # epoch, index


class PictureSet(Dataset[Any]):
    """Maps (epoch, index) to a uint8 picture [H, W, 3], its class, and why another one took its place ("").

    Args:
        transform: uint8 [3, H, W] and a generator -> [3, image_size, image_size]; it gets that of (seed, epoch, index).
        image_size: pixels that a side needs; see `read_picture`.
        skips: whether a picture that cannot be read is replaced by another one of its class, the same in every epoch.
        pool: where the other one comes from; None: `samples`.
        decoding: what a person says of the files.
    """

    def __init__(
        self,
        samples: Samples,
        transform: Transform,
        image_size: int,
        seed: int,
        skips: bool,
        pool: Samples | None = None,
        decoding: Decoding = Decoding(),  # noqa: B008 - frozen
    ) -> None:
        self.samples, self.transform, self.image_size, self.seed, self.skips = samples, transform, image_size, seed, skips
        self.decoding = decoding
        self._pool = samples if pool is None else pool

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> tuple[Tensor, int, str]:
        path, label, _ = self.samples[key[1]]
        reason = ""
        try:
            picture = read_picture(Path(path), self.image_size, self.decoding)
        except DataError as error:
            if not self.skips:
                raise
            reason = reason_of(error, path)
            _, picture = self.another(key[1])
        square = self.transform(picture, rng.generator(self.seed, "augment", *key))
        return square.permute(1, 2, 0).contiguous(), label, reason

    def another(self, index: int) -> tuple[str, Tensor]:
        """Reads another picture of the class, the first one that can be read, from a drawn place on; returns its path, too."""
        path, label, _ = self.samples[index]
        places = self._pool.places_of(label).tolist()
        start = int(torch.randint(len(places), (), generator=rng.generator(self.seed, "replacement", index)))
        for place in places[start:] + places[:start]:
            other = self._pool[place].path
            try:
                return other, read_picture(Path(other), self.image_size, self.decoding)
            except DataError:
                continue
        raise DataError(f"{path}: cannot be read, and no other picture of its class can; add some, or remove the class")


def read_prepared(path: Path, preprocessing: Preprocessing) -> Tensor:
    """Reads a picture file as uint8 [3, image_size, image_size]. Raises DataError with the path if it cannot be read."""
    decoding = Decoding(preprocessing.white, preprocessing.max_megapixels)
    return preprocessing.transform(read_picture(path, preprocessing.image_size, decoding))
