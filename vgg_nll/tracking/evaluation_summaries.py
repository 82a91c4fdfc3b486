"""An evaluation as summaries for TensorBoard, and its figures, for TensorBoard and for files."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from vgg_nll import plots
from vgg_nll.calibration.scores import smooth_accuracy
from vgg_nll.evaluation import curves, metrics
from vgg_nll.evaluation.features import Features
from vgg_nll.evaluation.loop import Evaluation
from vgg_nll.evaluation.metrics import Sums
from vgg_nll.evaluation.report import confidence_text, verdict
from vgg_nll.evaluation.thresholds import threshold_rows
from vgg_nll.tracking import tags
from vgg_nll.tracking.summaries import FigureSummary, Histogram, PrecisionRecall, Scalars, Summary

SHOWN_ERRORS = 8  # in TensorBoard, which shows a picture 350 pixels wide
CURVE_POINTS = 501  # of a smooth reliability diagram
MAX_CURVES = 20  # TensorBoard draws one chart per class
LOG_ODDS = (
    "the margin log(p / (1 - p)), with p the confidence. 0 stands for a confidence of 50%, 2.2 for 90%, 4.6 for 99%, "
    "6.9 for 99.9%, 13.8 for 1 - 1e-6, 20.7 for 1 - 1e-9, 27.6 for 1 - 1e-12."
)


def scalars_and_histograms(evaluation: Evaluation) -> list[Summary]:
    """Returns every validation curve's next point, and histograms of the margin: of all images, right ones, wrong ones."""
    images = evaluation.sums.by_image()
    is_right = images.correct == 1
    return [
        Scalars({tag: evaluation.values[name] for name, tag in tags.VALIDATION.items()}),
        Histogram(tags.MARGIN_HISTOGRAM, images.margin.numpy(), f"all predictions: {LOG_ODDS}"),
        Histogram(tags.CORRECT_HISTOGRAM, images.margin[is_right].numpy(), f"right predictions: {LOG_ODDS}"),
        Histogram(tags.INCORRECT_HISTOGRAM, images.margin[~is_right].numpy(), f"wrong predictions: {LOG_ODDS}"),
    ]


def figures(
    evaluation: Evaluation,
    class_names: Sequence[str],
    pixels: Callable[[Tensor], Tensor],
    title: str,
    *,
    width: float = plots.WIDTH,
    max_errors: int = SHOWN_ERRORS,
    error_names: Sequence[str] = (),
) -> dict[str, Callable[[], Figure]]:
    """Returns tag -> a function that draws its figure.

    Args:
        pixels: normalised images -> uint8, both [K, 3, H, W].
        title: the beginning of every figure's title.
        width: of each figure, in inches; max_errors: of the most confident ones that are shown; error_names: of
            their files, if they are files.
    """
    sums, values, errors = evaluation.sums, evaluation.values, evaluation.most_confident_errors.first(max_errors)
    pictures = pixels(errors.images).permute(0, 2, 3, 1).cpu().numpy()
    count = f"{int(sums.images):,} images"
    accuracy = f"{title}: accuracy {values['accuracy']:.2%} of {count}"
    answered = {row.threshold: row.coverage for row in threshold_rows(sums.by_image()) if row.threshold > 0}
    drawn: dict[str, Callable[..., Figure]] = {
        tags.RELIABILITY_DIAGRAM: partial(plots.reliability_diagram, _diagram(evaluation, title)),
        tags.CONFUSION_MATRIX: partial(plots.confusion_matrix, sums.confusion.tolist(), class_names, accuracy),
        tags.ACCURACY_COVERAGE: partial(
            plots.accuracy_coverage,
            metrics.accuracy_coverage(sums).tolist(),
            answered,
            f"{title}: AURC {values['aurc']:.5f}, {count}",
        ),
        tags.MOST_CONFIDENT_ERRORS: partial(
            plots.most_confident_errors,
            pictures,
            errors.probabilities.cpu().numpy(),
            errors.target.tolist(),
            [confidence_text(margin) for margin in errors.margin.tolist()],
            class_names,
            error_names,
            f"{title}: the {len(pictures)} most confident of {int(sums.images - sums.correct):,} errors",
        ),
    }
    return {tag: partial(draw, width=width) for tag, draw in drawn.items()}


def _diagram(evaluation: Evaluation, title: str) -> plots.Diagram:
    sums, values, images = evaluation.sums, evaluation.values, int(evaluation.sums.images)
    return plots.Diagram(
        sums.bin_images.tolist(),
        sums.bin_correct.tolist(),
        sums.bin_confidence.tolist(),
        f"{title}: ECE {values['ece']:.2%}, {images:,} images",
        verdict(values, images, evaluation.intervals)[1],
    )


def reliability_figure(evaluations: Mapping[str, Evaluation], width: float) -> Figure:
    """Draws the reliability diagrams of evaluations that have `smooth_ece`, by title, side by side; each so wide, in inches."""
    diagrams, at = [], torch.linspace(0, 1, CURVE_POINTS, dtype=torch.float64)
    for title, evaluation in evaluations.items():
        images = evaluation.sums.by_image()
        accuracy = smooth_accuracy(images.confidence, images.correct, evaluation.values["smooth_ece"], at)
        diagrams.append((_diagram(evaluation, title), (at.tolist(), accuracy.tolist())))
    return plots.reliability_diagrams(diagrams, width=width)


def pictures_and_curves(
    evaluation: Evaluation, class_names: Sequence[str], pixels: Callable[[Tensor], Tensor], title: str
) -> list[Summary]:
    """Returns `figures` and the precision-recall curves, as TensorBoard takes them; the area under each as a scalar."""
    drawn: list[Summary] = [FigureSummary(tag, draw) for tag, draw in figures(evaluation, class_names, pixels, title).items()]
    named = zip(class_names, _precision_recall(evaluation.sums), strict=False)
    drawn += [PrecisionRecall(f"{tags.PR_CURVES}/{name}", curve) for name, curve in named]
    areas = curves.average_precision(evaluation.sums)[:MAX_CURVES].tolist()
    return [*drawn, Scalars({f"{tags.AVERAGE_PRECISION}/{name}": area for name, area in zip(class_names, areas, strict=False)})]


def words_of_points(found: Features, class_names: Sequence[str]) -> tuple[Sequence[str], list[list[str]]]:
    """Returns the columns of the projector, and the words of each point."""
    outputs = metrics.softmax_outputs(found.logits)
    predictions, confidences = outputs.logits.argmax(dim=1).tolist(), map(confidence_text, outputs.margin.tolist())
    rows = [
        [class_names[label], class_names[prediction], confidence, "right" if label == prediction else "wrong"]
        for label, prediction, confidence in zip(found.target.tolist(), predictions, confidences, strict=True)
    ]
    return ("label", "prediction", "confidence", "right or wrong"), rows


def precision_recall_figure(sums: Sums, class_names: Sequence[str], title: str, width: float) -> Figure:
    """Draws the precision-recall curves, for files: TensorBoard has a page of its own for them."""
    by_class = _precision_recall(sums)
    mean = float(curves.average_precision(sums).nanmean())
    title = f"{title}: mean average precision {mean:.4f}, {int(sums.images):,} images"
    return plots.precision_recall(by_class[:, 4], by_class[:, 5], class_names[:MAX_CURVES], title, width=width)


def _precision_recall(sums: Sums) -> np.ndarray:
    """[C, 6, T], of the first classes."""
    return curves.precision_recall(sums)[:MAX_CURVES].cpu().numpy()
