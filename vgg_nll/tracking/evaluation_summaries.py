"""What an evaluation looks like: pictures and curves, for TensorBoard and for files."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from vgg_nll import plots
from vgg_nll.evaluation import metrics
from vgg_nll.evaluation.metrics import Sums
from vgg_nll.evaluation.mistakes import Misclassified
from vgg_nll.tracking import tags
from vgg_nll.tracking.summaries import Histogram, Picture, PrecisionRecall, Summary

MAX_CURVES = 20  # TensorBoard draws one chart per class: of more classes, the first ones


def histograms(sums: Sums) -> list[Summary]:
    """Of confidence: of every image, of those that were right, and of those that were wrong."""
    correct = sums.bin_correct
    return [
        Histogram(tags.CONFIDENCE_HISTOGRAM, sums.bin_images.tolist()),
        Histogram(tags.CORRECT_HISTOGRAM, correct.tolist()),
        Histogram(tags.INCORRECT_HISTOGRAM, (sums.bin_images - correct).tolist()),
    ]


def draw(
    sums: Sums, wrong: Misclassified, class_names: Sequence[str], pixels: Callable[[Tensor], Tensor], what: str
) -> dict[str, Callable[[], Figure]]:
    """Tag -> what draws its figure.

    Args:
        pixels: normalised images -> uint8, both [K, 3, H, W].
        what: the beginning of the titles.
    """
    values = metrics.compute(sums)
    bins = (sums.bin_images.tolist(), sums.bin_correct.tolist(), sums.bin_confidence.tolist())
    pictures = pixels(wrong.images).permute(0, 2, 3, 1).cpu().numpy()
    many = f"{int(sums.images):,} images"
    accuracy = f"{what}: accuracy {values['accuracy']:.2%} of {many}"
    return {
        tags.RELIABILITY_DIAGRAM: partial(plots.reliability_diagram, *bins, f"{what}: ECE {values['ece']:.4f}, {many}"),
        tags.CONFUSION_MATRIX: partial(plots.confusion_matrix, sums.confusion.tolist(), class_names, accuracy),
        tags.ACCURACY_COVERAGE: partial(
            plots.accuracy_coverage, metrics.accuracy_coverage(sums).tolist(), f"{what}: AURC {values['aurc']:.5f}, {many}"
        ),
        tags.CONFIDENT_MISTAKES: partial(
            plots.confident_mistakes,
            pictures,
            wrong.probabilities.cpu().numpy(),
            wrong.target.tolist(),
            class_names,
            f"{what}: {len(pictures)} of {int(sums.images - sums.correct):,} mistakes, the surest first",
        ),
    }


def pictures(
    sums: Sums, wrong: Misclassified, class_names: Sequence[str], pixels: Callable[[Tensor], Tensor], what: str
) -> list[Summary]:
    """`draw` and the precision-recall curves, as TensorBoard takes them."""
    summaries: list[Summary] = [Picture(tag, make) for tag, make in draw(sums, wrong, class_names, pixels, what).items()]
    named = zip(class_names, _curves(sums), strict=False)
    return summaries + [PrecisionRecall(f"{tags.PR_CURVES}/{name}", curve) for name, curve in named]


def draw_curves(sums: Sums, class_names: Sequence[str], what: str) -> Figure:
    """The precision-recall curves as a figure, for files: TensorBoard has a page of its own for them."""
    curves = _curves(sums)
    title = f"{what}, {int(sums.images):,} images"
    return plots.precision_recall(curves[:, 4], curves[:, 5], class_names[:MAX_CURVES], title)


def _curves(sums: Sums) -> np.ndarray:
    return metrics.precision_recall(sums)[:MAX_CURVES].cpu().numpy()
