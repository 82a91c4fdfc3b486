"""Draws arrays as matplotlib figures."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

BLUE, RED, GREEN = "#1f77b4", "#d62728", "#2ca02c"
NUMBERED_CLASSES = 20  # a confusion matrix of more classes shows colours only
BARS = 5  # softmax outputs shown per error
MAX_COLUMNS = 4  # of errors, each 1 wide
ROW = 0.8  # height of an error


def reliability_diagram(
    images: Sequence[float], correct: Sequence[float], confidence: Sequence[float], title: str = ""
) -> Figure:
    """Draws accuracy against confidence in equal bins over [0, 1], and below it how many images each bin holds.

    Args:
        images, correct, confidence: per bin, the number of images, the number classified correctly, the sum of confidences.

    A bar below the diagonal is overconfidence; the red part is the gap that the expected calibration error sums up, weighted by
    images.
    """
    figure = Figure(figsize=(4.5, 5.5))  # not pyplot: no global state, nothing to close
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1), gridspec_kw=_margins(figure, hspace=0.08))
    reliability_panels(above, below, images, correct, confidence)
    above.set_title(title, fontsize=10)
    above.set_ylabel("accuracy")
    above.legend(loc="upper left", fontsize=8)
    below.set(xlabel="confidence", ylabel="images")
    for k, count in enumerate(images):
        if count > 0:
            below.annotate(f"{count:.0f}", ((k + 0.5) / len(images), count), ha="center", va="bottom", fontsize=6)
    below.margins(y=0.2)
    return figure


def reliability_panels(
    above: Axes, below: Axes, images: Sequence[float], correct: Sequence[float], confidence: Sequence[float]
) -> None:
    """Draws the bars of `reliability_diagram`: accuracy and gap in one panel, counts in another."""
    count = np.asarray(images, dtype=float)
    width = 1 / len(count)
    filled = np.flatnonzero(count)
    middle = (filled + 0.5) * width
    accuracy = np.asarray(correct, dtype=float)[filled] / count[filled]
    gap = np.asarray(confidence, dtype=float)[filled] / count[filled] - accuracy
    above.bar(middle, accuracy, width, color=BLUE, edgecolor="white", label="accuracy")
    above.bar(middle, gap, width, bottom=accuracy, color=RED, alpha=0.4, edgecolor=RED, label="confidence - accuracy")
    above.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1)
    above.set(xlim=(0, 1), ylim=(0, 1))
    below.bar((np.arange(len(count)) + 0.5) * width, count, width, color=BLUE, edgecolor="white")


def confusion_matrix(counts: Sequence[Sequence[float]], class_names: Sequence[str], title: str = "") -> Figure:
    """Draws images by label (row) and prediction (column), coloured by their fraction of the row.

    Args:
        counts: [C, C].
    """
    table = np.asarray(counts, dtype=float)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    classes = len(table)
    side = min(12.0, max(4.0, 1.5 + 0.4 * classes)) if classes <= NUMBERED_CLASSES else 7.0
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="prediction", ylabel="label")
    axes.set_title(title, fontsize=10)
    if classes <= NUMBERED_CLASSES:
        axes.set_xticks(range(classes), [caption(name) for name in class_names], rotation=90)
        axes.set_yticks(range(classes), [caption(name) for name in class_names])
        for row, column in zip(*table.nonzero(), strict=True):
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, f"{table[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=8)
    return figure


def accuracy_coverage(accuracy: Sequence[float], title: str = "") -> Figure:
    """Draws the accuracy of the k most confident images against their fraction k / N.

    Args:
        accuracy: [N], of the first, the first two, ... images, the most confident first.
    """
    figure = Figure(figsize=(4.5, 3.5))
    axes = figure.subplots(gridspec_kw=_margins(figure))
    coverage = np.arange(1, len(accuracy) + 1) / len(accuracy)
    axes.plot(coverage, accuracy, color=BLUE)
    axes.fill_between(coverage, accuracy, 1, color=RED, alpha=0.3, linewidth=0)
    lowest = min(accuracy)
    axes.set(xlim=(0, 1), ylim=(max(0.0, lowest - 0.1 * (1 - lowest) - 0.005), 1.0))
    axes.set(xlabel="coverage: fraction of images, the most confident first", ylabel="accuracy on them")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    return figure


def most_confident_errors(
    pictures: np.ndarray, probabilities: np.ndarray, target: Sequence[int], class_names: Sequence[str], title: str = ""
) -> Figure:
    """Draws wrongly classified images, each with its label, its prediction, and bars of its largest softmax outputs.

    Args:
        pictures: uint8 [K, H, W, 3]; probabilities: [K, C]; target: [K].
    """
    columns = min(MAX_COLUMNS, max(2, len(pictures)))
    rows = max(1, -(-len(pictures) // columns))
    figure = Figure(figsize=(2 * columns, 2 * ROW * rows + 0.4))
    top = 1 - 0.4 / figure.get_figheight()
    axes = figure.add_axes((0, 0, 1, top))  # one for all errors: each further one costs as much time as drawing a picture
    axes.axis("off")
    axes.set_title(title, fontsize=10)
    if len(pictures) == 0:
        axes.text(columns / 2, ROW / 2, "no errors", ha="center", va="center")
    bars: list[Rectangle] = []
    for k, (picture, outputs, label) in enumerate(zip(pictures, probabilities, target, strict=True)):
        x, y = k % columns, ROW * (k // columns)
        axes.imshow(picture, extent=(x + 0.02, x + 0.52, y + 0.75, y + 0.25), interpolation="nearest")
        guess = int(outputs.argmax())
        text = f"{caption(class_names[label])}, predicted {caption(class_names[guess])} ({outputs[guess]:.1%})"
        axes.text(x + 0.02, y + 0.2, text, fontsize=7, va="bottom")
        bars += _softmax_bars(axes, x + 0.62, y + 0.25, outputs, label, class_names)
    axes.add_collection(PatchCollection(bars, match_original=True))
    axes.set(xlim=(0, columns), ylim=(ROW * rows, 0), aspect="equal")  # imshow changes them
    return figure


def precision_recall(precision: np.ndarray, recall: np.ndarray, class_names: Sequence[str], title: str = "") -> Figure:
    """Draws precision against recall, one curve per class.

    Args:
        precision, recall: [C, T], over falling recall; NaN for a class without images.
    """
    figure = Figure(figsize=(5.5, 4.5))
    axes = figure.subplots(gridspec_kw=_margins(figure))
    for k, name in enumerate(class_names):
        axes.step(recall[k], precision[k], where="post", linewidth=1, label=caption(name))
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    if len(class_names) <= NUMBERED_CLASSES:
        axes.legend(fontsize=7, loc="lower left", ncols=2)
    return figure


def _margins(figure: Figure, **others: float) -> dict[str, float]:
    """Returns fixed margins for labels and a title: a layout engine would double the time of drawing."""
    width, height = figure.get_size_inches()
    return {"left": 0.75 / width, "right": 1 - 0.2 / width, "bottom": 0.5 / height, "top": 1 - 0.35 / height, **others}


def _softmax_bars(
    axes: Axes, x: float, y: float, outputs: np.ndarray, label: int, class_names: Sequence[str]
) -> list[Rectangle]:
    """Returns bars of the largest outputs and of the label's, from (x, y) down, 0.35 wide for p = 1; writes their names."""
    shown = list(np.argsort(-outputs, kind="stable")[:BARS])
    if label not in shown:
        shown[-1] = label
    bars = []
    for row, k in enumerate(shown):
        top = y + 0.1 * row
        bars.append(Rectangle((x, top), max(0.35 * outputs[k], 0.002), 0.08, color=GREEN if k == label else RED))
        axes.text(x - 0.01, top + 0.04, caption(class_names[k], 6), fontsize=6, ha="right", va="center")
    return bars


def caption(name: str, length: int = 14) -> str:
    """Returns the name of a class or a loss for a figure, cut to `length`.

    matplotlib reads $ as mathematics, and leaves names that begin with _ out of a legend.
    """
    name = " ".join(name.split())
    name = name if len(name) <= length else name[: length - 1] + "…"
    return ("\u200a" if name.startswith("_") else "") + name.replace("$", r"\$")
