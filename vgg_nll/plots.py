"""Draws arrays as matplotlib figures, as wide as TensorBoard shows them; wider ones for files.

TensorBoard shows a picture 350 pixels wide, and leaves out rows and columns of a larger one: a figure has exactly that width,
and its text is 9 pixels high or more.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from vgg_nll.fonts import caption
from vgg_nll.intervals import wilson_interval
from vgg_nll.palette import BLACK, BLUE, COLOURS, GREEN, SKY, VERMILION

WIDTH, DPI = 3.5, 100  # 350 pixels
TEXT, TITLE = 7.0, 8.0  # points: 9.7 and 11 pixels
NUMBERED_CLASSES = 20  # a confusion matrix of more classes shows colours only
MIN_CELL = 0.2  # a smaller cell of it has no number
CELL, ROW = 1.75, 1.1  # of an error: its width, its height
BARS = 4  # softmax outputs shown per error
STYLES = ("-", "--", ":")  # of lines, if there are more of them than colours
SOLID = 30  # images of a bin from which on its bar has its full colour


def reliability_diagram(
    images: Sequence[float], correct: Sequence[float], confidence: Sequence[float], title: str = "", *, width: float = WIDTH
) -> Figure:
    """Draws accuracy against confidence in equal bins over [0, 1], and below it how many images each bin holds.

    Args:
        images, correct, confidence: per bin, the number of images, the number classified correctly, the sum of confidences.

    A bar below the diagonal is overconfidence, one above it underconfidence: the gap that the expected calibration error sums
    up, weighted by images. The bars of few images are pale; lines are 95% intervals of the accuracy (Wilson).
    """
    figure = _figure(width, 1.25)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1), gridspec_kw=_margins(figure, top=0.62, hspace=0.08))
    reliability_panels(above, below, images, correct, confidence)
    _title(figure, title)
    above.set_ylabel("accuracy", fontsize=TEXT)
    handles = [Patch(facecolor=BLUE, label="accuracy"), *_gap_handles()]
    figure.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, 1 - 0.26 / figure.get_figheight()), fontsize=TEXT, ncols=3
    ).set_frame_on(False)
    below.set_xlabel("confidence", fontsize=TEXT)
    below.set_ylabel("images", fontsize=TEXT)
    for k, count in enumerate(images):
        if count > 0:
            below.annotate(
                f"{count:.0f}", ((k + 0.5) / len(images), count), ha="center", va="bottom", fontsize=TEXT, rotation=90
            )
    below.margins(y=0.9)
    return figure


def reliability_panels(
    above: Axes,
    below: Axes,
    images: Sequence[float] | np.ndarray,
    correct: Sequence[float] | np.ndarray,
    confidence: Sequence[float] | np.ndarray,
    ranges: tuple[np.ndarray, np.ndarray] | None = None,
) -> None:
    """Draws the bars of `reliability_diagram`: accuracy and gap in one panel, counts in another.

    `ranges` of the accuracy, one per bin, take the place of the interval of as many independent images.
    """
    count = np.asarray(images, dtype=float)
    width = 1 / len(count)
    filled = np.flatnonzero(count)
    middle, n = (filled + 0.5) * width, count[filled]
    accuracy = np.asarray(correct, dtype=float)[filled] / n
    gap = np.asarray(confidence, dtype=float)[filled] / n - accuracy
    bars = above.bar(middle, accuracy, width, color=BLUE, edgecolor="white")
    gaps = above.bar(middle, gap, width, bottom=accuracy, edgecolor="white")
    for bar, missing, difference, weight in zip(bars, gaps, gap, np.minimum(1.0, 0.2 + 0.8 * n / SOLID), strict=True):
        bar.set_alpha(weight)
        missing.set(facecolor=VERMILION if difference > 0 else SKY, hatch="//" if difference > 0 else "\\\\", alpha=weight)
    low, high = wilson_interval(accuracy, n) if ranges is None else (bound[filled] for bound in ranges)
    above.vlines(middle, low, high, color=BLACK, linewidth=0.8)
    above.plot([0, 1], [0, 1], color=BLACK, linestyle="--", linewidth=1)
    above.set(xlim=(0, 1), ylim=(0, 1))
    below.bar((np.arange(len(count)) + 0.5) * width, count, width, color=BLUE, edgecolor="white")
    for axes in (above, below):
        axes.tick_params(labelsize=TEXT)


def confusion_matrix(
    counts: Sequence[Sequence[float]], class_names: Sequence[str], title: str = "", *, width: float = WIDTH
) -> Figure:
    """Draws images by label (row) and prediction (column), coloured by their fraction of the row.

    Args:
        counts: [C, C].
    """
    table = np.asarray(counts, dtype=float)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    classes = len(table)
    figure = _figure(width, 1.0)
    axes = figure.subplots(gridspec_kw=_margins(figure, left=0.95, bottom=0.95))
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("prediction", fontsize=TEXT)
    axes.set_ylabel("label", fontsize=TEXT)
    _title(figure, title)
    axes.tick_params(labelsize=TEXT)
    if classes <= NUMBERED_CLASSES:
        names = [caption(name, 9, k) for k, name in enumerate(class_names)]
        axes.set_xticks(range(classes), names, rotation=90)
        axes.set_yticks(range(classes), names)
    if classes <= NUMBERED_CLASSES and (width - 1.2) / classes >= MIN_CELL:
        for row, column in zip(*table.nonzero(), strict=True):
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, f"{table[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=TEXT)
    return figure


def accuracy_coverage(accuracy: Sequence[float], title: str = "", *, width: float = WIDTH) -> Figure:
    """Draws the accuracy of the k most confident images against their fraction k / N, between two bounds.

    The best order has all right images first, and random order the same accuracy everywhere.

    Args:
        accuracy: [N], of the first, the first two, ... images, the most confident first.
    """
    figure = _figure(width, 0.8)
    axes = figure.subplots(gridspec_kw=_margins(figure, left=0.62))
    coverage = np.arange(1, len(accuracy) + 1) / len(accuracy)
    best = np.minimum(1.0, accuracy[-1] / coverage)
    axes.plot(coverage, best, color=GREEN, linestyle="--", linewidth=1.2, label="best order")
    axes.plot(coverage, accuracy, color=BLUE, label="by confidence")
    axes.axhline(accuracy[-1], color=VERMILION, linestyle=":", linewidth=1.2, label="random order")
    lowest = min(accuracy)
    axes.set(xlim=(0, 1), ylim=(max(0.0, lowest - 0.35 * (1 - lowest) - 0.005), 1.0))
    axes.set_xlabel("coverage: fraction of images, the most confident first", fontsize=TEXT)
    axes.set_ylabel("accuracy on them", fontsize=TEXT)
    _title(figure, title)
    axes.tick_params(labelsize=TEXT)
    axes.legend(fontsize=TEXT, loc="lower left", ncols=3, columnspacing=1, handlelength=1.5).set_frame_on(False)
    axes.grid(alpha=0.3)
    return figure


def most_confident_errors(
    pictures: np.ndarray,
    probabilities: np.ndarray,
    target: Sequence[int],
    confidences: Sequence[str],
    class_names: Sequence[str],
    names: Sequence[str] = (),
    title: str = "",
    *,
    width: float = WIDTH,
) -> Figure:
    """Draws wrongly classified images, each with its label, its prediction, and bars of its largest softmax outputs.

    The bar of the label is blue, the others are vermilion.

    Args:
        pictures: uint8 [K, H, W, 3]; probabilities: [K, C]; target: [K]; confidences: of the predictions, as text; names: of
            the files, or none.
    """
    columns = max(1, int(width / CELL))
    rows = max(1, -(-len(pictures) // columns))
    figure = Figure(figsize=(width, ROW * rows + 0.3), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))  # one for all errors: each further one costs as much time as drawing a picture
    axes.axis("off")
    axes.text(width / 2, 0.15, title, fontsize=TITLE, ha="center", va="center")
    if len(pictures) == 0:
        axes.text(width / 2, 0.3 + ROW / 2, "no errors", ha="center", va="center", fontsize=TITLE)
    bars: list[Rectangle] = []
    for k, (picture, outputs, label) in enumerate(zip(pictures, probabilities, target, strict=True)):
        x, y = CELL * (k % columns), 0.3 + ROW * (k // columns)
        axes.imshow(picture, extent=(x + 0.04, x + 0.68, y + 0.98, y + 0.34), interpolation="nearest")
        prediction = int(outputs.argmax())
        axes.text(x + 0.04, y + 0.14, f"label {caption(class_names[label], 18, label)}", fontsize=TEXT, va="bottom")
        text = f"predicted {caption(class_names[prediction], 8, prediction)}, {confidences[k]}"
        axes.text(x + 0.04, y + 0.3, text, fontsize=TEXT, va="bottom")
        if names:
            axes.text(x + 0.04, y + 1.09, caption(names[k], 24), fontsize=TEXT - 1, va="bottom", color="0.4")
        bars += _softmax_bars(axes, x + 1.15, y + 0.38, outputs, label, class_names)
    axes.add_collection(PatchCollection(bars, match_original=True))
    axes.set(xlim=(0, width), ylim=(ROW * rows + 0.3, 0), aspect="equal")  # imshow changes them
    return figure


def precision_recall(
    precision: np.ndarray, recall: np.ndarray, class_names: Sequence[str], title: str = "", *, width: float = WIDTH
) -> Figure:
    """Draws precision against recall, one curve per class.

    Args:
        precision, recall: [C, T], over falling recall; NaN for a class without images.
    """
    figure = _figure(width, 0.85)
    axes = figure.subplots(gridspec_kw=_margins(figure))
    for k, name in enumerate(class_names):
        (line,) = axes.plot(recall[k], precision[k], marker=".", markersize=3, linewidth=1, label=caption(name, number=k))
        line.set(color=COLOURS[k % len(COLOURS)], linestyle=STYLES[k // len(COLOURS) % len(STYLES)])
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02))
    axes.set_xlabel("recall", fontsize=TEXT)
    axes.set_ylabel("precision", fontsize=TEXT)
    _title(figure, title)
    axes.tick_params(labelsize=TEXT)
    axes.grid(alpha=0.3)
    if len(class_names) <= NUMBERED_CLASSES:
        axes.legend(fontsize=TEXT, loc="lower left", ncols=2)
    return figure


def _figure(width: float, shape: float) -> Figure:
    """Returns a figure of this width, in inches, and `shape` times that height. Not pyplot: no global state."""
    return Figure(figsize=(width, shape * width), dpi=DPI)


def _title(figure: Figure, title: str) -> None:
    """Writes a title over the whole width: the axes are narrower."""
    figure.suptitle(title, fontsize=TITLE, y=1 - 0.08 / figure.get_figheight(), va="top")


def _gap_handles() -> list[Patch]:
    return [
        Patch(facecolor=VERMILION, hatch="//", edgecolor="white", label="overconfident"),
        Patch(facecolor=SKY, hatch="\\\\", edgecolor="white", label="underconfident"),
    ]


def _margins(figure: Figure, left: float = 0.5, bottom: float = 0.42, top: float = 0.3, **others: float) -> dict[str, float]:
    """Returns fixed margins, given in inches, for labels and a title: a layout engine would double the time of drawing."""
    width, height = figure.get_size_inches()
    return {"left": left / width, "right": 1 - 0.12 / width, "bottom": bottom / height, "top": 1 - top / height, **others}


def _softmax_bars(
    axes: Axes, x: float, y: float, outputs: np.ndarray, label: int, class_names: Sequence[str]
) -> list[Rectangle]:
    """Returns bars of the largest outputs and of the label's, from (x, y) down, 0.5 wide for p = 1; writes their names."""
    shown = list(np.argsort(-outputs, kind="stable")[:BARS])
    if label not in shown:
        shown[-1] = label
    bars = []
    for row, k in enumerate(shown):
        top = y + 0.16 * row
        length = max(0.5 * outputs[k], 0.01)
        bars.append(Rectangle((x, top), length, 0.12, facecolor=BLUE if k == label else VERMILION, linewidth=0))
        axes.text(x - 0.03, top + 0.06, caption(class_names[k], 6, k), fontsize=TEXT, ha="right", va="center")
    return bars
