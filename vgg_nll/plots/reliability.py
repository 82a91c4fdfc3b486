"""Reliability diagrams: accuracy against confidence."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vgg_nll.intervals import wilson_interval
from vgg_nll.palette import BLACK, BLUE, SKY, VERMILION
from vgg_nll.plots.layout import TEXT, WIDTH, margins, new_figure, write_title

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
    figure = new_figure(width, 1.25)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1), gridspec_kw=margins(figure, top=0.62, hspace=0.08))
    reliability_panels(above, below, images, correct, confidence)
    write_title(figure, title)
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


def _gap_handles() -> list[Patch]:
    return [
        Patch(facecolor=VERMILION, hatch="//", edgecolor="white", label="overconfident"),
        Patch(facecolor=SKY, hatch="\\\\", edgecolor="white", label="underconfident"),
    ]
