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
