"""Figures can be read at the width that TensorBoard shows: sizes, places, intervals."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from scipy import stats

from vgg_nll import palette, plots
from vgg_nll.plots.errors import CELL

SHOWN = 350  # pixels, of a picture in TensorBoard
IMAGES, CORRECT, CONFIDENCE = [0, 1, 4, 10, 300], [0, 1, 1, 5, 297], [0.0, 0.3, 2.0, 7.0, 295.0]  # of five bins
WORDS = "underconfident by 10 points (2.6 to 14)"
DIAGRAM = plots.Diagram(IMAGES, CORRECT, CONFIDENCE, "validation, step 1,000: ECE 2.40%, 360 images", WORDS)
NAMES = ["cat", "a very long name of a class", "an even longer name, with words", "dog"]


def reliability() -> Figure:
    return plots.reliability_diagram(DIAGRAM)


def side_by_side() -> Figure:
    curve = ([0.0, 0.5, 1.0], [math.nan, 0.4, 0.9])
    return plots.reliability_diagrams([(DIAGRAM, curve), (DIAGRAM, curve)], width=7)


def confusion() -> Figure:
    counts = (1000 * np.eye(10) + 1).tolist()
    return plots.confusion_matrix(counts, [f"{NAMES[1]} {k}" for k in range(10)], "validation, step 120: accuracy 99.11%")


def coverage() -> Figure:
    order = np.repeat([1.0, 0.0, 1.0, 0.0], [300, 5, 40, 15])
    answered = {0.5: 0.99, 0.8: 0.96, 0.9: 0.94, 0.95: 0.9, 0.99: 0.8, 0.999: 0.55, 0.9999: 0.31}
    return plots.accuracy_coverage(
        (order.cumsum() / np.arange(1, 361)).tolist(), answered, "validation, step 120: AURC 0.00372, 360 images"
    )


def errors() -> Figure:
    outputs = np.tile([[0.1, 0.7, 0.15, 0.05]], (8, 1))
    pictures, confidences = np.zeros((8, 32, 32, 3), dtype=np.uint8), ["1 - 7e-06"] * 8
    return plots.most_confident_errors(
        pictures, outputs, [2] * 8, confidences, NAMES, title="validation, step 120: the 8 most confident"
    )


FIGURES = [reliability, confusion, coverage, errors]


def drawn(draw: Callable[[], Figure]) -> Figure:
    figure = draw()
    FigureCanvasAgg(figure).draw()
    return figure


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]


def boxes(figure: Figure) -> list[Bbox]:
    return [text.get_window_extent() for text in texts(figure)]


@pytest.mark.slow
@pytest.mark.parametrize("draw", FIGURES)
def test_text_can_be_read(draw: Callable[[], Figure]) -> None:
    """As many pixels as are shown, so that none is left out; a font of at least 9 of them; nothing beyond the edge."""
    figure = drawn(draw)
    width, height = figure.canvas.get_width_height()
    assert width == SHOWN
    assert min(float(text.get_fontsize()) * figure.dpi / 72 for text in texts(figure)) >= 9
    for text, box in zip(texts(figure), boxes(figure), strict=True):
        assert box.x0 >= -0.5 and box.y0 >= -0.5 and box.x1 <= width + 0.5 and box.y1 <= height + 0.5, text.get_text()


@pytest.mark.slow
@pytest.mark.parametrize("draw", [*FIGURES, side_by_side])
def test_no_text_covers_another(draw: Callable[[], Figure]) -> None:
    """A line of letters has air above and below, which may touch the next."""
    figure = drawn(draw)
    found = [(text.get_text(), box.padded(-1)) for text, box in zip(texts(figure), boxes(figure), strict=True)]
    assert [(a, b) for k, (a, one) in enumerate(found) for b, other in found[:k] if one.overlaps(other)] == []


def test_the_legend_covers_no_bar() -> None:
    figure = drawn(reliability)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "accuracy",
        "overconfident",
        "underconfident",
        "if calibrated (95%)",
    ]
    bars = [bar.get_window_extent() for axes in figure.axes for bar in axes.patches]
    assert len(bars) == 4 + 4 + 4 + 5
    assert not any(legend.get_window_extent().overlaps(bar) for bar in bars)


def test_diagrams_side_by_side_have_their_curves() -> None:
    """And the same bars as a diagram alone."""
    figure = drawn(side_by_side)
    assert figure.get_figwidth() == 14
    for column in range(2):
        axes = figure.axes[column]
        (curve,) = [line for line in axes.lines if line.get_label() == "accuracy, smooth"]
        np.testing.assert_array_equal(np.asarray(curve.get_ydata()), [math.nan, 0.4, 0.9])
        alone = [patch.get_bbox().bounds for patch in reliability().axes[0].patches if isinstance(patch, Rectangle)]
        assert [patch.get_bbox().bounds for patch in axes.patches if isinstance(patch, Rectangle)] == alone
    (legend,) = figure.legends
    assert legend.get_texts()[-1].get_text() == "accuracy, smooth"


def test_the_legend_covers_no_line() -> None:
    (axes,) = drawn(coverage).axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["best order", "by confidence", "random order"]
    for line in axes.lines:
        heights = line.get_transform().transform(line.get_xydata())[:, 1]
        assert heights.min() > legend.get_window_extent().y1, line.get_label()


def test_thresholds_stand_above_their_coverage() -> None:
    """Those that would cover another one are left out, the lower first."""
    (axes,) = drawn(coverage).axes
    (above,) = axes.child_axes
    shown = {text.get_text(): place for text, place in zip(above.get_xticklabels(), above.get_xticks(), strict=True)}
    assert shown == {"0.9999": 0.31, "0.999": 0.55, "0.99": 0.8, "0.8": 0.96}
    for empty in ({}, {0.5: 0.0}):
        plots.accuracy_coverage([1.0], empty).canvas.draw()


def test_confidence_above_and_below_accuracy_have_their_own_colours() -> None:
    """Accuracies of 1, 1/4, 1/2 and 0.99; mean confidences of 0.3, 1/2, 0.7 and 0.983."""
    figure = reliability()
    gaps = [bar for bar in figure.axes[0].patches[4:8] if isinstance(bar, Rectangle)]
    assert [bar.get_height() for bar in gaps] == pytest.approx([-0.7, 0.25, 0.2, 295 / 300 - 0.99])
    (legend,) = figure.legends
    patches = [patch for patch in legend.get_patches() if isinstance(patch, Patch)]
    looks = {text.get_text(): patch for text, patch in zip(legend.get_texts(), patches, strict=True)}
    names = ["underconfident", "overconfident", "overconfident", "underconfident"]
    for bar, name in zip(gaps, names, strict=True):
        assert to_hex(bar.get_facecolor()) == to_hex(looks[name].get_facecolor())
        assert bar.get_hatch() == looks[name].get_hatch() is not None


def test_what_chance_gives_is_grey() -> None:
    """The quantiles of as many images, each right with the mean confidence of its bin."""
    grey = [bar for bar in reliability().axes[0].patches[8:12] if isinstance(bar, Rectangle)]
    for bar, n, confidence in zip(grey, IMAGES[1:], CONFIDENCE[1:], strict=True):
        right = stats.binom(n, confidence / n)
        low, high = (
            next(k for k in range(n + 1) if right.cdf(k) >= 0.025),
            next(k for k in range(n + 1) if right.cdf(k) >= 0.975),
        )
        assert (bar.get_y(), bar.get_y() + bar.get_height()) == pytest.approx((low / n, high / n))


def test_few_images_are_pale_and_their_interval_is_wide() -> None:
    """Intervals are scipy's, of 0 and all right too; 1 image is a fifth as loud as 300."""
    axes = reliability().axes[0]
    (lines,) = [item for item in axes.collections if hasattr(item, "get_segments")]
    ends = np.array([segment[:, 1] for segment in lines.get_segments()])
    for (low, high), n, right in zip(ends, IMAGES[1:], CORRECT[1:], strict=True):
        exact = stats.binomtest(right, n).proportion_ci(0.95, method="exact")
        assert (low, high) == pytest.approx((exact.low, exact.high))
    weights = [bar.get_alpha() or 0.0 for bar in axes.patches[:4]]
    assert weights == sorted(weights) and weights[0] < 0.25 and weights[-1] == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 8, 16])
