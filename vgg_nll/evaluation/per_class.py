"""What each class contributes to the figures of a split."""

from collections.abc import Sequence

from torch import Tensor

from vgg_nll.evaluation.metrics import Sums


def per_class(class_names: Sequence[str], sums: Sums) -> dict[str, dict[str, float | None]]:
    """Returns images, accuracy (which is the recall), precision, F1 and mean confidence of each class.

    F1 is `2 tp / (2 tp + fp + fn)`. None stands for 0 / 0: of a class without images, or that is never predicted.
    """
    predicted = sums.confusion.sum(0)
    columns = zip(class_names, sums.class_images, sums.class_correct, predicted, sums.class_confidence, strict=True)
    return {
        name: {
            "images": int(count),
            "accuracy": _ratio(correct, count),
            "precision": _ratio(correct, found),
            "f1": _ratio(2 * correct, found + count),
            "confidence": _ratio(confidence, count),
        }
        for name, count, correct, found, confidence in columns
    }


def _ratio(part: Tensor, whole: Tensor) -> float | None:
    return float(part / whole) if whole else None
