"""Prediction for picture files: the most probable classes of each, batch by batch."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vgg_nll.data.pictures.reader import read_prepared
from vgg_nll.errors import DataError
from vgg_nll.inference.trained_model import TrainedModel

UNSURE = "unsure"
ReadBatch = tuple[list[Path], Tensor, list[str]]  # readable files, their bytes [B, 3, H, W], and what was wrong with others


@dataclass(frozen=True)
class Prediction:
    """What a network says of a picture.

    `classes` are the most probable ones, `confidence` their softmax outputs, in falling order; `margin` is
    `log(p / (1 - p))` of the first, which still grows when p rounds to 1. `prediction` is the first class, or `UNSURE` if its
    confidence is below the threshold.
    """

    path: Path
    classes: tuple[str, ...]
    confidence: tuple[float, ...]
    margin: float
    prediction: str


def predict_files(
    trained: TrainedModel, paths: Sequence[Path], *, top_k: int, temperature: float, batch_size: int, threshold: float = 0.0
) -> Iterator[Prediction | str]:
    """Yields, for every file, what the network says; for a file that cannot be read, the message instead.

    Args:
        top_k: classes a picture; temperature: divides the logits; threshold: of the confidence.

    The next batch is read while the network works on this one; each file is read once.
    """
    parts = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
    with ThreadPoolExecutor(1) as reader:
        ahead: list[Future[ReadBatch]] = [reader.submit(_read_batch, trained, part) for part in parts[:1]]
        for following in [*parts[1:], None]:
            readable, pictures, messages = ahead.pop().result()
            if following is not None:
                ahead.append(reader.submit(_read_batch, trained, following))
            yield from messages
            if readable:
                yield from _predict_batch(trained, readable, pictures, top_k, temperature, threshold)


def _predict_batch(
    trained: TrainedModel, paths: list[Path], pictures: Tensor, top_k: int, temperature: float, threshold: float
) -> list[Prediction]:
    outputs = trained.predict_batch(pictures, temperature)
    order = (-outputs.nll).sort(dim=1, descending=True, stable=True)  # of equal ones the first, as argmax takes it
    values, indices = order.values[:, :top_k].exp(), order.indices[:, :top_k]
    rows = zip(paths, indices.tolist(), values.tolist(), outputs.margin.tolist(), strict=True)
    found = []
    for path, indices_of_row, confidence, margin in rows:
        classes = tuple(trained.class_names[k] for k in indices_of_row)
        prediction = classes[0] if confidence[0] >= threshold else UNSURE
        found.append(Prediction(path, classes, tuple(confidence), margin, prediction))
    return found


def _read_batch(trained: TrainedModel, paths: Sequence[Path]) -> ReadBatch:
    pictures, readable, messages = [], [], []
    for path in paths:
        try:
            pictures.append(read_prepared(path, trained.preprocessing))
            readable.append(path)
        except DataError as error:
            messages.append(str(error))
    return readable, torch.stack(pictures) if pictures else torch.empty(0), messages
