"""A trained network on pictures: the classes that it takes them for, and how sure it is."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from vgg_nll.errors import DataError
from vgg_nll.inference.trained_model import Network
from vgg_nll.losses.softmax import log_probabilities

Read = tuple[list[Path], Tensor, list[str]]  # the pictures that could be read, their bytes [B, 3, H, W], and what was wrong


@dataclass(frozen=True)
class Prediction:
    """What a network says of a picture.

    `classes` are the likeliest ones, from the largest softmax output on, `confidence` their outputs; `margin` is
    `log(p / (1 - p))` of the first, which goes on where p is 1.
    """

    path: Path
    classes: tuple[str, ...]
    confidence: tuple[float, ...]
    margin: float


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """The files among `paths` as they are, and every picture in and below the folders among them.

    Raises DataError where there is no such file or folder, or no picture in a folder.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            below = sorted(_below(path))
            if not below:
                raise DataError(f"{path}: holds no pictures ({', '.join(IMG_EXTENSIONS)})")
            found += below
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"{path}: there is no such file or folder")
    return found


def _below(folder: Path) -> Iterator[Path]:
    """Pictures in and below a folder, also behind links, as in training; each folder once."""
    seen = set()
    for name, folders, files in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(name))
        folders[:] = [inner for inner in folders if os.path.realpath(Path(name) / inner) not in seen]
        yield from (Path(name) / file for file in files if file.lower().endswith(IMG_EXTENSIONS))


def predict(network: Network, paths: Sequence[Path], *, most: int, at: float, batch_size: int) -> Iterator[Prediction | str]:
    """For every picture, batch by batch, what the network says; for one that cannot be read, the message instead.

    Args:
        most: classes a picture; at: the temperature that divides the logits.

    The next batch is read while the network works on this one; each picture is read once.
    """
    parts = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
    network.model.eval()
    with ThreadPoolExecutor(1) as reader:
        ahead: list[Future[Read]] = [reader.submit(_read, network, part) for part in parts[:1]]
        for following in [*parts[1:], None]:
            read, pictures, messages = ahead.pop().result()
            if following is not None:
                ahead.append(reader.submit(_read, network, following))
            yield from messages
            if read:
                yield from _of_batch(network, read, pictures, most, at)


@torch.inference_mode()
def _of_batch(network: Network, paths: list[Path], pictures: Tensor, most: int, at: float) -> list[Prediction]:
    images = network.preprocessing.normalise(pictures.to(network.device))
    with torch.autocast(network.device.type, network.dtype, enabled=network.dtype != torch.float32):
        logits = network.model(images)
    nll, _, margin = log_probabilities(logits.double() / at)
    order = (-nll).sort(dim=1, descending=True, stable=True)  # of equal ones the first, as argmax takes it
    values, indices = order.values[:, :most].exp(), order.indices[:, :most]
    return [
        Prediction(path, tuple(network.class_names[k] for k in classes), tuple(confidence), float(its_margin))
        for path, classes, confidence, its_margin in zip(paths, indices.tolist(), values.tolist(), margin.tolist(), strict=True)
    ]


def _read(network: Network, paths: Sequence[Path]) -> Read:
    pictures, read, messages = [], [], []
    for path in paths:
        try:
            pictures.append(network.preprocessing.read(path))
            read.append(path)
        except DataError as error:
            messages.append(str(error))
    return read, torch.stack(pictures) if pictures else torch.empty(0), messages
