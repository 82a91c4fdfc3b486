"""The images of a finished run's split, as pictures; and pictures, as images of its splits."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from vgg_nll.config import schema
from vgg_nll.errors import DataError
from vgg_nll.run import build
from vgg_nll.run_folder.record import RunRecord

FOLDERS = "vgg_nll.data.FolderData"


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


def splits_of(folder: Path, files: Sequence[Path]) -> dict[Path, str]:
    """Returns the split that a run had each of these files in: "train", "val" or "test"; files of no split are left out.

    They are found by their names below the run's `data.root`: a copy elsewhere is not. Nothing is read if no file lies there.

    Raises DataError if that folder does not hold the pictures of the run any more, ConfigError or CheckpointError if the data
    cannot be opened: then nobody knows.
    """
    record = RunRecord.open(folder)
    settings = record.config.get("data")
    if not isinstance(settings, dict) or settings.get("_target_") != FOLDERS:
        return {}
    root = str(settings.get("root"))
    names = {
        file: [os.path.relpath(place(file), place(root)) for place in (os.path.abspath, os.path.realpath)] for file in files
    }
    if all(name.startswith(os.pardir) for both in names.values() for name in both):
        return {}
    record.check(folder, without=(schema.sections() | record.config.keys()) - {"data", "augment", "trainer", "seed"})
    data = build.make_data(record.cfg, torch.device("cpu"))
    if record.data is None or data.digest != record.data.digest:
        raise DataError(f"{root}: holds other pictures than those that the run was trained on")
    known = {name: split for split in data.sizes for name in data.image_paths(split)}
    return {file: known[name] for file, both in names.items() for name in both if name in known}
