"""What the figures show: lines, bands, bars, titles; and the PNG files."""

import io
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from vgg_nll.comparison import figures
from vgg_nll.comparison.statistics import Point
from vgg_nll.palette import LOSS_COLOURS

BINS = ([0] * 13 + [10, 90], [0] * 13 + [6, 89], [0.0] * 13 + [9.0, 88.0])  # images, correct, confidence


def colours_in(png: bytes) -> set[tuple[int, ...]]:
    """The colours of a PNG file, as bytes of red, green and blue."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)
    return {tuple(colour) for colour in np.unique(pixels, axis=0).tolist()}


def test_curves() -> None:
    points = [Point(1, 2.0, 1.0, 3.0), Point(5, 0.2, 0.1, 0.3)]
    losses = {
        "all_logit": {"accuracy/val": points, "loss/train": points},
        "argmax": {"loss/train": points[:1], "nll/argmax": [Point(1, 0.0, 0.0, 0.0)]},
    }
    figure = figures.curves(losses)
    panels: dict[str, Any] = {axes.get_title(): axes for axes in figure.axes}
    accuracy = panels["validation: accuracy"]
    assert [line.get_label() for line in accuracy.lines] == ["all_logit", "argmax"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["all_logit", "argmax"]
    assert list(accuracy.lines[0].get_xdata()) == [1, 5] and list(accuracy.lines[0].get_ydata()) == [2.0, 0.2]
    (band, _) = accuracy.collections
    assert {tuple(corner) for corner in band.get_paths()[0].vertices.tolist()} == {(1, 1), (1, 3), (5, 0.1), (5, 0.3)}
    own = panels["its own loss: argmax\n(dashed: validation)"]
    assert (list(own.lines[0].get_ydata()), own.get_yscale()) == ([2.0], "log")
    assert own.lines[0].get_color() == accuracy.lines[1].get_color() != accuracy.lines[0].get_color()
    assert panels["validation: NLL (argmax)"].get_yscale() == "linear"  # it has a zero
    assert [text.get_text() for text in panels["validation: ECE"].texts] == ["no curve"]


@pytest.mark.slow
def test_curves_as_png() -> None:
    """The decoded file holds the colour of each loss."""
    points = [Point(step, 1.0, 1.0, 1.0) for step in (1, 50)]  # a level line: its middle is a whole pixel of its colour
    found = colours_in(figures.png(figures.curves({"all_logit": {"loss/train": points}, "argmax": {"loss/train": points}})))
    first, second = (tuple(round(255 * part) for part in to_rgb(LOSS_COLOURS[loss])) for loss in ("argmax", "all_logit"))
    assert (255, 255, 255) in found and len(found) > 2
    assert any(np.abs(np.subtract(colour, first)).max() < 30 for colour in found)
    assert any(np.abs(np.subtract(colour, second)).max() < 30 for colour in found)


def test_reliability() -> None:
    figure = figures.reliability([(name, np.array([BINS], dtype=float)) for name in ("one", "two")])
    axes: list[Any] = figure.axes
    above, below = axes[0], axes[2]
    assert [panel.get_title() for panel in axes[:2]] == ["one", "two"]
    heights = [(bar.get_y(), bar.get_height()) for bar in above.patches[:4]]  # then what chance gives
    assert np.allclose(heights, [(0, 0.6), (0, 89 / 90), (0.6, 0.3), (89 / 90, -1 / 90)])
    assert [bar.get_height() for bar in below.patches] == BINS[0]
    assert below.get_yscale() == "log" and below.get_ylim()[0] < 1  # a bin of one image is visible, too


def test_reliability_over_seeds() -> None:
    """Bars of the sums; lines from the lowest to the highest accuracy of a seed, of those that have images in the bin."""
    by_seed = np.array([[[10, 0, 4], [6, 0, 4], [7, 0, 3.9]], [[10, 2, 0], [9, 1, 0], [7, 1.2, 0]]], dtype=float)
    figure = figures.reliability([("x", by_seed)])
    above: Any = figure.axes[0]
    assert [bar.get_height() for bar in above.patches[:3]] == [0.75, 0.5, 1.0]
    lines = [path.vertices[:, 1].tolist() for path in above.collections[0].get_paths()]
    assert lines == [[0.6, 0.9], [0.5, 0.5], [1.0, 1.0]]


def test_intervals() -> None:
    """A row per metric, from the first one down; every interval is two units long; a far one is drawn at the side."""
    rows = [("accuracy %", "+1.00 (-1.00 to +3.00)", 0.5, False), ("ECE %", "x", -4.0, True), ("margin", "y", 1234.5, True)]
    figure = figures.intervals(rows)
    figure.draw_without_rendering()
    (axes, *_) = figure.axes
    panel: Any = axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["accuracy %", "ECE %", "margin"]
    assert panel.get_ylim()[0] > panel.get_ylim()[1]
    (right,) = panel.child_axes
    assert [label.get_text() for label in right.get_yticklabels()] == ["+1.00 (-1.00 to +3.00)", "x", "y"]
    middles = [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in panel.lines if line.get_marker() in "os"]
    assert middles == [(0.5, 0), (-4.0, 1), (figures.FARTHEST - 1, 2)]
    ends = [part.get_segments()[0][:, 0].tolist() for part in panel.collections]
    assert ends == [[-0.5, 1.5], [-5.0, -3.0], [figures.FARTHEST - 2, figures.FARTHEST]]
    assert panel.get_xlim()[1] >= figures.FARTHEST
    colours = [line.get_color() for line in panel.lines if line.get_marker() in "os"]
    assert colours[0] != colours[1] == colours[2]


def test_one_image_keeps_its_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(figures.image_png(image))).convert("RGB")), image)
