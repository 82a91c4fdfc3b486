"""outputs.npz: the logits of every image of a split, for everything that judges a network."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from vgg_nll.errors import CheckpointError
from vgg_nll.files import atomic_write, read_regular_file

MAX_BYTES = 256 << 20
KINDS = {"logits": "f", "labels": "i", "paths": "U"}  # numpy's letters


class SplitOutputs(NamedTuple):
    """What a network gives for the N images of a split, in their order."""

    logits: np.ndarray  # [N, C], float32
    labels: np.ndarray  # [N], int64
    paths: np.ndarray  # [N], text: the files, below the root of the data; "" for images that are no files


def write_outputs(path: Path, splits: Mapping[str, SplitOutputs], class_names: Sequence[str], run_id: str) -> None:
    """Writes arrays `<split>_logits`, `<split>_labels`, `<split>_paths`, `classes` and `run`, in one step.

    numpy.load reads the file; nothing in it can run code. Errors are those of `atomic_write`.
    """
    arrays = {f"{name}_{kind}": getattr(split, kind) for name, split in splits.items() for kind in KINDS}

    def write(file: IO[bytes]) -> None:
        np.savez(file, classes=np.array(class_names, dtype=str), run=np.array(run_id), **arrays)

    atomic_write(path, write)


def read_outputs(path: Path, run_id: str) -> dict[str, SplitOutputs]:
    """Returns the outputs by split. Every byte is compared with the checksums (CRC-32) in the file.

    Raises CheckpointError if there is no such file, if it is damaged, or if it is of another run.
    """
    try:
        with np.load(io.BytesIO(read_regular_file(path, 2 * MAX_BYTES)), allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        run = str(arrays["run"])
        names = [name.removesuffix("_logits") for name in arrays if name.endswith("_logits")]
        splits = {name: SplitOutputs(*(arrays[f"{name}_{kind}"] for kind in KINDS)) for name in names}
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no such file") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, MemoryError) as error:
        raise CheckpointError(f"{path}: is damaged ({error})") from error
    if run != run_id:
        raise CheckpointError(f"{path}: is of another run")
    for split in splits.values():
        if not _fits(split, len(arrays["classes"])):
            raise CheckpointError(f"{path}: is damaged: it does not hold what a run writes")
    return splits


def _fits(split: SplitOutputs, classes: int) -> bool:
    logits, labels, paths = split
    images = logits.shape[:1]
    return (
        [part.dtype.kind for part in split] == list(KINDS.values())
        and logits.shape[1:] == (classes,)
        and labels.shape == paths.shape == images
        and bool(((labels >= 0) & (labels < classes)).all())
    )
