"""Provenance of a run: what its numbers depend on besides its config, for metrics.json and for the HParams tab."""

import functools
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from vgg_nll import hardware
from vgg_nll.data.pictures.decoding import jpeg_decoder

GROUPS = ("loss", "model", "data", "optimizer", "schedule")  # config groups whose choice is a column


def provenance(device: torch.device, dtype: torch.dtype, *, peak_flops: float, deterministic: bool) -> dict[str, Any]:
    """Returns what allows to repeat a run, together with its config: device, precision, threads, versions, commit.

    Args:
        peak_flops: of a large matrix product, measured; `speed/mfu` is a fraction of it.
    """
    packages = ("torch", "torchvision", "hydra-core", "tensorboard", "numpy")
    versions = {"python": platform.python_version()} | {name: metadata.version(name) for name in packages}
    if jpeg_decoder() is not None:
        versions["torchcodec"] = metadata.version("torchcodec")
    cuda = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()} if torch.cuda.is_available() else {}
    return {
        "device": hardware.describe(device),
        "precision": dtype_name(dtype),
        "peak_tflops": round(peak_flops / 1e12, 3),
        "threads": torch.get_num_threads(),
        "deterministic": deterministic,
        "versions": versions | cuda,
        "git": git_hash(),
    }


def hyperparameters(
    choices: Mapping[str, str], overrides: Sequence[str], values: Mapping[str, str | float]
) -> dict[str, str | float]:
    """Returns the columns of the HParams tab: the same for every run, since TensorBoard takes the columns of one for all.

    Args:
        choices: what was chosen in each config group; values: settings and facts of the run, by column.
        overrides: those that have no column of their own stand together in the column `other`.
    """
    own = (*(f"{group}=" for group in GROUPS), "seed=", "optimizer.lr=", "trainer.batch_size=", "resume=")
    columns: dict[str, str | float] = {group: choices.get(group, "") for group in GROUPS}
    return columns | dict(values) | {"other": " ".join(sorted(item for item in overrides if not item.startswith(own)))}


def dtype_name(dtype: torch.dtype) -> str:
    """Returns "float32", "bfloat16", ..."""
    return str(dtype).removeprefix("torch.")


@functools.cache
def git_hash() -> str:
    """Returns the commit of this source tree, with "-dirty" if files differ from it; "" outside a git checkout."""
    return _git("rev-parse", "HEAD") + ("-dirty" if _git("status", "--porcelain") else "")


def _git(*args: str) -> str:
    try:
        done = subprocess.run(["git", *args], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
