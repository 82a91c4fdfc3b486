"""What a network gives for single images of a split, as tables: every image, the most confident errors, the confusions."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vgg_nll.evaluation.metrics import PerImageResults
from vgg_nll.files import write_csv

HEAD = (
    *("index", "path", "label", "prediction", "correct"),
    *("confidence", "label_probability", "margin", "label_margin"),
)
SUSPICIOUS_HEAD = ("index", "path", "label", "prediction", "label_probability", "label_margin")
MAX_ERRORS = 100  # in the table of errors


def write_predictions(path: Path, images: PerImageResults, class_names: Sequence[str], files: Sequence[str]) -> None:
    """Writes a row per image, in their order: its file ("" if it is none), names of the classes, 1 if right, the probability
    of the prediction and of the label, and log(p / (1 - p)) of both, which still differ if p rounds to 1."""
    write_csv(path, HEAD, _rows(range(len(files)), images, class_names, files))


def write_errors(path: Path, images: PerImageResults, class_names: Sequence[str], files: Sequence[str]) -> None:
    """Writes the rows of the wrong images, the most confident first."""
    write_csv(path, HEAD, _rows(most_confident_errors(images)[:MAX_ERRORS], images, class_names, files))


def most_confident_errors(images: PerImageResults) -> list[int]:
    """Returns the indices of the wrong images, the largest margin first; of equal ones, the first image first."""
    wrong = (images.prediction != images.target).nonzero().squeeze(1)
    order: list[int] = wrong[images.margin[wrong].argsort(descending=True, stable=True)].tolist()
    return order


def suspicious_labels(images: PerImageResults) -> list[int]:
    """Returns the indices of all images, those whose label is the most likely to be wrong first.

    They are in the order of the label's margin `log(p / (1 - p))`. That is the order of p, the "self-confidence" of confident
    learning (arXiv:1911.00068), but it has no ties where p rounds to 0 or to 1.
    """
    order: list[int] = (-images.true_margin).argsort(descending=True, stable=True).tolist()
    return order


def write_suspicious_labels(path: Path, images: PerImageResults, class_names: Sequence[str], files: Sequence[str]) -> None:
    """Writes a row per image whose label has a probability of at most 1/2, in the order of `suspicious_labels`: every wrong
    image is among them. It says nothing of images that the network was trained on: it has learnt their labels."""
    probability = torch.sigmoid(images.true_margin).tolist()
    margin, target, prediction = (part.tolist() for part in (images.true_margin, images.target, images.prediction))
    rows = (
        (k, files[k], class_names[int(target[k])], class_names[int(prediction[k])], probability[k], margin[k])
        for k in suspicious_labels(images)
        if not margin[k] > 0
    )
    write_csv(path, SUSPICIOUS_HEAD, rows)


def write_confusions(path: Path, confusion: Tensor, class_names: Sequence[str]) -> None:
    """Writes a row per label and prediction that met in an image: a full table of 1,000 classes has a million cells.

    Args:
        confusion: [C, C], images by label (row) and prediction (column).
    """
    cells = confusion.cpu().nonzero().tolist()
    write_csv(
        path, ("label", "prediction", "images"), ((class_names[k], class_names[j], int(confusion[k, j])) for k, j in cells)
    )


def _rows(
    indices: Sequence[int], images: PerImageResults, class_names: Sequence[str], files: Sequence[str]
) -> list[tuple[object, ...]]:
    probability = torch.sigmoid(images.true_margin).tolist()
    columns = [column.tolist() for column in images]
    rows: list[tuple[object, ...]] = []
    for k in indices:
        confidence, margin, correct, true_margin, prediction, target = (column[k] for column in columns)
        classes = class_names[int(target)], class_names[int(prediction)], int(correct)
        rows.append((k, files[k], *classes, confidence, probability[k], margin, true_margin))
    return rows
