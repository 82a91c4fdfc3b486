"""Reliability diagrams: accuracy against confidence."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vgg_nll.intervals import calibrated_interval, clopper_pearson_interval
from vgg_nll.palette import BLACK, BLUE, GREY, SKY, VERMILION
from vgg_nll.plots.layout import TEXT, TITLE, WIDTH, margins, new_figure, write_title

SOLID = 30  # images of a bin from which on its bar has its full colour


class Diagram(NamedTuple):
    """What one reliability diagram shows."""

    images: Sequence[float]  # per bin
    correct: Sequence[float]  # per bin, the images that are right
    confidence: Sequence[float]  # per bin, the sum
    title: str = ""
    words: str = ""  # what it says, for the line below it


def reliability_diagram(diagram: Diagram, *, width: float = WIDTH) -> Figure:
    """Draws accuracy against confidence in equal bins over [0, 1], and below it how many images each bin holds.

    A bar below the diagonal is overconfidence, one above it underconfidence: the gap that the expected calibration error sums
    up, weighted by images. The bars of few images are pale; lines are 95% intervals of the accuracy (Clopper-Pearson). A grey
    box holds 95% of the accuracies that chance gives to images of this confidence, if that is right.
    """
    figure = new_figure(width, 1.25)
    room = margins(figure, top=0.72, bottom=0.56 if diagram.words else 0.42, hspace=0.08)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1), gridspec_kw=room)
    _draw(above, below, diagram)
    write_title(figure, diagram.title)
    _write_legend(figure, [], columns=2, top=0.26)
    return figure


def reliability_diagrams(
    diagrams: Sequence[tuple[Diagram, tuple[Sequence[float], Sequence[float]]]], *, width: float
) -> Figure:
    """Draws reliability diagrams side by side, each with the curve of a smooth one.

    Args:
        diagrams: each with the confidences and the accuracies of its curve; width: of one, in inches.
    """
    figure = new_figure(width * len(diagrams), 1.25 / len(diagrams))
    room = margins(figure, top=0.8, bottom=0.56, hspace=0.08)
    axes = figure.subplots(2, len(diagrams), sharex=True, height_ratios=(3, 1), squeeze=False, gridspec_kw=room)
    for (above, below), (diagram, curve) in zip(axes.T, diagrams, strict=True):
        _draw(above, below, diagram)
        above.set_title(diagram.title, fontsize=TITLE)
        (line,) = above.plot(*curve, color=BLACK, linewidth=1.5, label="accuracy, smooth")
    _write_legend(figure, [line], columns=5, top=0.1)
    return figure


def _draw(above: Axes, below: Axes, diagram: Diagram) -> None:
    reliability_panels(above, below, diagram.images, diagram.correct, diagram.confidence)
    above.set_ylabel("accuracy", fontsize=TEXT)
    below.set_xlabel("confidence" + f"\n{diagram.words}" * bool(diagram.words), fontsize=TEXT)
    below.set_ylabel("images", fontsize=TEXT)
    for k, count in enumerate(diagram.images):
        if count > 0:
            place = ((k + 0.5) / len(diagram.images), count)
            below.annotate(f"{count:.0f}", place, ha="center", va="bottom", fontsize=TEXT, rotation=90)
    below.margins(y=0.9)


def _write_legend(figure: Figure, lines: Sequence[Line2D], *, columns: int, top: float) -> None:
    accuracy, chance = Patch(facecolor=BLUE, label="accuracy"), Patch(facecolor=GREY, label="if calibrated (95%)")
    place = (0.5, 1 - top / figure.get_figheight())
    legend = figure.legend(
        handles=[accuracy, *_gap_handles(), chance, *lines],
        loc="upper center",
        bbox_to_anchor=place,
        fontsize=TEXT,
        ncols=columns,
    )
    legend.set_frame_on(False)


def reliability_panels(
    above: Axes,
    below: Axes,
    images: Sequence[float] | np.ndarray,
    correct: Sequence[float] | np.ndarray,
    confidence: Sequence[float] | np.ndarray,
    ranges: tuple[np.ndarray, np.ndarray] | None = None,
) -> None:
    """Draws the bars of `reliability_diagram`: accuracy and gap in one panel, counts in another.

    `ranges` of the accuracy, one per bin, take the place of the interval of as many independent images, and of the grey boxes.
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
    if ranges is None:
        low, high = calibrated_interval(np.clip(accuracy + gap, 0, 1), n)
        above.bar(middle, high - low, 0.4 * width, bottom=low, color=GREY, alpha=0.45)
        low, high = clopper_pearson_interval(np.asarray(correct, dtype=float)[filled], n)
    else:
        low, high = (bound[filled] for bound in ranges)
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
