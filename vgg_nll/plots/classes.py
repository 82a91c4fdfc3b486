"""Figures with a part for every class."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from vgg_nll.palette import COLOURS
from vgg_nll.plots.fonts import caption
from vgg_nll.plots.layout import TEXT, WIDTH, margins, new_figure, write_title

NUMBERED_CLASSES = 20  # a confusion matrix of more classes shows colours only
MIN_CELL = 0.2  # a smaller cell of it has no number
STYLES = ("-", "--", ":")  # of lines, if there are more of them than colours


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
    figure = new_figure(width, 1.0)
    axes = figure.subplots(gridspec_kw=margins(figure, left=0.95, bottom=0.95))
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("prediction", fontsize=TEXT)
    axes.set_ylabel("label", fontsize=TEXT)
    write_title(figure, title)
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


def precision_recall(
    precision: np.ndarray, recall: np.ndarray, class_names: Sequence[str], title: str = "", *, width: float = WIDTH
) -> Figure:
    """Draws precision against recall, one curve per class.

    Args:
        precision, recall: [C, T], over falling recall; NaN for a class without images.
    """
    figure = new_figure(width, 0.85)
    axes = figure.subplots(gridspec_kw=margins(figure))
    for k, name in enumerate(class_names):
        (line,) = axes.plot(recall[k], precision[k], marker=".", markersize=3, linewidth=1, label=caption(name, number=k))
        line.set(color=COLOURS[k % len(COLOURS)], linestyle=STYLES[k // len(COLOURS) % len(STYLES)])
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02))
    axes.set_xlabel("recall", fontsize=TEXT)
    axes.set_ylabel("precision", fontsize=TEXT)
    write_title(figure, title)
    axes.tick_params(labelsize=TEXT)
    axes.grid(alpha=0.3)
    if len(class_names) <= NUMBERED_CLASSES:
        axes.legend(fontsize=TEXT, loc="lower left", ncols=2)
    return figure
