"""Real runs, and copies of their metrics.json with other values."""

import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.configs import TINY, compose_config
from helpers.runs import train_config

from vgg_nll.evaluation.outputs import SplitOutputs, write_outputs
from vgg_nll.run_folder import checked_json, checksums, paths

CHOICES = {"data", "model", "loss"}
BINS = {"images": [0] * 13 + [10, 90], "correct": [0] * 13 + [6, 89], "confidence": [0.0] * 13 + [9.0, 88.0]}  # ECE 4%


@pytest.fixture(scope="session")
def real_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of two losses and two seeds: argmax0, argmax1, all_logit0, all_logit1. Not to be changed."""
    root = tmp_path_factory.mktemp("real")
    for loss in ("argmax", "all_logit"):
        for seed in (0, 1):
            folder, overrides = root / f"{loss}{seed}", [*TINY, f"loss={loss}", f"seed={seed}", "trainer.epochs=2"]
            folder.mkdir()
            choices = {"data": "synthetic", "model": "vgg16", "loss": loss}
            train_config(compose_config(*overrides), folder, choices, overrides)
    return root


@pytest.fixture
def make_run(real_runs: Path) -> Callable[..., Path]:
    """Writes a copy of a real run with other values: folder, loss, seed -> folder.

    Every metric is 0.25, unless `values` has another value. `leaves` ("trainer.epochs": 9) change its config; data,
    model, loss what was chosen of these groups; other keywords change metrics.json, None removes a key.
    """

    def make(
        folder: Path,
        loss: str,
        seed: int = 0,
        *,
        overrides: tuple[str, ...] = (),
        done: bool = True,
        values: Mapping[str, float] = {},
        leaves: Mapping[str, Any] = {},
        **changes: Any,
    ) -> Path:
        content = checked_json.read(real_runs / f"{loss}0" / paths.METRICS)
        record = checked_json.read(real_runs / f"{loss}0" / paths.RUN)
        metrics = dict.fromkeys(content["test"], 0.25) | dict(values)
        for key, value in ({"name": folder.name, "seed": seed} | dict(leaves)).items():
            *path, last = key.split(".")
            config = record["config"]
            for name in path:
                config = config[name]
            config[last] = value
        record["choices"] |= {"data": "digits"}
        record["overrides"] = [f"loss={loss}", f"seed={seed}", *overrides]
        content |= {"test": metrics, "val": metrics, "reliability": {"split": "test"} | BINS, "seconds": 60.0}
        content |= {"device": "CPU", "precision": "float32", "threads": 2, "git": "abc", "versions": {"torch": "2.14"}}
        folder.mkdir(parents=True)
        for group in CHOICES & changes.keys():
            record["choices"][group] = changes.pop(group)
        checked_json.write(folder / paths.RUN, record, "test")
        if done:
            for table in checksums.TABLES:
                shutil.copy(real_runs / f"{loss}0" / table, folder)
            kept = {key: value for key, value in (content | changes).items() if value is not None}
            checked_json.write(folder / paths.METRICS, kept, "test")
            (folder / paths.DONE).touch()
        return folder

    return make


@pytest.fixture
def make_accuracies(make_run: Callable[..., Path]) -> Callable[..., None]:
    """Writes one run per accuracy: folder, loss=[accuracy of seed 0, of seed 1, ...]."""

    def make(root: Path, **by_loss: list[float]) -> None:
        for loss, values in by_loss.items():
            for seed, value in enumerate(values):
                make_run(root / f"{loss}{seed}", loss, seed, values={"accuracy": value})

    return make


@pytest.fixture
def write_logits() -> Callable[..., None]:
    """Writes outputs.npz of a run of `make_run`: split=(logits [N, C], labels [N])."""

    def write(folder: Path, *, run_id: str = "test", **splits: tuple[np.ndarray, np.ndarray]) -> None:
        made = {
            name: SplitOutputs(logits.astype(np.float32), labels.astype(np.int64), np.array([""] * len(labels), dtype=str))
            for name, (logits, labels) in splits.items()
        }
        classes = [str(k) for k in range(next(iter(splits.values()))[0].shape[1])]
        write_outputs(folder / paths.OUTPUTS, made, classes, run_id)

    return write


@pytest.fixture
def student_t() -> Callable[[list[float]], tuple[float, float, float]]:
    """Values -> mean, half of the 95% interval, two-sided p against 0, for n = 2 and 3: Student's t is elementary there.

    One degree of freedom (Cauchy): F(t) = 1/2 + atan(t)/pi; two: F(t) = 1/2 + t / (2 sqrt(2 + t^2)).
    """

    def estimate(values: list[float]) -> tuple[float, float, float]:
        n = len(values)
        mean = sum(values) / n
        error = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)
        t = abs(mean) / error
        if n == 2:
            return mean, math.tan(math.pi * 0.475) * error, 1 - 2 / math.pi * math.atan(t)
        return mean, 0.95 * math.sqrt(2 / (1 - 0.95**2)) * error, 1 - t / math.sqrt(2 + t * t)

    return estimate
