"""The metrics of a run as a table."""

import math
import re
from collections.abc import Mapping, Sequence

from vgg_nll.escapes import printable
from vgg_nll.evaluation.registry import GROUPS, LOG_ODDS, METRICS, PERCENT, Unit, View, shown_in
from vgg_nll.intervals import wilson_interval

FIRST = ("accuracy", "nll_argmax", "brier", "confidence", "ece", "ece_noise_floor")  # rows of the final table
MIN_IMAGES = 50
MAX_WIDTH = 0.2  # of an interval that still judges
NUMBER = re.compile(r"(\*\*)?[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?(\*\*)?|-")  # bold, too; "-" stands for no value


def final_table(
    splits: Mapping[str, Mapping[str, float]],
    images: Mapping[str, int],
    *,
    num_classes: int,
    intervals: Mapping[str, Sequence[float]] | None = None,
    view: View = View.TABLE,
) -> str:
    """Returns {"validation": {"accuracy": ...}, "test": {...}} as text: one row per metric, one column per split.

    The rows of `FIRST` stand first, the others by group; fractions are in percent. "-" stands for NaN, and for a metric that a
    checkpoint of an older version does not have.

    Args:
        images: of each split; num_classes: with 5 or fewer, every image is right among the first five.
        intervals: those of the last split, name -> [low, high], for a column of their own; view: which metrics are shown.
    """
    metrics = [metric for metric in shown_in(view) if num_classes > 5 or metric.name != "top5_accuracy"]
    parts = {"": [METRICS[name] for name in FIRST]}
    parts |= {group: [m for m in metrics if m.group == group and m.name not in FIRST] for group in GROUPS}
    rows = []
    for group, members in parts.items():
        rows += [[group]] if group and members else []
        for metric in members:
            unit = {PERCENT: " %", LOG_ODDS: " (log-odds)"}.get(metric.unit, "")
            cells = [_number(values.get(metric.name, math.nan), metric.unit) for values in splits.values()]
            ends = (intervals or {}).get(f"{metric.name}_interval", (math.nan, math.nan))
            cells.append("" if math.isnan(ends[0]) else " to ".join(_number(end, metric.unit) for end in ends))
            rows.append([f"{'  ' * bool(group)}{metric.name}{unit}", *cells])
    head = ["", *(f"{name:>12}" for name in (f"{name} (n = {images[name]:,})" for name in splits)), "95% interval"]
    used = len(head) - (not any(cells[-1] for cells in rows if len(cells) > 1))
    return format_table(head[:used], [[*cells, *[""] * len(head)][:used] for cells in rows], markdown=False)


def few_images(images: int) -> str:
    """Returns a line of warning, or nothing if there are enough images."""
    if images >= MIN_IMAGES:
        return ""
    return f"warning: {images:,} images are few: wide intervals, and a large ECE by chance alone\n"


def verdict(values: Mapping[str, float], images: int, intervals: Mapping[str, Sequence[float]] | None = None) -> list[str]:
    """Returns three lines: accuracy and mean confidence, whether they agree, and how sure the network is of its errors.

    It calls the network over- or underconfident only if the 95% interval of the overconfidence does not contain 0: that of
    `intervals`, or else, of confidence less the ends of Wilson's interval of the accuracy. It says nothing if Wilson's interval
    is wider than 20 points.
    """
    accuracy, confidence = values["accuracy"], values["confidence"]
    low, high = (min(max(bound, 0.0), 1.0) for bound in wilson_interval(accuracy, images))
    least, most = (intervals or {}).get("overconfidence_interval", (confidence - high, confidence - low))
    if least > 0 or most < 0:
        nearest, farthest = sorted(100 * abs(bound) for bound in (least, most))
        points = f"{100 * abs(confidence - accuracy):.2g} points ({nearest:.2g} to {farthest:.2g})"
        judged = f"{'over' if least > 0 else 'under'}confident by {points}"
    elif high - low > MAX_WIDTH:
        judged = "too few images to judge confidence"
    else:
        judged = "no difference can be seen"
    interval = f"({100 * low:.1f} to {100 * high:.1f}%, n = {images:,})"
    wrong, of_wrong = round(images * (1 - accuracy)), "none wrong"
    if wrong:
        of_wrong = f"{wrong:,} wrong, at {percent(values['confidence_incorrect'])} confidence on average"
    return [f"accuracy {percent(accuracy)} {interval}  confidence {percent(confidence)}", judged, of_wrong]


def complement(margin: float) -> float:
    """Returns 1 - p of a margin log(p / (1 - p)), exact where p itself rounds to 1."""
    return 1 / (1 + math.exp(min(margin, 700.0)))  # exp overflows at 710


def confidence_text(margin: float) -> str:
    """Returns the confidence of a margin log(p / (1 - p)) as text: "98.2%", or "1 - 7e-06" where that would read as 100.0%."""
    rest = complement(margin)
    return f"1 - {rest:.0e}" if rest < 5e-4 else f"{1 - rest:.1%}"


def format_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool) -> str:
    """Returns a table of aligned columns, without a newline at its end.

    Args:
        head, rows: cells as text, equally many in each.
        markdown: writes GitHub's table: numbers are right-aligned if a column holds nothing else, and `|` is escaped. Otherwise
            the first column is left-aligned, the others are right-aligned, with two spaces between.
    """
    lines = [[_cell(cell, markdown) for cell in line] for line in (head, *rows)]
    columns = list(zip(*lines, strict=True))
    sides = [">" if (all(map(NUMBER.fullmatch, cells[1:])) if markdown else k > 0) else "<" for k, cells in enumerate(columns)]
    widths = [max(3 if markdown else 0, *map(len, cells)) for cells in columns]
    aligned = [[f"{cell:{side}{width}}" for cell, side, width in zip(line, sides, widths, strict=True)] for line in lines]
    if not markdown:
        return "\n".join("  ".join(line).rstrip() for line in aligned)
    rule = ["-" * (width - 1) + ("-" if side == "<" else ":") for side, width in zip(sides, widths, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (aligned[0], rule, *aligned[1:]))


def percent(fraction: float) -> str:
    """Returns a percentage with one digit after the point, or three if what is not all would read as 100.0%."""
    text = f"{fraction:.1%}"
    return f"{min(fraction, 0.99999):.3%}" if text == "100.0%" and fraction < 1 else text


def _number(value: float, unit: Unit) -> str:
    return "-" if math.isnan(value) else f"{unit.factor * value:.{unit.digits}f}"


def _cell(text: str, markdown: bool) -> str:
    """Returns a cell that stays on its line, whatever a name in it holds."""
    line = printable(" ".join(text.splitlines()))
    return line.replace("|", r"\|") if markdown else line
