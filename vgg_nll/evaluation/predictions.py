"""predictions.csv: what the network said of every image of a split."""

from collections.abc import Sequence
from pathlib import Path

from vgg_nll.evaluation.metrics import PerImageResults
from vgg_nll.files import write_csv

HEAD = ("index", "label", "prediction", "correct", "margin", "true_margin")


def write_predictions(path: Path, images: PerImageResults, class_names: Sequence[str]) -> None:
    """Writes a row per image, in their order: names of the classes, 1 if right, log(p / (1 - p)) of prediction and label."""
    columns = zip(*(column.tolist() for column in images[1:]), strict=True)
    rows = (
        (index, class_names[int(target)], class_names[int(prediction)], int(correct), margin, true_margin)
        for index, (margin, correct, true_margin, prediction, target) in enumerate(columns)
    )
    write_csv(path, HEAD, rows)
