"""Curves and reliability diagrams of several losses, side by side."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator, PercentFormatter

from vgg_nll.comparison.statistics import Point
from vgg_nll.evaluation.registry import METRICS, PERCENT
from vgg_nll.palette import loss_colour
from vgg_nll.plots.fonts import caption
from vgg_nll.plots.reliability import reliability_panels
from vgg_nll.tracking import tags

LOSS_VALIDATION = METRICS["loss"].tag
_DRAWN = [METRICS[name] for name in ("accuracy", "nll_argmax", "nll_all_logit", "ece")]
# Curves that can be compared between losses: tag -> title.
COMPARABLE = {metric.tag: f"validation: {metric.title}" for metric in _DRAWN} | {tags.ACCURACY_TRAIN: "training: accuracy"}
IN_PERCENT = (*(metric.tag for metric in _DRAWN if metric.unit == PERCENT), tags.ACCURACY_TRAIN)
TAGS = (*COMPARABLE, tags.LOSS_TRAIN, LOSS_VALIDATION)
MAX_COLUMNS, THIN = 2, 1.4  # two panels beside each other can be read on paper and on a telephone
BINS = 60  # of a histogram
CONFIDENCES = {  # by log-odds
    0.0: "50%",
    2.197: "90%",
    4.595: "99%",
    6.907: "99.9%",
    9.21: "99.99%",
    13.816: "1 - 1e-6",
    20.723: "1 - 1e-9",
    27.631: "1 - 1e-12",
}
NAME = 40  # characters of a loss


def curves(losses: Mapping[str, Mapping[str, Sequence[Point]]]) -> Figure:
    """Draws a panel for each of `COMPARABLE` with a line per loss, then a panel per loss with its own value.

    Args:
        losses: loss -> tag -> points. A line is the mean, a band the range from minimum to maximum.
    """
    panels = len(COMPARABLE) + len(losses)
    rows = -(-panels // MAX_COLUMNS)
    figure = Figure(figsize=(3.8 * MAX_COLUMNS, 2.7 * rows + 0.4), layout="constrained")  # not pyplot: nothing to close
    axes = figure.subplots(rows, MAX_COLUMNS, squeeze=False).flatten()
    colours = colours_of(losses)
    for panel, (tag, title) in zip(axes, COMPARABLE.items(), strict=False):
        for k, (loss, by_tag) in enumerate(losses.items()):
            width = THIN + 0.9 * (len(losses) - 1 - k)  # the first lines stay visible behind the later ones
            _line(panel, by_tag.get(tag, ()), colours[loss], "-", width, label=caption(loss, NAME))
        _finish(panel, title, logarithmic=tag not in IN_PERCENT)
        if tag in IN_PERCENT:
            panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    for panel, (loss, by_tag) in zip(axes[len(COMPARABLE) :], losses.items(), strict=False):
        _line(panel, by_tag.get(tags.LOSS_TRAIN, ()), colours[loss], "-")
        _line(panel, by_tag.get(LOSS_VALIDATION, ()), colours[loss], "--")
        _finish(panel, f"its own loss: {caption(loss, NAME)}\n(dashed: validation)", logarithmic=True)
    for panel in axes[panels:]:
        panel.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(4, max(1, len(labels))), frameon=False)
    return figure


def colours_of(losses: Iterable[str]) -> dict[str, str]:
    """Returns the colour of each loss; of a variant of one of ours, if there are several, one of the rest of matplotlib's."""
    found: dict[str, str] = {}
    for k, loss in enumerate(losses):
        colour = loss_colour(loss.partition(" ")[0])
        found[loss] = colour if colour not in found.values() else f"C{k}"
    return found


