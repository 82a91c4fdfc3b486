"""The images of a finished run's split, as pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from vgg_nll.run import build
from vgg_nll.run_folder.record import RunRecord


def read_pictures(folder: Path, indices: Sequence[int], split: str) -> np.ndarray:
    """Returns images of a split, in the order of `indices`: uint8 [K, H, W, 3], as the network sees them.

    Raises CheckpointError and DataError as `evaluate.open_run` does; IndexError if the split is shorter now.
    """
    record = RunRecord.open(folder)
    record.check(folder)
    data = build.make_data(record.cfg, torch.device("cpu"))
    wanted, position = set(indices), 0
    found: dict[int, np.ndarray] = {}
    for images, _ in data.eval_batches(split):
        here = [k for k in wanted if position <= k < position + len(images)]
        if here:
            pixels = data.preprocessing.pixels(images[[k - position for k in here]]).permute(0, 2, 3, 1)
            found |= dict(zip(here, pixels.numpy(), strict=True))
        position += len(images)
    if len(found) < len(wanted):
        raise IndexError(f"{folder}: its {split} split has {position} images")
    return np.stack([found[k] for k in indices])
