"""Draws the pictures of docs/losses.md from the losses themselves: `python scripts/plot_losses.py [FOLDER]` (default docs)."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":  # before PyTorch is imported: --help should not wait for that
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent / "docs")
    arguments = parser.parse_args()

import torch
from matplotlib.figure import Figure
from torch import Tensor

from vgg_nll.cli.console import write_any_text
from vgg_nll.losses import all_logit_nll, argmax_nll
from vgg_nll.palette import BLACK, BLUE, GREEN, ORANGE, PINK, SKY, VERMILION, loss_colour

GREY = "#7f7f7f"
LOSSES: dict[str, Callable[..., Tensor]] = {"argmax": argmax_nll, "all_logit": all_logit_nll}


def losses_against_probability() -> Figure:
    """Draws both losses against the probability of the true class, for the two extremes of the rest of it."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    p = torch.linspace(1e-4, 1 - 1e-4, 500, dtype=torch.float64)
    classes = 10
    even = torch.cat([p[:, None], ((1 - p) / (classes - 1))[:, None].expand(-1, classes - 1)], dim=1).log()
    one = torch.stack([p, 1 - p], dim=1).log()
    label = torch.zeros(len(p), dtype=torch.int64)
    first, second = loss_colour("argmax"), loss_colour("all_logit")
    axes.plot(p, argmax_nll(even, label, reduction="none"), color=first, label="argmax")
    axes.plot(p, all_logit_nll(even, label, reduction="none"), color=second, label="all_logit, the rest spread over 9 classes")
    axes.plot(p, all_logit_nll(one, label, reduction="none"), "--", color=second, label="all_logit, the rest on one class")
    axes.set(xlabel="softmax output of the true class", ylabel="loss", xlim=(0, 1), ylim=(0, 10))
    axes.legend()
    return figure


def forms_against_gap() -> Figure:
    """Draws the relative error of three ways to compute method 2 in float32, for two classes whose logits differ by a gap."""
    gaps = torch.linspace(0.5, 110, 400)
    logits = torch.stack([gaps, torch.zeros_like(gaps)], dim=1)
    tail = torch.log1p(torch.exp(-gaps.double()))
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, label, exact, title in zip(
        figure.subplots(1, 2, sharey=True), (0, 1), (2 * tail, 2 * (gaps + tail)), ("right", "wrong"), strict=True
    ):
        target = torch.full((len(gaps),), label)
        for (name, form), color, width, height in zip(
            FORMS.items(), (SKY, BLACK, VERMILION), (5, 1.5, 1.5), (1e-2, 1e-4, 1), strict=True
        ):
            found = form(logits, target).double()
            error = ((found - exact).abs() / exact).clamp(min=1e-9)
            axes.semilogy(gaps, error, color=color, linewidth=width, label=name)
            broken = gaps[found.isinf()]
            if len(broken):
                axes.axvline(broken[0], color=color, linewidth=width, linestyle=":")
                axes.text(broken[0] + 3, height, f"{name}: inf from {broken[0]:.0f}", color=color)
        axes.set(xlabel="gap between the logits", title=f"the top class is {title}", ylim=(5e-10, 5))
    figure.axes[0].set_ylabel("relative error")
    figure.axes[0].legend()
    return figure


def gradient_against_gap() -> Figure:
    """Draws the gradient on the logit of a wrong class that leads by a gap, or trails by it."""
    gaps = torch.linspace(-10, 25, 400)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, loss in LOSSES.items():
        color = loss_colour(name)
        logits = torch.zeros(len(gaps), 10)
        logits[:, 1] = gaps
        logits.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(logits, torch.zeros(len(gaps), dtype=torch.int64), reduction="sum"), logits)
        axes.plot(gaps, gradient[:, 1], color=color, label=f"{name}: the leading wrong class")
        axes.plot(gaps, gradient[:, 0], "--", color=color, label=f"{name}: the true class")
    axes.set(xlabel="lead of one wrong class over the nine others", ylabel="gradient on its logit")
    axes.legend()
    return figure


