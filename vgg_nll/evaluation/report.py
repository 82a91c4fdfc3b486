"""The metrics of a run as a table."""

import math
import re
from collections.abc import Mapping, Sequence

from vgg_nll.escapes import printable

FINAL_ROWS = (
    "accuracy",
    "top5_accuracy",
    "loss",
    "nll_argmax",
    "nll_argmax_prediction",
    "nll_all_logit",
    "brier",
    "ece",
    "mce",
    "adaptive_ece",
    "classwise_ece",
    "overconfidence",
    "aurc",
    "auroc",
    "confidence",
    "confidence_correct",
    "confidence_incorrect",
    "true_class_probability",
    "margin",
)
NUMBER = re.compile(r"(\*\*)?[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?(\*\*)?|-")  # bold, too; "-" stands for no value


def final_table(splits: Mapping[str, Mapping[str, float]]) -> str:
    """Returns {"validation": {"accuracy": ...}, "test": {...}} as text: one row per metric, one column per split."""
    rows = [[row, *(_number(values[row]) for values in splits.values())] for row in FINAL_ROWS]
    return format_table(["", *(f"{name:>12}" for name in splits)], rows, markdown=False)


def confidence_text(margin: float) -> str:
    """Returns the confidence of a margin log(p / (1 - p)) as text: "98.2%", or "1 - 7e-06" where that would read as 100.0%."""
    rest = 1 / (1 + math.exp(min(margin, 700.0)))  # exp overflows at 710
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


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _cell(text: str, markdown: bool) -> str:
    """Returns a cell that stays on its line, whatever a name in it holds."""
    line = printable(" ".join(text.splitlines()))
    return line.replace("|", r"\|") if markdown else line
