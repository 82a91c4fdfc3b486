"""MNIST's file format, IDX: grey images and their classes, as they are or packed by gzip."""

import gzip
import math
import zlib
from pathlib import Path

import torch
from torch import Tensor

from vgg_nll.errors import DataError

BYTES = 0x08  # the only type of number that these data sets have
NAMES = {
    ("train", 3): "train-images-idx3-ubyte",
    ("train", 1): "train-labels-idx1-ubyte",
    ("test", 3): "t10k-images-idx3-ubyte",
    ("test", 1): "t10k-labels-idx1-ubyte",
}


def find_files(folders: list[Path]) -> dict[tuple[str, int], Path] | None:
    """Returns the four files of the first folder that has them all, by (split, number of dimensions); None if none has."""
    for folder in folders:
        found = {
            key: [folder / file for file in (name, f"{name}.gz") if (folder / file).is_file()] for key, name in NAMES.items()
        }
        files = {key: paths[0] for key, paths in found.items() if paths}
        if len(files) == len(NAMES):
            return files
    return None


def read(path: Path, dimensions: int) -> Tensor:
    """Returns the bytes of an IDX file as uint8 of so many dimensions.

    The format (yann.lecun.com/exdb/mnist): two zeros, the type, the number of dimensions, each size as a big-endian int32, then
    the bytes.

    Raises DataError if the file is of another kind, or not whole.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch it again") from error
    head = 4 + 4 * dimensions
    if len(content) < head or content[:4] != bytes([0, 0, BYTES, dimensions]):
        raise DataError(f"{path}: is not an IDX file of bytes in {dimensions} dimensions; fetch it again")
    shape = [int.from_bytes(content[4 + 4 * k : 8 + 4 * k]) for k in range(dimensions)]
    if math.prod(shape) == 0:
        raise DataError(f"{path}: holds no images; fetch it again")
    if len(content) - head != math.prod(shape):
        raise DataError(
            f"{path}: holds {len(content) - head:,} bytes, not the {math.prod(shape):,} that it announces; fetch it again"
        )
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=head).view(shape)
