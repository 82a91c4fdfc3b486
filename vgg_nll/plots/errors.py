"""The most confident errors, as pictures with their softmax outputs."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vgg_nll.palette import BLUE, VERMILION
from vgg_nll.plots.fonts import caption
from vgg_nll.plots.layout import DPI, TEXT, TITLE, WIDTH

CELL, ROW = 1.75, 1.1  # of an error: its width, its height
BARS = 4  # softmax outputs shown per error


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
