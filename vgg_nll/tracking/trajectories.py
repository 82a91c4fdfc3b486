"""The trajectories of single images as a figure."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vgg_nll.plots.layout import DPI, TEXT, TITLE, WIDTH

LIMIT = 7.0  # log-odds: a probability of 0.999
TICKS = {0.001: "0.1%", 0.1: "10%", 0.5: "50%", 0.9: "90%", 0.999: "99.9%"}


def heat_map(log_odds: np.ndarray, title: str = "") -> Figure:
    """Draws the probability of the true class of every image (row) at every validation (column).

    The rows are in order of their last value: the images that the network gets wrong are at the bottom. Colours are equally
    spaced in log-odds.

    Args:
        log_odds: [V, M], log(p / (1 - p)) of the label; NaN counts as 0.
    """
    table = np.nan_to_num(log_odds, nan=0.0, posinf=LIMIT, neginf=-LIMIT).clip(-LIMIT, LIMIT)
    table = table[:, np.argsort(table[-1], kind="stable")[::-1]].T
    figure = Figure(figsize=(WIDTH, WIDTH), dpi=DPI)
    axes = figure.add_axes((0.17, 0.13, 0.62, 0.76))
    drawn = axes.imshow(table, aspect="auto", cmap="cividis", vmin=-LIMIT, vmax=LIMIT, interpolation="nearest")
    axes.set_xlabel("validation", fontsize=TEXT)
    axes.set_ylabel("images", fontsize=TEXT)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=TEXT)
    axes.set_title(title, fontsize=TITLE)
    bar = figure.colorbar(drawn, cax=figure.add_axes((0.82, 0.13, 0.03, 0.76)))
    bar.set_ticks([float(np.log(p / (1 - p))) for p in TICKS], labels=list(TICKS.values()))
    bar.ax.tick_params(labelsize=TEXT)
    return figure
