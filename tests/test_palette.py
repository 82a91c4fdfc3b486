"""Colours that deuteranopes can tell apart."""

import itertools

import numpy as np
import pytest

from vgg_nll import palette

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
DEUTERANOPIA = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]])
TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
WHITE = np.array([0.95047, 1.0, 1.08883])
MIN_DISTANCE = 15.0  # of CIE 1976; 2.3 is just noticeable


def lab(colour: str) -> np.ndarray:
    """A colour as a deuteranope sees it, in CIELAB."""
    rgb = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ (DEUTERANOPIA @ linear).clip(0, 1) / WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def least_distance(*colours: str) -> float:
    return min(float(np.linalg.norm(lab(a) - lab(b))) for a, b in itertools.combinations(colours, 2))


def test_the_simulation_shows_the_fault_that_it_is_for() -> None:
    """matplotlib's red and green, which the figures had before, are one olive; black and white stay apart."""
    assert least_distance("#d62728", "#2ca02c") < 25 < 70 < least_distance("#1f77b4", "#ff7f0e")
    assert least_distance("#000000", "#ffffff") == pytest.approx(100, abs=0.1)


@pytest.mark.parametrize(
    "colours",
    [
        (palette.LOSS_COLOURS["argmax"], palette.LOSS_COLOURS["all_logit"]),
        tuple(palette.LOSS_COLOURS.values()),
        (palette.BLUE, palette.VERMILION, palette.SKY, palette.BLACK),  # the reliability diagram
        (palette.BLUE, palette.GREEN, palette.VERMILION),  # accuracy against coverage
        (palette.BLUE, palette.VERMILION),  # the bars of the confident errors
        palette.COLOURS,  # the classes of precision-recall curves
    ],
)
def test_colours_of_one_figure(colours: tuple[str, ...]) -> None:
    assert least_distance(*colours) > MIN_DISTANCE, least_distance(*colours)


def test_a_loss_has_one_colour() -> None:
    assert len(set(palette.LOSS_COLOURS.values())) == len(palette.LOSS_COLOURS)
    others = {palette.loss_colour(f"loss number {k}") for k in range(20)}
    assert others == set(palette.OTHER_COLOURS)
    assert not others & set(palette.LOSS_COLOURS.values())
    assert palette.loss_colour("my_loss") == palette.loss_colour("my_loss")
