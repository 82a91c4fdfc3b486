"""Configs for tests: composed, and small enough for seconds."""

from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import DictConfig

from vgg_nll.config.compose import composed
from vgg_nll.data.interface import ImageData
from vgg_nll.model import VGG16
from vgg_nll.run import build

Config = Callable[..., DictConfig]  # the `config` fixture: overrides -> the composed config
ROOT = Path(__file__).resolve().parents[2]
# For runs of a second: 40 synthetic images, 2 classes, a sixteenth of VGG-16's channels.
TINY = (
    "data=synthetic",
    "data.num_images=40",
    "data.num_classes=2",
    "model.width=0.0625",
    "trainer.batch_size=4",
    "trainer.eval_batch_size=8",
    "trainer.log_every_steps=1",
    "device=cpu",
    "trainer.precision=float32",
)

# 6 steps, validations after steps 3 and 6, no curves, and few bytes to save: no moments.
LIGHT = (
    *TINY,
    *("data.shift_pixels=2", "trainer.accumulation_steps=2", "trainer.validate_every_epochs=0.5", "tracking=none"),
    *("optimizer=sgd", "optimizer.momentum=0", "optimizer.nesterov=false", "optimizer.lr=0.01", "trainer.steps=6"),
)


def compose_config(*overrides: str) -> DictConfig:
    """Returns `configs/train.yaml` with these overrides."""
    return composed(overrides)


def make_model(cfg: DictConfig, data: ImageData | None = None) -> VGG16:
    """Returns the network of a config, on the CPU."""
    data = build.make_data(cfg, torch.device("cpu")) if data is None else data
    return build.make_model(cfg, data.class_names, data.preprocessing.image_size, torch.device("cpu"))


def make_data(config: Config, *overrides: str) -> ImageData:
    """Overrides -> the data set of their config, on the CPU."""
    return build.make_data(config(*overrides), torch.device("cpu"))
