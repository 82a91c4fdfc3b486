"""Run folders -> what a comparison needs of them."""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vgg_nll.errors import CheckpointError
from vgg_nll.training import checkpoint

NUMBER = (int, float)
# What metrics.json of every version that can be compared holds.
REQUIRED: Mapping[str, type | tuple[type, ...]] = {
    "data": str,
    "model": str,
    "loss": str,
    "seed": int,
    "overrides": list,
    "seconds": NUMBER,
}
NUM_BINS = 15  # those of another number cannot be added to them
PROVENANCE = ("device", "precision", "threads", "versions", "git")


@dataclass(frozen=True)
class Bins:
    """Per bin of confidence: how many images, how many of them right, the sum of their confidences."""

    images: tuple[float, ...]
    correct: tuple[float, ...]
    confidence: tuple[float, ...]

    def __add__(self, other: "Bins") -> "Bins":
        return Bins(
            tuple(a + b for a, b in zip(self.images, other.images, strict=True)),
            tuple(a + b for a, b in zip(self.correct, other.correct, strict=True)),
            tuple(a + b for a, b in zip(self.confidence, other.confidence, strict=True)),
        )

    @property
    def ece(self) -> float:
        """sum over bins of |correct - confidence|, divided by all images."""
        gaps = (abs(right - sure) for right, sure in zip(self.correct, self.confidence, strict=True))
        return sum(gaps) / sum(self.images)


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    data: str
    model: str
    loss: str
    seed: int
    seconds: float
    split: str  # what `values` and `bins` are of: test, or val where the data set has no test split
    values: Mapping[str, float]  # the metrics that have a value
    bins: Bins | None  # None: of a version that did not record these
    overrides: Mapping[str, str]  # key -> value, as given on the command line
    config: Mapping[str, str]  # every leaf as text; empty: of a version that did not record it
    provenance: Mapping[str, str]  # device, precision, versions, ...

    @property
    def machine(self) -> str:
        """Where it was trained, and in which precision."""
        return f"{self.provenance.get('device', 'unknown')}, {self.provenance.get('precision', 'unknown')}"


def find(folders: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Every finished run in or below `folders`, in order of their paths; and a line for each run that is left out.

    A run is finished where its folder holds `DONE` and `metrics.json`. Raises CheckpointError for what is no folder.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise CheckpointError(f"{folder}: {'is not a folder' if folder.exists() else 'there is no such folder'}")
        for name, _, files in os.walk(folder):
            if _holds_run(Path(name), files):
                found.setdefault(Path(name).resolve(), Path(name))
    runs, left_out = [], []
    for path in sorted(found.values()):
        if not (path / "DONE").is_file():
            left_out.append(f"left out, not finished: {path}{_failure(path)}")
            continue
        try:
            runs.append(_read(path))
        except (OSError, ValueError) as error:
            left_out.append(f"left out, {error}")
    return runs, left_out


def flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """("trainer.epochs", "6"), ... for every leaf, as text: 6 and 6.0 are the same; lists are leaves."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else _text(value)


def _holds_run(folder: Path, files: list[str]) -> bool:
    marked = any(name in files for name in ("metrics.json", "DONE", "FAILED"))
    return marked or (folder / ".hydra" / "config.yaml").is_file() or checkpoint.exists(folder / "checkpoints")


def _failure(folder: Path) -> str:
    """What FAILED says, on one line; empty where there is none."""
    try:
        said = (folder / "FAILED").read_text(errors="replace").split()
    except OSError:
        return ""
    return f" (failed: {' '.join(said)[:200]})"


def _read(folder: Path) -> Run:
    """Raises ValueError or OSError, with the path, where metrics.json is missing, damaged or of another version."""
    path = folder / "metrics.json"
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"not readable: {path} is damaged ({error})") from error
    except OSError as error:
        raise OSError(f"not readable: {path}: {error.strerror}") from error
    if not isinstance(content, dict):
        raise ValueError(f"of another version: {path} holds no metrics")
    missing = [key for key, kind in REQUIRED.items() if not isinstance(content.get(key), kind)]
    split = "test" if "test" in content else "val"
    values = _numbers(content.get(split))
    missing += [f"{split}.accuracy"] * ("accuracy" not in values)
    if missing:
        raise ValueError(f"of another version: {path} has no {', '.join(missing)}")
    config = content.get("config")
    provenance = {key: content[key] for key in PROVENANCE if content.get(key) not in (None, "")}
    return Run(
        folder=folder,
        data=content["data"],
        model=content["model"],
        loss=content["loss"],
        seed=content["seed"],
        seconds=content["seconds"],
        split=split,
        values=values,
        bins=_bins(content.get("reliability"), split),
        overrides={key.lstrip("+~"): value for key, _, value in (str(item).partition("=") for item in content["overrides"])},
        config=dict(flatten(config)) if isinstance(config, dict) else {},
        provenance=dict(flatten(provenance)),
    )


def _numbers(values: Any) -> dict[str, float]:
    """The metrics that have a value: null stands for NaN (a run without mistakes has no confidence when wrong)."""
    items = values.items() if isinstance(values, dict) else ()
    return {name: float(value) for name, value in items if isinstance(value, NUMBER) and math.isfinite(value)}


def _bins(content: Any, split: str) -> Bins | None:
    if not isinstance(content, dict) or content.get("split") != split:
        return None
    columns = []
    for name in ("images", "correct", "confidence"):
        column = content.get(name)
        if not isinstance(column, list) or len(column) != NUM_BINS or not all(isinstance(item, NUMBER) for item in column):
            return None
        columns.append(tuple(map(float, column)))
    return Bins(*columns)


def _text(value: Any) -> str:
    return json.dumps(value).removesuffix(".0")
