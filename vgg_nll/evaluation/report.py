"""The metrics of a run as a table."""

import math
import re
from collections.abc import Mapping, Sequence

from vgg_nll.escapes import printable
from vgg_nll.evaluation.registry import GROUPS, View, shown_in
from vgg_nll.intervals import wilson_interval

NUMBER = re.compile(r"(\*\*)?[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?(\*\*)?|-")  # bold, too; "-" stands for no value


def final_table(splits: Mapping[str, Mapping[str, float]]) -> str:
    """Returns {"validation": {"accuracy": ...}, "test": {...}} as text: one row per metric, one column per split.

    "-" stands for NaN, and for a metric that a checkpoint of an older version does not have.
    """
    rows = []
    for group in GROUPS:
        rows.append([group, *("" for _ in splits)])
        names = [metric.name for metric in shown_in(View.TABLE) if metric.group == group]
        rows += [[f"  {name}", *(_number(values.get(name, math.nan)) for values in splits.values())] for name in names]
    return format_table(["", *(f"{name:>12}" for name in splits)], rows, markdown=False)


def verdict(values: Mapping[str, float], images: int) -> str:
    """Returns one line: accuracy, mean confidence, and whether they agree.

    It calls the network over- or underconfident only if its mean confidence lies outside the 95% interval of its accuracy
    (Wilson, from the number of images).
    """
    accuracy, confidence = values["accuracy"], values["confidence"]
    low, high = wilson_interval(accuracy, images)
    if confidence > high or confidence < low:
        points = 100 * abs(confidence - accuracy)
        judged = f"{'over' if confidence > high else 'under'}confident by {points:.2g} points"
    else:
        judged = f"confidence agrees with accuracy (n = {images:,} images)"
    return f"accuracy {_percent(accuracy)}  confidence {_percent(confidence)}: {judged}"


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


def _percent(fraction: float) -> str:
    """Returns a percentage; what is not all is not 100%."""
    text = f"{fraction:.1%}"
    return f"{min(fraction, 0.99999):.3%}" if text == "100.0%" and fraction < 1 else text


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _cell(text: str, markdown: bool) -> str:
    """Returns a cell that stays on its line, whatever a name in it holds."""
    line = printable(" ".join(text.splitlines()))
    return line.replace("|", r"\|") if markdown else line
