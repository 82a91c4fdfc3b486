"""The network of a finished run, loaded from its folder; neither the data nor the rest of the run is needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from vgg_nll import rng
from vgg_nll.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE
from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.checkpoints.weights import check_weights, evaluated_weights
from vgg_nll.config.rules import RULES
from vgg_nll.data.pictures.decoding import to_rgb
from vgg_nll.data.pictures.reader import read_prepared
from vgg_nll.data.preprocessing import Preprocessing
from vgg_nll.errors import CheckpointError
from vgg_nll.evaluation.metrics import Outputs, softmax_outputs
from vgg_nll.hardware import choose_dtype, full_float32
from vgg_nll.model import VGG16
from vgg_nll.run import build
from vgg_nll.run_folder import paths
from vgg_nll.run_folder.record import RunRecord

ImageInput = str | PathLike[str] | Image.Image | Tensor
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

    def predict(self, pictures: ImageInput | Sequence[ImageInput], *, temperature: float = 1.0) -> Predictions:
        """Predicts the class of pictures: resizes, crops and normalises them as evaluation does.

        Args:
            pictures: one or several paths, PIL images, or uint8 tensors [3, H, W] (RGB).
            temperature: divides the logits.

        Raises DataError if a file cannot be read, ValueError for a tensor of another shape or type, and for a temperature that
        is no number from 0.01 to 100.
        """
        _check_temperature(temperature)
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
        """Returns the softmax outputs for uint8 pictures [B, 3, image_size, image_size]. Raises as `predict` does."""
        _check_temperature(temperature)
        images = self.preprocessing.normalise(pictures.to(self.device))
        with full_float32(), torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = self.model(images)
        return softmax_outputs(logits.double() / temperature)

    def _read(self, picture: ImageInput) -> Tensor:
        """Returns a picture as the network takes it, uint8 [3, image_size, image_size], on the CPU."""
        if isinstance(picture, (str, PathLike)):
            return read_prepared(Path(picture), self.preprocessing)
        pixels = picture
        if isinstance(picture, Image.Image):
            pixels = to_rgb(picture, self.preprocessing.white)
        if not isinstance(pixels, Tensor) or pixels.dtype != torch.uint8 or pixels.dim() != 3 or pixels.shape[0] != 3:
            raise ValueError("a picture must be a path, a PIL image, or a uint8 tensor [3, H, W]")
        resized: Tensor = self.preprocessing.transform(pixels.cpu())
        return resized


def _check_temperature(temperature: float) -> None:
    """Raises ValueError for a temperature by which no logits can be divided, as the scripts refuse it."""
    low, high = MIN_TEMPERATURE, MAX_TEMPERATURE
    if not low <= temperature <= high:  # NaN, too
        raise ValueError(f"temperature={temperature}: must be a number from {low:g} to {high:g}")


def load(run: str | PathLike[str], checkpoint_name: str = "best", device: str = "auto") -> TrainedModel:
    """Loads the network of a run folder, in eval mode, with the weights of `checkpoints/<name>.pt`.

    Args:
        device: "auto" (a GPU if there is one, else the CPU), "cpu", "cuda", "cuda:<number>".

    Raises:
        CheckpointError: there is no such run or checkpoint, or it is damaged.
        ConfigError: its config cannot be used here, or names code that no file in configs/ names.
    """
    record = open_record(Path(run))
    record.check_network(Path(run))
    return load_weights(Path(run), record, checkpoint_name, device)


def load_weights(folder: Path, record: RunRecord, checkpoint_name: str, device_name: str) -> TrainedModel:
    """Does what `load` does, with the record of the folder, of which the network's part was checked."""
    content = checkpoint_file.load(folder / paths.CHECKPOINTS / f"{checkpoint_name}.pt", record.run_id)
    device = build.make_device(device_name)
    class_names, preprocessing = _takes_and_gives(folder, record, device)
    with rng.NoDraws():
        model = build.make_network(
            OmegaConf.create({"model": record.config["model"]}), len(class_names), preprocessing.image_size
        )
    with checkpoint_file.errors_as_one(f"{folder}: checkpoints/{checkpoint_name}.pt does not fit its config"):
        weights = evaluated_weights(content)
        check_weights(model, weights)
        model.load_state_dict(weights, assign=True)  # without a copy
        step = int(content["step"])
    model.to(device).to(memory_format=torch.channels_last)
    dtype = _dtype(folder, record, device)
    return TrainedModel(folder, record.run_id, model.eval(), preprocessing, class_names, dtype, device, step)


def open_record(folder: Path) -> RunRecord:
    """Returns the record of a run folder that is about to be read, and written to. Raises as `load` does."""
    record = RunRecord.open(folder)
    paths.refuse_links(folder)
    return record


def _takes_and_gives(folder: Path, record: RunRecord, device: torch.device) -> tuple[tuple[str, ...], Preprocessing]:
    """Returns the class names and the preprocessing of a record."""
    assert record.data is not None and record.preprocessing is not None
    try:
        return tuple(record.data.classes), Preprocessing(**record.preprocessing, device=device)
    except (ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{folder / paths.RUN}: is damaged ({error})") from error


def _dtype(folder: Path, record: RunRecord, device: torch.device) -> torch.dtype:
    """Returns the number format of `trainer.test_precision`: with `trainer.precision`, all that is needed of its training."""
    trainer = record.config.get("trainer")
    values = {name: trainer.get(name) if isinstance(trainer, dict) else None for name in ("precision", "test_precision")}
    for name, value in values.items():
        problem = RULES[f"trainer.{name}"].find_error(value)
        if problem is not None:
            raise CheckpointError(f"{folder / paths.RUN}: trainer.{name}={str(value)[:200]}: {problem}")
    return torch.float32 if values["test_precision"] == "float32" else choose_dtype(str(values["precision"]), device)
