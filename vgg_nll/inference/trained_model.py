"""The network of a finished run, loaded from its folder; neither the data nor the rest of the run is needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor

from vgg_nll import records, run_folder
from vgg_nll.config import build, saved
from vgg_nll.data.decoding import to_rgb
from vgg_nll.data.pixel_statistics import AUTO
from vgg_nll.data.preprocessing import Preprocessing
from vgg_nll.errors import CheckpointError
from vgg_nll.evaluation.metrics import Outputs, softmax_outputs
from vgg_nll.model import VGG16
from vgg_nll.training import checkpoint
from vgg_nll.training.state import check_weights, evaluated_weights

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
    run_id: str
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
            pixels = to_rgb(picture)
        if not isinstance(pixels, Tensor) or pixels.dtype != torch.uint8 or pixels.dim() != 3 or pixels.shape[0] != 3:
            raise ValueError("a picture must be a path, a PIL image, or a uint8 tensor [3, H, W]")
        resized: Tensor = self.preprocessing.transform(pixels.cpu())
        return resized


def write_network(folder: Path, preprocessing: Preprocessing, class_names: Sequence[str], run_id: str) -> None:
    """Writes network.json into a run folder: what the network takes and gives."""
    records.write_json(folder / run_folder.NETWORK, preprocessing.to_dict() | {"classes": list(class_names)}, run_id)


def load(run: str | PathLike[str], checkpoint_name: str = "best", device: str = "auto") -> TrainedModel:
    """Loads the network of a run folder, in eval mode, with the weights of `checkpoints/<name>.pt`.

    Args:
        device: "auto" (a GPU if there is one, else the CPU), "cpu", "cuda", "cuda:<number>".

    Raises:
        CheckpointError: there is no such run or checkpoint, or it is damaged.
        ConfigError: its config cannot be used here, or names code that no file in configs/ names.
    """
    cfg, run_id = read_config(Path(run), device)
    return load_with_config(Path(run), cfg, run_id, checkpoint_name)


def load_with_config(folder: Path, cfg: DictConfig, run_id: str, checkpoint_name: str) -> TrainedModel:
    """Does what `load` does, with what `read_config` has read."""
    content = checkpoint.load(folder / run_folder.CHECKPOINTS / f"{checkpoint_name}.pt", run_id)
    device = build.make_device(cfg)
    class_names, preprocessing = _read_network(folder / run_folder.NETWORK, run_id, device)
    model = build.make_model(cfg, len(class_names), preprocessing.image_size, device, draw_weights=False)
    with checkpoint.errors_as_one(f"{folder}: checkpoints/{checkpoint_name}.pt does not fit its config"):
        weights = evaluated_weights(content)
        check_weights(model, weights)
        model.load_state_dict(weights, assign=True)  # without a copy
        step = int(content["step"])
    model.to(device).to(memory_format=torch.channels_last)
    dtype = build.make_dtype(cfg, device)
    return TrainedModel(folder, run_id, model.eval(), preprocessing, class_names, dtype, device, step)


def read_config(folder: Path, device: str) -> tuple[DictConfig, str]:
    """Returns the config of a run, for another device, and the run's identity. Raises as `load` does."""
    run_folder.check_holds_run(folder)
    run_folder.refuse_links(folder)
    content, run_id = saved.read(folder)
    return OmegaConf.create(content | {"device": device}), run_id


def with_measured_statistics(cfg: DictConfig, folder: Path, run_id: str) -> DictConfig:
    """Returns a config for the data of a run: with the mean and deviation that it has measured, in the place of "auto".

    Raises CheckpointError as `load` does.
    """
    path = folder / run_folder.NETWORK
    measured = [name for name in ("mean", "std") if cfg.data.get(name) == AUTO]
    if not measured or not path.exists():
        return cfg
    _, preprocessing = _read_network(path, run_id, torch.device("cpu"))
    stored = preprocessing.to_dict()
    return OmegaConf.merge(cfg, {"data": {name: stored[name] for name in measured}})  # type: ignore[return-value]


def _read_network(path: Path, run_id: str, device: torch.device) -> tuple[tuple[str, ...], Preprocessing]:
    content = records.read_json(path, run_id)
    classes = content.pop("classes", None)
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise CheckpointError(f"{path}: is damaged: it has no class names")
    try:
        return tuple(classes), Preprocessing(**content, device=device)
    except (ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: is damaged ({error})") from error
