"""A trained network, taken up again from its run folder; neither the data nor the rest of the run is needed."""

import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError

from vgg_nll.config import build
from vgg_nll.config.compose import check_targets, read_saved
from vgg_nll.data.preprocessing import Preprocessing
from vgg_nll.errors import CheckpointError, ConfigError
from vgg_nll.evaluation.temperature import LEAST, MOST
from vgg_nll.model import VGG16
from vgg_nll.training import checkpoint
from vgg_nll.training.state import check_weights

TEMPERATURE = "temperature.json"
INPUTS = "network.json"  # what it takes and gives: preprocessing and class names


@dataclass
class Network:
    """The weights of one of a run's checkpoints, and what goes in and comes out."""

    folder: Path
    model: VGG16
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    dtype: torch.dtype
    device: torch.device
    step: int  # of the checkpoint


def write(folder: Path, preprocessing: Preprocessing, class_names: Sequence[str]) -> None:
    """network.json, into a run folder."""
    content = preprocessing.to_dict() | {"classes": list(class_names)}
    checkpoint.write_text(folder / INPUTS, json.dumps(content, indent=2) + "\n")


def open_network(folder: Path, checkpoint_name: str = "best", device: str = "auto") -> Network:
    """The network of a run folder, with the weights of `checkpoints/<name>.pt`.

    Raises:
        CheckpointError: there is no such run or checkpoint, it is damaged, or of another version.
        ConfigError: its config cannot be used here, or names code that no file in configs/ names.
    """
    return load(folder, read_config(folder, device), checkpoint_name)


def load(folder: Path, cfg: DictConfig, checkpoint_name: str) -> Network:
    """`open_network`, where the config has been read."""
    content = checkpoint.load(folder / "checkpoints" / f"{checkpoint_name}.pt")
    place = build.make_device(cfg)
    class_names, preprocessing = _inputs(folder / INPUTS, place)
    model = build.make_model(cfg, len(class_names), preprocessing.image_size, place)
    try:
        check_weights(model, content["model"])
    except (ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{folder}: checkpoints/{checkpoint_name}.pt does not fit its config: {error}") from error
    model.load_state_dict(content["model"])
    dtype = build.make_dtype(cfg, place)
    return Network(folder, model, preprocessing, class_names, dtype, place, int(content["step"]))


def read_config(folder: Path, device: str) -> DictConfig:
    """The config of a run, for another device. Raises as `open_network` does."""
    if not (folder / ".hydra" / "config.yaml").is_file():
        raise CheckpointError(f"{folder}: holds no run (there is no .hydra/config.yaml)")
    cfg = OmegaConf.create(read_saved(folder, "config.yaml", dict, str(folder)))
    try:
        cfg.device, cfg.resume = device, str(folder)  # it has weights of its own
        check_targets(cfg, str(folder))
        build.check(cfg)
    except ConfigAttributeError as error:
        raise CheckpointError(f"{folder}: .hydra/config.yaml lacks a part ({error.full_key})") from error
    return cfg


def _inputs(path: Path, device: torch.device) -> tuple[tuple[str, ...], Preprocessing]:
    try:
        content = json.loads(path.read_text())
        class_names = tuple(map(str, content.pop("classes")))
        return class_names, Preprocessing(**content, device=device)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: is missing, as in runs of earlier versions; scripts/evaluate.py writes it") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: is damaged ({error})") from error


def write_temperature(network: Network, value: float) -> None:
    """Into the run folder, with the step of the checkpoint that it belongs to."""
    content = {"temperature": value, "step": network.step}
    checkpoint.write_text(network.folder / TEMPERATURE, json.dumps(content) + "\n")


def read_temperature(network: Network, wish: str) -> float:
    """The temperature that a person asks for: a number above 0, or "saved", the one that was fitted to this checkpoint.

    Raises ConfigError where it is neither, CheckpointError where none was saved for this checkpoint.
    """
    if wish != "saved":
        try:
            value = float(wish)
        except ValueError:
            value = math.nan
        if not LEAST <= value <= MOST:
            raise ConfigError(f"--temperature {wish}: must be a number from {LEAST:g} to {MOST:g}")
        return value
    path = network.folder / TEMPERATURE
    fit = f"python scripts/evaluate.py {shlex.quote(str(network.folder))} --temperature fits one"
    try:
        content = json.loads(path.read_text())
        value, step = float(content["temperature"]), content["step"]
        if not LEAST <= value <= MOST:
            raise ValueError(value)
    except FileNotFoundError as error:
        raise CheckpointError(f"{network.folder}: has no temperature; {fit}") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: is damaged; {fit} anew") from error
    if step != network.step:
        raise CheckpointError(f"{path}: is of step {step}, and the checkpoint of step {network.step}; {fit} anew")
    return value
