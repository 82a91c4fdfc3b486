"""Accuracy of the most confident images."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vgg_nll.palette import BLUE, GREEN, VERMILION
from vgg_nll.plots.layout import TEXT, WIDTH, margins, new_figure, write_title

TICK = 0.42  # inches between two thresholds: the width of "0.9999"


def accuracy_coverage(
    accuracy: Sequence[float], thresholds: Mapping[float, float], title: str = "", *, width: float = WIDTH
) -> Figure:
    """Draws the accuracy of the k most confident images against their fraction k / N, between two bounds.

    The best order has all right images first, and random order the same accuracy everywhere. An axis above shows which
    threshold of confidence gives which fraction.

    Args:
        accuracy: [N], of the first, the first two, ... images, the most confident first.
        thresholds: threshold -> the fraction of images whose confidence is not below it; those that would stand on another one
            are left out, the lower first.
    """
    figure = new_figure(width, 0.85)
    axes = figure.subplots(gridspec_kw=margins(figure, left=0.62, top=0.7))
    _write_thresholds(axes, thresholds, TICK / (width - 0.74))
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


def _write_thresholds(axes: Axes, thresholds: Mapping[float, float], least: float) -> None:
    """Writes thresholds above the axes, each at its fraction, at least that far from each other."""
    shown: dict[float, float] = {}
    for threshold, coverage in sorted(thresholds.items(), reverse=True):
        if coverage - max(shown.values(), default=-1.0) >= least:
            shown[threshold] = coverage
    above = axes.secondary_xaxis("top")
    above.set_xticks(list(shown.values()), [f"{threshold:g}" for threshold in shown], fontsize=TEXT)
    above.set_xlabel("threshold of confidence", fontsize=TEXT)
