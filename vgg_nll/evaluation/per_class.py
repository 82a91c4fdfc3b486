"""What each class contributes to the figures of a split."""

from collections.abc import Sequence

from vgg_nll.evaluation.metrics import Sums


def per_class(class_names: Sequence[str], sums: Sums) -> dict[str, dict[str, float | None]]:
    """Returns images, accuracy and mean confidence of each class; None for those of a class without images."""
    columns = zip(class_names, sums.class_images, sums.class_correct, sums.class_confidence, strict=True)
    return {
        name: {
            "images": int(count),
            "accuracy": float(correct / count) if count else None,
            "confidence": float(confidence / count) if count else None,
        }
        for name, count, correct, confidence in columns
    }


def balanced_accuracy(sums: Sums) -> float:
    """Returns the mean of the accuracies of the classes that have images: each class counts the same, however rare."""
    has_images = sums.class_images > 0
    return float((sums.class_correct[has_images] / sums.class_images[has_images]).mean())
