"""Losses compared over finished runs: `python scripts/compare.py runs` (tables; a page with curves in runs/comparison)."""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # also where the project is not installed

from vgg_nll.cli.launch import errors_as_lines
from vgg_nll.comparison import report, runs
from vgg_nll.errors import CheckpointError, ConfigError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, default=[Path("runs")], help="run or sweep folders (default: runs)")
    parser.add_argument(
        "--output", type=Path, help="where the page goes (default: comparison/ in the folder, or where all of them are)"
    )
    args = parser.parse_args()
    with errors_as_lines():
        finished, left_out = runs.find(args.folders)
        for line in left_out:
            print(line, file=sys.stderr)
        if not finished:
            raise CheckpointError("no finished runs there (a finished run folder holds DONE and metrics.json)")
        made = report.make(finished, left_out)
        print(made.printed())
        output = args.output if args.output is not None else _place(args.folders) / "comparison"
        try:
            made.write(output)
        except OSError as error:
            raise ConfigError(f"{output}: cannot be written ({error.strerror}); --output FOLDER takes another place") from error
        print(f"written to {output}")


def _place(folders: list[Path]) -> Path:
    return folders[0] if len(folders) == 1 else Path(os.path.commonpath([folder.resolve() for folder in folders]))


if __name__ == "__main__":
    main()