def gradient_ratio() -> Figure:
    """Draws the gradient of method 2 on the true logit as a multiple of that of method 1, against `p` of the true class."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    p = torch.cat([torch.logspace(-3, -1, 100), torch.linspace(0.1, 0.999, 400)]).double()[:, None]
    for classes, color in ((2, BLACK), (3, GREEN), (10, PINK), (1000, ORANGE)):
        logits = torch.cat([p, ((1 - p) / (classes - 1)).expand(-1, classes - 1)], dim=1).log().requires_grad_()
        label = torch.zeros(len(p), dtype=torch.int64)
        one, two = (torch.autograd.grad(loss(logits, label, reduction="sum"), logits)[0][:, 0] for loss in LOSSES.values())
        name = f"{classes} classes" + (", or all the rest on one class" if classes == 2 else ", the rest spread evenly")
        axes.plot(p[:, 0], two / one, color=color, label=name)
        at_uniform = classes / (classes - 1)
        axes.plot([1 / classes], [at_uniform], "o", color=color)
    axes.set(xlabel="softmax output of the true class (dots: 1 / C)", ylabel="gradient of all_logit / gradient of argmax")
    axes.set(xlim=(0, 1), ylim=(0.95, 2.05))
    axes.legend()
    return figure


def cat_dog_horse() -> Figure:
    """Draws the worked example: three images, their softmax, and both losses."""
    logits = torch.tensor([[5.0, 4.0, 2.0], [4.0, 2.0, 8.0], [4.0, 4.0, 1.0]])
    labels = torch.tensor([0, 2, 1])
    names = ("cat", "dog", "horse")
    one, two = (loss(logits, labels, reduction="none") for loss in (argmax_nll, all_logit_nll))
    figure = Figure(figsize=(9, 3), layout="constrained")
    for i, axes in enumerate(figure.subplots(1, 3, sharey=True)):
        colors = [BLUE if k == labels[i] else GREY for k in range(3)]
        bars = axes.bar(names, logits[i].softmax(0), color=colors)
        axes.bar_label(bars, fmt="%.2f")
        axes.set(title=f"label {names[labels[i]]}\nargmax {one[i]:.2f}   all_logit {two[i]:.2f}", ylim=(0, 1.1))
    figure.axes[0].set_ylabel("softmax")
    return figure


def simplex() -> Figure:
    """Draws both losses over all probabilities of three classes; the true class is the corner at the bottom left."""
    steps = 240
    x, y = torch.meshgrid(torch.linspace(0, 1, steps), torch.linspace(0, 3**0.5 / 2, steps), indexing="xy")
    third = y / (3**0.5 / 2)
    second = x - third / 2
    p = torch.stack([1 - second - third, second, third], dim=-1).reshape(-1, 3).double()
    inside = (p > 0).all(dim=1)
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, (name, loss) in zip(figure.subplots(1, 2), LOSSES.items(), strict=True):
        values = torch.full((len(p),), torch.nan, dtype=torch.float64)
        values[inside] = loss(p[inside].log(), torch.zeros(int(inside.sum()), dtype=torch.int64), reduction="none")
        grid = values.reshape(steps, steps)
        image = axes.pcolormesh(x, y, grid, cmap="viridis_r", vmin=0, vmax=6, rasterized=True)
        axes.contour(x, y, grid, levels=[0.25, 0.5, 1, 2, 3, 4, 5], colors="white", linewidths=0.7)
        for corner, where in (("true class", (0, -0.06)), ("wrong", (1, -0.06)), ("wrong", (0.5, 0.9))):
            axes.text(*where, corner, ha="center")
        axes.set_title(name, pad=24)
        axes.set_aspect("equal")
        axes.set_axis_off()
    figure.colorbar(image, ax=figure.axes, label="loss", extend="max")
    return figure


def _naive(logits: Tensor, target: Tensor) -> Tensor:
    p = logits.softmax(dim=1)
    is_target = torch.zeros_like(p, dtype=torch.bool).scatter_(1, target[:, None], True)
    return -torch.where(is_target, p, 1 - p).log().sum(dim=1)


def _log1mexp(logits: Tensor, target: Tensor) -> Tensor:
    log_p = logits.log_softmax(dim=1)
    is_target = torch.zeros_like(log_p, dtype=torch.bool).scatter_(1, target[:, None], True)
    return -torch.where(is_target, log_p, torch.log(-torch.expm1(log_p))).sum(dim=1)


FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "log of softmax": _naive,
    "log_softmax and log1mexp": _log1mexp,
    "all_logit_nll": lambda logits, target: all_logit_nll(logits, target, reduction="none"),
}
FIGURES = (losses_against_probability, forms_against_gap, gradient_against_gap, gradient_ratio, cat_dog_horse, simplex)


def main(folder: Path) -> None:
    write_any_text()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for draw in FIGURES:
            path = folder / f"{draw.__name__}.png"
            draw().savefig(path, dpi=90)
            print(path)
    except OSError as error:
        sys.exit(f"error: {folder}: cannot be written ({error.strerror}); name another folder")


if __name__ == "__main__":
    main(arguments.folder)