@pytest.mark.parametrize("width", [3.5, 7.0])
def test_errors_have_one_size_in_every_figure(number: int, width: float) -> None:
    """A picture is 64 pixels high: one of 32x32 is doubled; those of a file stand side by side."""
    pictures = np.zeros((number, 32, 32, 3), dtype=np.uint8)
    figure = plots.most_confident_errors(
        pictures, np.eye(4)[[1] * number], [0] * number, ["99.9%"] * number, NAMES, width=width
    )
    FigureCanvasAgg(figure).draw()
    places = [image.get_window_extent() for image in figure.axes[0].images]
    assert [(place.width, place.height) for place in places] == [pytest.approx((64, 64))] * number
    assert len({round(place.x0) for place in places}) == min(number, int(width / CELL))
    (bars,) = figure.axes[0].collections
    longest = [path.transformed(bars.get_transform()).get_extents() for path in bars.get_paths()]
    places += [bar for bar in longest if bar.width > 1.5]  # of p = 1
    assert len(places) == 2 * number and max(place.x1 for place in places) < figure.canvas.get_width_height()[0]
    assert not any(a.overlaps(b) for k, a in enumerate(places) for b in places[:k])


def test_right_and_wrong_have_the_palettes_colours() -> None:
    (bars,) = errors().axes[0].collections
    colours = [to_hex(colour).upper() for colour in np.asarray(bars.get_facecolor())]
    assert set(colours) == {palette.BLUE, palette.VERMILION} and colours.count(palette.BLUE) == 8  # one label per error


@pytest.mark.parametrize("classes", [7, 20])
def test_curves_of_classes_can_be_told_apart(classes: int) -> None:
    """By the colour, and from the eighth class on also by the dashes."""
    table = np.full((classes, 3), 0.5)
    lines = plots.precision_recall(table, table, [str(k) for k in range(classes)]).axes[0].lines
    looks = {(str(line.get_color()), line.get_linestyle()) for line in lines}
    assert len(looks) == classes
    assert {colour for colour, _ in looks} == set(palette.COLOURS)
