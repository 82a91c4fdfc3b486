"""Accuracy of the most confident images."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from vgg_nll.palette import BLUE, GREEN, VERMILION
from vgg_nll.plots.layout import TEXT, WIDTH, margins, new_figure, write_title


def accuracy_coverage(accuracy: Sequence[float], title: str = "", *, width: float = WIDTH) -> Figure:
    """Draws the accuracy of the k most confident images against their fraction k / N, between two bounds.

    The best order has all right images first, and random order the same accuracy everywhere.

    Args:
        accuracy: [N], of the first, the first two, ... images, the most confident first.
    """
    figure = new_figure(width, 0.8)
    axes = figure.subplots(gridspec_kw=margins(figure, left=0.62))
    coverage = np.arange(1, len(accuracy) + 1) / len(accuracy)
    best = np.minimum(1.0, accuracy[-1] / coverage)
    axes.plot(coverage, best, color=GREEN, linestyle="--", linewidth=1.2, label="best order")
    axes.plot(coverage, accuracy, color=BLUE, label="by confidence")
    axes.axhline(accuracy[-1], color=VERMILION, linestyle=":", linewidth=1.2, label="random order")
    lowest = min(accuracy)
    axes.set(xlim=(0, 1), ylim=(max(0.0, lowest - 0.35 * (1 - lowest) - 0.005), 1.0))
    axes.set_xlabel("coverage: fraction of images, the most confident first", fontsize=TEXT)
    axes.set_ylabel("accuracy on them", fontsize=TEXT)
    write_title(figure, title)
    axes.tick_params(labelsize=TEXT)
    axes.legend(fontsize=TEXT, loc="lower left", ncols=3, columnspacing=1, handlelength=1.5).set_frame_on(False)
    axes.grid(alpha=0.3)
    return figure
