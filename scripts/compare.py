"""Compares losses over finished runs: `python scripts/compare.py runs` (prints tables; the whole report in runs/comparison)."""

import argparse
import os
import sys
from pathlib import Path

from vgg_nll.cli.console import write_any_text
from vgg_nll.cli.error_messages import errors_as_lines
from vgg_nll.errors import CheckpointError, ConfigError
from vgg_nll.run_folder import paths
from vgg_nll.sweeps.status import account


def main() -> None:
    write_any_text()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, default=[Path("runs")], help="run or sweep folders (default: runs)")
    parser.add_argument("--output", type=Path, help="folder of the report (default: comparison/ in the common parent folder)")
    parser.add_argument(
        "--by",
        default="loss",
        metavar="KEY",
        help="compare over another key: model, optimizer, schedule, trainer.epochs, ... (loss)",
    )
    parser.add_argument(
        "--best", metavar="KEY", help="each loss at its own best value of a key, chosen on the validation images: lr, ..."
    )
    args = parser.parse_args()
    with errors_as_lines():
        paths.check_folders(args.folders)
        # Here: they load matplotlib and PyTorch, and mistakes should not wait for that.
        from vgg_nll.comparison import folds, report, runs, selection
        from vgg_nll.inference.pictures import read_pictures

        sweeps, missing = account(args.folders)
        finished, left_out = runs.find(args.folders)
        finished, incomplete = folds.join_folds(finished)
        left_out = [*left_out, *incomplete, *missing]
        for line in sweeps:
            print(line, file=sys.stderr)
        for line in left_out:
            print(line, file=sys.stderr)
        if not finished:
            folders = ", ".join(map(str, args.folders))
            finished_is = f"the folder of a finished run holds {paths.DONE} and {paths.METRICS}"
            raise CheckpointError(f"{folders}: no finished run there ({finished_is}); name another folder")
        chosen: list[str] = []
        if args.best is not None:
            finished, chosen = selection.at_best(finished, args.best)
        finished = selection.compare_over(finished, args.by)
        made = report.make(finished, left_out, sweeps, chosen, read_pictures)
        print(made.printed())
        output = args.output if args.output is not None else _common_folder(args.folders) / "comparison"
        try:
            made.write(output)
        except OSError as error:
            raise ConfigError(f"{output}: cannot be written ({error.strerror}); choose another folder with --output") from error
        print(f"written to {output}")


def _common_folder(folders: list[Path]) -> Path:
    return folders[0] if len(folders) == 1 else Path(os.path.commonpath([folder.resolve() for folder in folders]))


if __name__ == "__main__":
    main()
