"""Finished runs as a table: `python scripts/compare.py runs` (Markdown, one row per data set, model, loss and settings)."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # also where the project is not installed

from vgg_nll.report import comparison_table, find_runs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, default=[Path("runs")], help="run or sweep folders")
    runs = find_runs(parser.parse_args().folders)
    if not runs:
        print("error: no finished runs there (a finished run folder holds DONE and metrics.json)", file=sys.stderr)
        return 1
    print(comparison_table(runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
