"""Makes the tables of docs/performance.md (from docs/measured) and docs/tensorboard.md: `python scripts/tables.py`."""

import argparse
from pathlib import Path

from vgg_nll.cli.console import write_any_text
from vgg_nll.cli.error_messages import errors_as_lines

DOCS = Path(__file__).resolve().parents[1] / "docs"


def main() -> None:
    write_any_text()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--page",
        type=Path,
        nargs="+",
        default=[DOCS / "performance.md", DOCS / "tensorboard.md"],
        help="it holds <!-- table: NAME --> ... <!-- end -->",
    )
    parser.add_argument("--measured", type=Path, default=DOCS / "measured", help="a folder of NAME.json")
    args = parser.parse_args()
    with errors_as_lines():
        from vgg_nll.benchmarks.tables import filled
        from vgg_nll.files import atomic_write

        for page in args.page:
            atomic_write(page, filled(page.read_text(encoding="utf-8"), args.measured))


if __name__ == "__main__":
    main()
