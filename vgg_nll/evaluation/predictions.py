"""predictions.csv: what the network said of every image of a split."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from vgg_nll.escapes import csv_cell, printable
from vgg_nll.evaluation.metrics import Images
from vgg_nll.files import atomic_write

HEAD = ("index", "label", "prediction", "correct", "margin", "true_margin")


def write_predictions(path: Path, images: Images, class_names: Sequence[str]) -> None:
    """Writes a row per image, in their order: names of the classes, 1 if right, log(p / (1 - p)) of prediction and label."""
    names = [csv_cell(printable(name)) for name in class_names]

    def write(file: IO[bytes]) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        table = csv.writer(text, lineterminator="\n")
        table.writerow(HEAD)
        columns = zip(*(column.tolist() for column in images[1:]), strict=True)
        for index, (margin, correct, true_margin, prediction, target) in enumerate(columns):
            table.writerow([index, names[int(target)], names[int(prediction)], int(correct), margin, true_margin])
        text.flush()
        text.detach()

    atomic_write(path, write)
