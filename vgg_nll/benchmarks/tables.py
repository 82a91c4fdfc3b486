"""Tables of measurements in a page, made from the JSON files that `scripts/benchmark.py --out` and `make gpu` write."""

import json
import re
from pathlib import Path
from typing import Any

from vgg_nll.errors import DataError
from vgg_nll.evaluation.report import format_table

# <!-- table: <file without .json> --> ... <!-- end -->
TABLE = re.compile(r"(<!-- table: (?P<name>[\w/.-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str, folder: Path) -> str:
    """Returns a page with each of its tables made anew from the file `<folder>/<name>.json`, and what the figures are of.

    Raises DataError if a file is not there, or has no rows.
    """

    def table(match: re.Match[str]) -> str:
        return f"{match[1]}\n{_table(folder / (match['name'] + '.json'))}\n\n{match[3]}"

    return TABLE.sub(table, page)


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
