"""Run folders -> the finished runs, as a comparison needs them."""

import contextlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vgg_nll.calibration.bins import NUM_BINS
from vgg_nll.config import schema
from vgg_nll.errors import CheckpointError
from vgg_nll.escapes import printable
from vgg_nll.files import read_regular_file
from vgg_nll.run_folder import checked_json, checksums, paths
from vgg_nll.run_folder.record import RunRecord

NUMBER = (int, float)
# What every metrics.json holds, besides `val` or `test`.
REQUIRED: Mapping[str, type | tuple[type, ...]] = {"seconds": NUMBER, "device": str, "precision": str}
MAX_TEXT = 4096  # of a name or a setting
PROVENANCE = ("device", "precision", "threads", "versions", "git")


@dataclass(frozen=True)
class Run:
    """Holds what is known of one finished run."""

    folder: Path
    data: str
    model: str
    loss: str
    seed: int
    seconds: float
    split: str  # the images of `values`: test; val if the data set has no test split
    values: Mapping[str, float]  # the metrics that have a value
    validation: Mapping[str, float]  # likewise, of the best validation: settings are chosen with these
    # Per bin of confidence: images, right ones, sum of confidences; of the test split, None if the data set has none.
    bins: Tensor | None = field(compare=False)  # [3, NUM_BINS]
    overrides: Mapping[str, str]  # key -> value, as given on the command line
    config: Mapping[str, str]  # every leaf, as text
    provenance: Mapping[str, str]  # device, precision, versions, ...
    parts: tuple["Run", ...] = ()  # the folds of a cross-validation, which this run stands for
    files: checksums.OtherFiles = checksums.UNKNOWN
    # Metric -> its value on each tested image [N], and "label"; empty until `rescaled.read_group` reads outputs.npz.
    images: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False)

    @property
    def folders(self) -> list[Path]:
        """Returns the run folders whose curves it has."""
        return [part.folder for part in self.parts] or [self.folder]

    @property
    def machine(self) -> str:
        """Returns the device that trained it, and the precision."""
        return f"{self.provenance['device']}, {self.provenance['precision']}"


def find(folders: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Returns the finished runs in and below `folders`, in order of their paths; and a line for each run that is left out.

    A run is finished if its folder holds `DONE` and `metrics.json`. Raises CheckpointError if one of `folders` is not a folder.
    """
    found: dict[Path, Path] = {}
    paths.check_folders(folders)
    for folder in folders:
        for name, _, _ in os.walk(folder):
            if _is_run(Path(name)):
                found.setdefault(Path(name).resolve(), Path(name))
    runs, left_out = [], []
    for path in sorted(found.values()):
        if not (path / paths.DONE).is_file():
            left_out.append(printable(f"left out, not finished: {path}{_failure(path)}"))
            continue
        try:
            runs.append(_read(path))
        except CheckpointError as error:
            left_out.append(f"left out: {error}")
    return runs, left_out


def as_texts(content: Mapping[str, Any]) -> dict[str, str]:
    """Returns {"trainer.epochs": "6", ...}, every leaf as text: 6 and 6.0 give the same text, and a list is one leaf."""
    return {
        printable(key): printable(value if isinstance(value, str) else json.dumps(value).removesuffix(".0"))
        for key, value in schema.leaves(content).items()
    }


def _is_run(folder: Path) -> bool:
    """Returns whether a run began here, finished or not."""
    return paths.holds_run(folder) or any((folder / name).is_file() for name in (paths.RUN, paths.FAILED, paths.PRUNED))


def _failure(folder: Path) -> str:
    """Returns what FAILED or PRUNED says, on one line; empty if there is no such file."""
    for name in (paths.FAILED, paths.PRUNED):
        with contextlib.suppress(OSError, ValueError):
            words = read_regular_file(folder / name, MAX_TEXT).decode(errors="replace").split()
            return f" ({name.lower()}: {' '.join(words)[:200]})"
    return ""


def _read(folder: Path) -> Run:
    """Raises CheckpointError, with the path, if the record or metrics.json is missing or damaged, or they are of two runs."""
    record, path = RunRecord.open(folder), folder / paths.METRICS
    content, config = checked_json.read(path, record.run_id), as_texts(record.config)
    if type(record.config.get("seed")) is not int or _is_too_long(config):
        raise CheckpointError(f"{folder / paths.RUN}: is damaged: it holds settings that no run has")
    if _is_too_long(content):
        raise CheckpointError(f"{path}: is damaged: it holds text of more than {MAX_TEXT} characters, or is nested too deep")
    split = "test" if "test" in content else "val"
    values, bins = _numbers(content.get(split)), _bins(content.get("reliability"))
    missing = [key for key, kind in REQUIRED.items() if not isinstance(content.get(key), kind)]
    missing += [f"{split}.accuracy"] * ("accuracy" not in values)
    missing += ["reliability"] * (split == "test" and bins is None)
    if missing:
        raise CheckpointError(f"{path}: is damaged: it has no valid {', '.join(missing)}")
    provenance = {key: content[key] for key in PROVENANCE if content.get(key) not in (None, "")}
    return Run(
        folder=folder,
        data=printable(record.choices.get("data", "")),
        model=printable(record.choices.get("model", "")),
        loss=printable(record.choices.get("loss", "")),
        seed=record.config["seed"],
        seconds=content["seconds"],
        split=split,
        values=values,
        validation=_numbers(content.get("val")),
        bins=bins if split == "test" else None,
        overrides={key.lstrip("+~"): value for key, _, value in (printable(item).partition("=") for item in record.overrides)},
        config=config,
        provenance=as_texts(provenance),
        files=checksums.other_files(content, record.run_id),
    )


def _is_too_long(value: Any, depth: int = 0) -> bool:
    """Whether there is a text, a list or a nesting that no run writes, and that would take a table apart."""
    if isinstance(value, str):
        return len(value) > MAX_TEXT
    items = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return depth > checked_json.MAX_DEPTH or len(items) > MAX_TEXT or any(_is_too_long(item, depth + 1) for item in items)


def _numbers(values: Any) -> dict[str, float]:
    """Returns the metrics that have a value: null stands for NaN (a run without errors has no confidence when wrong)."""
    items = values.items() if isinstance(values, dict) else ()
    return {name: float(value) for name, value in items if isinstance(value, NUMBER) and math.isfinite(value)}


def _bins(content: Any) -> Tensor | None:
    """Returns None if the bins are missing or damaged."""
    if not isinstance(content, dict):
        return None
    columns: list[Any] = [content.get(name) for name in ("images", "correct", "confidence")]
    for column in columns:
        if not isinstance(column, list) or len(column) != NUM_BINS:
            return None
        if not all(isinstance(item, NUMBER) and math.isfinite(item) for item in column):
            return None
    bins = torch.tensor(columns, dtype=torch.float64)
    return bins if bins[0].sum() > 0 else None
