"""What a run's numbers depend on, besides its config: for the report, and as columns of the HParams tab."""

import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from vgg_nll import hardware
from vgg_nll.data.decoding import jpeg_decoder
from vgg_nll.training.trainer import Trainer

GROUPS = ("loss", "model", "data", "optimizer", "schedule")  # whose choice is a column


def provenance(trainer: Trainer) -> dict[str, Any]:
    """With the config, they allow to repeat a run: device, precision, threads, versions, commit."""
    packages = ("torch", "torchvision", "hydra-core", "tensorboard", "numpy")
    versions = {"python": platform.python_version()} | {name: metadata.version(name) for name in packages}
    if jpeg_decoder() is not None:
        versions["torchcodec"] = metadata.version("torchcodec")
    cuda = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()} if torch.cuda.is_available() else {}
    return {
        "device": hardware.describe(trainer.state.device),
        "precision": _precision(trainer),
        "peak_tflops": round(trainer.logger.peak_flops / 1e12, 3),  # measured: what speed/mfu is a share of
        "threads": torch.get_num_threads(),
        "deterministic": trainer.settings.deterministic,
        "versions": versions | cuda,
        "git": _git("rev-parse", "HEAD") + ("-dirty" if _git("status", "--porcelain") else ""),
    }


def hyperparameters(
    trainer: Trainer, lr: float, choices: Mapping[str, str], overrides: Sequence[str]
) -> dict[str, str | float]:
    """The same columns for every run, since TensorBoard takes the columns of one for all; `other` holds the other overrides."""
    own = (*(f"{group}=" for group in GROUPS), "seed=", "optimizer.lr=", "trainer.batch_size=", "resume=")
    columns: dict[str, str | float] = {group: choices.get(group, "") for group in GROUPS}
    return columns | {
        "lr": lr,
        "batch_size": trainer.settings.batch_size,
        "steps": trainer.total_steps,
        "seed": trainer.seed,
        "parameters": sum(p.numel() for p in trainer.state.model.parameters()),
        "precision": _precision(trainer),
        "device": trainer.state.device.type,
        "other": " ".join(sorted(item for item in overrides if not item.startswith(own))),
    }


def _precision(trainer: Trainer) -> str:
    return str(trainer.dtype).removeprefix("torch.")


def _git(*args: str) -> str:
    """What git says of this source tree; empty where there is none."""
    try:
        done = subprocess.run(["git", *args], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
