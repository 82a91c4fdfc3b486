"""Groups -> tables of text."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from vgg_nll.comparison.grouping import Group
from vgg_nll.comparison.runs import Run
from vgg_nll.comparison.statistics import Estimate, mean_with_interval
from vgg_nll.evaluation.registry import METRICS, Metric, View, shown_in

INTERVAL = "95% interval"
MIN_CELL = 8  # characters, to which a terminal's cells are cut
NUMBER = re.compile(r"[+-]?\d|none|-$")  # how a cell with a number begins, or with the word for none


class Table(NamedTuple):
    """Cells as text."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


OVERVIEW = tuple(METRICS[name] for name in ("nll_argmax", "ece", "confidence", "confidence_incorrect", "margin"))


def overview(groups: Sequence[Group]) -> Table:
    """Returns one row per data set, model, loss and settings, over seeds.

    Accuracy as mean ± sample standard deviation, 95% interval of the mean, and minimum; means of the other metrics. Accuracy,
    ECE and confidence in percent.
    """
    accuracy_head = "test accuracy %" if all(group.split == "test" for group in groups) else "accuracy %"
    head = (
        *("data", "model", "loss", "settings", "n", accuracy_head, INTERVAL, "minimum"),
        *(*(metric.head for metric in OVERVIEW), "seconds"),
    )
    rows = []
    for group in groups:
        for loss, by_seed in group.losses.items():
            accuracy = list(shown_values(METRICS["accuracy"], by_seed).values())
            estimate, seconds = mean_with_interval(accuracy), [run.seconds for run in by_seed.values()]
            data = group.data if group.split == "test" else f"{group.data} (validation)"
            means = (number(mean_or_nan(shown_values(metric, by_seed).values()), number_form(metric)) for metric in OVERVIEW)
            spread, interval = _with_spread(estimate, 2), _interval(estimate, "{:.2f}")
            cells = (data, group.model, loss, group.settings, str(estimate.n), spread, interval, f"{min(accuracy):.2f}")
            rows.append((*cells, *means, f"{min(seconds):.0f} to {max(seconds):.0f}"))
    return Table(head, rows)


def without_constants(table: Table, columns: Sequence[str]) -> tuple[Table, str]:
    """Returns a table without those of the columns that have one value in all rows; and these values as text."""
    places = [k for k, name in enumerate(table.head) if name in columns and len({row[k] for row in table.rows}) == 1]
    kept = [k for k in range(len(table.head)) if k not in places]
    head, *rows = ([line[k] for k in kept] for line in (table.head, *table.rows))
    constants = ", ".join(f"{table.head[k]} {table.rows[0][k]}" for k in places if table.rows)
    return Table(head, rows), constants


def without_common_words(table: Table, column: str) -> Table:
    """Returns a table whose column keeps, of several words, only those that are not in all rows; one value stays as it is."""
    place = table.head.index(column)
    words = [row[place].split() for row in table.rows]
    common = set.intersection(*map(set, words)) if len(set(map(tuple, words))) > 1 else set()
    rows = [[*row] for row in table.rows]
    for row, own in zip(rows, words, strict=True):
        row[place] = " ".join(word for word in own if word not in common) or ("nothing more" if own else "default")
    return Table(table.head, rows)


def fitted(table: Table, width: int, droppable: Sequence[str]) -> Table:
    """Returns a table that is at most `width` characters wide as Markdown, if that can be.

    It leaves out as many of the droppable columns as it must, the first ones first. Then it cuts long words in their middle,
    but no number.
    """
    head, rows = list(table.head), [list(row) for row in table.rows]
    for name in droppable:
        if name in head and _width(head, rows) > width:
            place = head.index(name)
            for line in (head, *rows):
                del line[place]
    columns = list(zip(*rows, strict=True)) or [()] * len(head)
    least = [max([MIN_CELL, *(len(cell) for cell in column if NUMBER.match(cell))]) for column in columns]
    while _width(head, rows) > width:
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        longer = [(size, -k) for k, (size, limit) in enumerate(zip(widths, least, strict=True)) if size > limit]
        if not longer:
            break
        widest, place = max(longer)
        half = (widest - 2) // 2
        for line in (head, *rows):
            if len(line[-place]) >= widest:
                cut = f"{line[-place][: widest - 2 - half]}…{line[-place][-half:]}"
                line[-place] = re.sub(r"[\d.]*…[\d.]*", "…", cut)  # no part of a number
    return Table(head, rows)


def _width(head: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    return sum(max(3, *map(len, column)) for column in zip(head, *rows, strict=True)) + 3 * len(head) + 1  # "| a | b |"


def means(group: Group) -> Table:
    """Returns one row per metric, one column per loss: mean ± sample standard deviation (95% interval of the mean)."""
    rows = []
    for metric in shown_in(View.COMPARISON):
        cells = []
        for by_seed in group.losses.values():
            estimate = mean_with_interval(list(shown_values(metric, by_seed).values()))
            text = _with_spread(estimate, metric.unit.digits)
            if estimate.interval is not None:
                text += f" ({_interval(estimate, number_form(metric))})"
            cells.append(text + (f", n = {estimate.n}" if 0 < estimate.n < len(by_seed) else ""))
        rows.append((metric.head, *cells))
    return Table(("metric", *(f"{loss} (n = {len(by_seed)})" for loss, by_seed in group.losses.items())), rows)


def shown_values(metric: Metric, by_seed: Mapping[int, Run]) -> dict[int, float]:
    """Returns seed -> the number that is shown, of the runs that have a value (no error: no confidence on wrong images)."""
    return {seed: metric.unit.factor * run.values[metric.name] for seed, run in by_seed.items() if metric.name in run.values}


def number_form(metric: Metric, sign: str = "") -> str:
    """Returns the format of the metric's numbers; `sign="+"` for differences."""
    return f"{{:{sign}.{metric.unit.digits}f}}"


def mean_or_nan(values: Collection[float]) -> float:
    """Returns the mean, NaN of nothing."""
    return fmean(values) if values else math.nan


def _with_spread(estimate: Estimate, digits: int) -> str:
    spread = "" if estimate.spread is None else f" ± {estimate.spread:.{digits}f}"
    return number(estimate.mean, f"{{:.{digits}f}}") + spread


def _interval(estimate: Estimate, form: str) -> str:
    if estimate.interval is None:
        return f"none (n = {estimate.n})" if estimate.n < 2 else "none (no spread)"
    return " to ".join(number(bound, form) for bound in estimate.interval)


def number(value: float, form: str) -> str:
    """Returns "-" for NaN, and no minus sign if the value rounds to 0."""
    if math.isnan(value):
        return "-"
    text = form.format(value)
    return form.format(0.0) if float(text) == 0 else text
