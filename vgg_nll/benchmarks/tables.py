"""Tables in a page: of measurements, from the JSON files of `scripts/benchmark.py --out` and `make gpu`, and of all metrics."""

import json
import re
from pathlib import Path
from typing import Any

from vgg_nll.errors import DataError
from vgg_nll.evaluation.registry import METRICS, View
from vgg_nll.evaluation.report import format_table

METRICS_TABLE = "metrics"
# <!-- table: <file without .json>, or metrics --> ... <!-- end -->
TABLE = re.compile(r"(<!-- table: (?P<name>[\w/.-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str, folder: Path) -> str:
    """Returns a page with each of its tables made again: from the file `<folder>/<name>.json`, with what the figures are of, or
    from the rows of all metrics.

    Raises DataError if a file is not there, or has no rows.
    """

    def table(match: re.Match[str]) -> str:
        made = _metrics() if match["name"] == METRICS_TABLE else _table(folder / f"{match['name']}.json")
        return f"{match[1]}\n{made}\n\n{match[3]}"

    return TABLE.sub(table, page)


def _metrics() -> str:
    rows = []
    for metric in METRICS.values():
        also = f" `{metric.train_eval_tag}`" if View.TRAIN_EVAL in metric.views else ""
        meaning = re.sub(r"arXiv:([\d.]+)", r"[arXiv:\1](https://arxiv.org/abs/\1)", metric.meaning)
        tag = f"`{metric.tag or f'test/{metric.name}'}`" if View.FILES not in metric.views else "-"
        rows.append(f"| {tag}{also} | `{metric.name}` | {meaning} |")
    return "\n".join(("| tag | name | meaning |", "|---|---|---|", *rows))


def _table(file: Path) -> str:
    try:
        found: dict[str, Any] = json.loads(file.read_text())
        rows = found["results"]
        head = list(dict.fromkeys(name for row in rows for name in row))
        cells = [[str(row.get(name, "")) for name in head] for row in rows]
        versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
        source = f"`{found['words']}`: {found['device']}, {versions}, {found['date']}."
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file}: holds no result of a benchmark ({error}); scripts/benchmark.py --out writes one") from error
    if not rows:
        raise DataError(f"{file}: has no rows; its benchmark has failed")
    return f"{format_table(head, cells, markdown=True)}\n\n{source}"