def margin_histograms(right: Mapping[str, np.ndarray], wrong: Mapping[str, np.ndarray]) -> Figure:
    """Draws histograms of log-odds, of all losses over each other: right predictions in one panel, wrong ones in another.

    Args:
        right, wrong: loss -> margins log(p / (1 - p)), of all seeds.
    """
    figure = Figure(figsize=(7.6, 3.6), layout="constrained")
    every = np.concatenate([*right.values(), *wrong.values()])
    edges = np.linspace(every.min(), every.max() + 1e-9, BINS + 1)
    colours = colours_of(right)
    for panel, title, by_loss in zip(figure.subplots(1, 2), ("right", "wrong"), (right, wrong), strict=True):
        for loss, values in by_loss.items():
            weights = np.full(len(values), 1 / max(len(values), 1))
            label = f"{caption(loss, NAME)} (n = {len(values):,})"
            panel.hist(values, edges, weights=weights, histtype="step", linewidth=1.6, color=colours[loss], label=label)
        panel.set_title(f"{title} predictions", fontsize=9)
        panel.set_xlabel("log-odds of the prediction, log(p / (1 - p))", fontsize=8)
        panel.set_ylabel("fraction of them", fontsize=8)
        panel.tick_params(labelsize=8)
        panel.legend(fontsize=8)
        shown = {place: text for place, text in CONFIDENCES.items() if edges[0] <= place <= edges[-1]}
        above = panel.secondary_xaxis("top")
        above.set_xticks(list(shown), list(shown.values()), fontsize=7, rotation=45, ha="left")
    return figure


def images(pictures: np.ndarray, captions: Sequence[str]) -> Figure:
    """Draws pictures, five in a row, each with its caption.

    Args:
        pictures: uint8 [K, H, W, 3].
    """
    rows = -(-len(pictures) // 5)
    figure = Figure(figsize=(7.6, 1.75 * rows), layout="constrained")
    for axes in figure.subplots(rows, 5, squeeze=False).flatten()[len(pictures) :]:
        axes.set_axis_off()
    for axes, picture, text in zip(figure.axes, pictures, captions, strict=False):
        axes.imshow(picture, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(text, fontsize=7)
    return figure


def reliability(diagrams: Sequence[tuple[str, np.ndarray]]) -> Figure:
    """Draws reliability diagrams side by side: sums over seeds as bars, the range of the seeds' accuracies as lines.

    Seeds share their images, so an interval from their sum would be too narrow.

    Args:
        diagrams: title and, for each of S seeds and B bins of confidence, the number of images, how many are right, the sum of
            their confidences: [S, 3, B].
    """
    width = min(max(3.2 * len(diagrams), 4.2), 7.6)
    figure = Figure(figsize=(width, 4.4), layout="constrained")
    axes = figure.subplots(2, len(diagrams), sharex=True, sharey="row", height_ratios=(3, 1), squeeze=False)
    for column, (title, by_seed) in enumerate(diagrams):
        above, below = axes[:, column]
        images, correct = by_seed[:, 0], by_seed[:, 1]
        accuracy = np.divide(correct, images, out=np.full_like(correct, np.nan), where=images > 0)
        ranges = (np.fmin.reduce(accuracy), np.fmax.reduce(accuracy)) if len(by_seed) > 1 else None
        summed = by_seed.sum(0)
        reliability_panels(above, below, summed[0], summed[1], summed[2], ranges)
        above.set_title(title, fontsize=10)
        below.set_xlabel("confidence")
        below.set_yscale("log")  # most images are in the last bin
        below.set_ylim(bottom=0.5)  # a bin of one image is visible, too
    axes[0, 0].set_ylabel("accuracy")
    axes[1, 0].set_ylabel("images")
    return figure


def png(figure: Figure) -> bytes:
    """Returns the figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _line(panel: Axes, points: Sequence[Point], colour: str, style: str, width: float = THIN, label: str = "") -> None:
    steps = [point.step for point in points]
    marker = "o" if len(points) == 1 else ""  # one point is no line
    panel.plot(steps, [point.mean for point in points], style, marker=marker, color=colour, linewidth=width, label=label)
    minima, maxima = [point.minimum for point in points], [point.maximum for point in points]
    panel.fill_between(steps, minima, maxima, color=colour, alpha=0.18, linewidth=0)


def _finish(panel: Axes, title: str, logarithmic: bool) -> None:
    heights = [float(y) for line in panel.lines for y in np.asarray(line.get_ydata(), dtype=float)]
    if logarithmic and heights and min(heights) > 0:
        panel.set_yscale("log")
        decades = math.log10(max(heights) / min(heights))
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,)))
        panel.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        panel.yaxis.set_minor_locator(NullLocator())
    panel.set_title(title, fontsize=9)
    panel.set_xlabel("optimizer step", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.25)
    if not heights:
        panel.text(0.5, 0.5, "no curve", ha="center", va="center", transform=panel.transAxes, color="grey")
