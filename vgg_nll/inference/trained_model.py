"""The network of a finished run, loaded from its folder; neither the data nor the rest of the run is needed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional

from vgg_nll import run_folder
from vgg_nll.config import build, validation
from vgg_nll.config.compose import check_targets, read_saved
from vgg_nll.data.preprocessing import Preprocessing
from vgg_nll.errors import CheckpointError
from vgg_nll.evaluation.metrics import Outputs, softmax_outputs
from vgg_nll.files import atomic_write
from vgg_nll.model import VGG16
from vgg_nll.training import checkpoint
from vgg_nll.training.state import check_weights

Picture = str | PathLike[str] | Image.Image | Tensor
BATCH_SIZE = 64


class Predictions(NamedTuple):
    """What a network says of N pictures."""

    classes: tuple[str, ...]  # the most probable class of each picture
    probabilities: Tensor  # [N, C], float64: softmax outputs
    margin: Tensor  # [N], float64: log(p / (1 - p)) of the most probable class; still grows when p rounds to 1


@dataclass
class TrainedModel:
    """The weights of one of a run's checkpoints, in eval mode, and what the network takes and gives."""

    folder: Path
    model: VGG16
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    dtype: torch.dtype
    device: torch.device
    step: int  # of the checkpoint

    def predict(self, pictures: Picture | Sequence[Picture], *, temperature: float = 1.0) -> Predictions:
        """Predicts the class of pictures: resizes, crops and normalises them as evaluation does.

        Args:
            pictures: one or several paths, PIL images, or uint8 tensors [3, H, W] (RGB).
            temperature: divides the logits.

        Raises DataError if a file cannot be read, ValueError for a tensor of another shape or type.
        """
        items = [pictures] if isinstance(pictures, (str, PathLike, Image.Image, Tensor)) else list(pictures)
        if not items:
            raise ValueError("there are no pictures to predict")
        parts = [items[start : start + BATCH_SIZE] for start in range(0, len(items), BATCH_SIZE)]
        outputs = [self.predict_batch(torch.stack([self._read(item) for item in part]), temperature) for part in parts]
        probabilities = torch.cat([part.probabilities for part in outputs]).cpu()
        best = torch.cat([part.logits.argmax(dim=1) for part in outputs]).tolist()
        margin = torch.cat([part.margin for part in outputs]).cpu()
        return Predictions(tuple(self.class_names[k] for k in best), probabilities, margin)

    @torch.no_grad()
    def predict_batch(self, pictures: Tensor, temperature: float) -> Outputs:
        """Returns the softmax outputs for uint8 pictures [B, 3, image_size, image_size]."""
        images = self.preprocessing.normalise(pictures.to(self.device))
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = self.model(images)
        return softmax_outputs(logits.double() / temperature)

    def _read(self, picture: Picture) -> Tensor:
        """Returns a picture as the network takes it, uint8 [3, image_size, image_size], on the CPU."""
        if isinstance(picture, (str, PathLike)):
            return self.preprocessing.read(Path(picture))
        pixels = picture
        if isinstance(picture, Image.Image):
            pixels = functional.pil_to_tensor(ImageOps.exif_transpose(picture).convert("RGB"))
        if not isinstance(pixels, Tensor) or pixels.dtype != torch.uint8 or pixels.dim() != 3 or pixels.shape[0] != 3:
            raise ValueError("a picture must be a path, a PIL image, or a uint8 tensor [3, H, W]")
        resized: Tensor = self.preprocessing.transform(pixels.cpu())
        return resized


def write_network(folder: Path, preprocessing: Preprocessing, class_names: Sequence[str]) -> None:
    """Writes network.json into a run folder: what the network takes and gives."""
    content = preprocessing.to_dict() | {"classes": list(class_names)}
    atomic_write(folder / run_folder.NETWORK, json.dumps(content, indent=2) + "\n")


def load(run: str | PathLike[str], checkpoint_name: str = "best", device: str = "auto") -> TrainedModel:
    """Loads the network of a run folder, in eval mode, with the weights of `checkpoints/<name>.pt`.

    Args:
        device: "auto" (a GPU if there is one, else the CPU), "cpu", "cuda", "cuda:<number>".

    Raises:
        CheckpointError: there is no such run or checkpoint, or it is damaged.
        ConfigError: its config cannot be used here, or names code that no file in configs/ names.
    """
    return load_with_config(Path(run), read_config(Path(run), device), checkpoint_name)


def load_with_config(folder: Path, cfg: DictConfig, checkpoint_name: str) -> TrainedModel:
    """Does what `load` does, with a config that `read_config` has read."""
    content = checkpoint.load(folder / run_folder.CHECKPOINTS / f"{checkpoint_name}.pt")
    device = build.make_device(cfg)
    class_names, preprocessing = _read_network(folder / run_folder.NETWORK, device)
    model = build.make_model(cfg, len(class_names), preprocessing.image_size, device)
    with checkpoint.errors_as_one(f"{folder}: checkpoints/{checkpoint_name}.pt does not fit its config"):
        check_weights(model, content["model"])
        model.load_state_dict(content["model"])
    dtype = build.make_dtype(cfg, device)
    return TrainedModel(folder, model.eval(), preprocessing, class_names, dtype, device, int(content["step"]))


def read_config(folder: Path, device: str) -> DictConfig:
    """Returns the config of a run, for another device. Raises as `load` does."""
    if not (folder / run_folder.CONFIG).is_file():
        raise CheckpointError(f"{folder}: holds no run (there is no {run_folder.CONFIG})")
    cfg = OmegaConf.create(read_saved(folder, run_folder.CONFIG, dict, str(folder)))
    try:
        cfg.device, cfg.resume = device, str(folder)  # the run has weights of its own
        check_targets(cfg, str(folder))
        validation.check(cfg)
    except ConfigAttributeError as error:
        raise CheckpointError(f"{folder}: {run_folder.CONFIG} lacks a part ({error.full_key})") from error
    return cfg


def _read_network(path: Path, device: torch.device) -> tuple[tuple[str, ...], Preprocessing]:
    try:
        content = json.loads(path.read_text())
        class_names = tuple(map(str, content.pop("classes")))
        return class_names, Preprocessing(**content, device=device)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: is missing; training writes it") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: is damaged ({error})") from error
