"""What a run's network is worth: `python scripts/evaluate.py RUN` (a table; JSON and a picture in RUN/evaluation)."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # also where the project is not installed

from vgg_nll import evaluation, metrics, report
from vgg_nll.command import errors_as_lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--split", default="test", help="train, val or test (the default)")
    parser.add_argument("--checkpoint", default="best", choices=["best", "last", "previous"])
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--temperature", action="store_true", help="divide the logits by the number that fits the validation images best"
    )
    args = parser.parse_args()
    with errors_as_lines():
        run = evaluation.open_run(args.run, args.checkpoint, args.device)
        sums, at = evaluation.evaluate(run, args.split), 1.0
        values = {args.split: metrics.compute(sums)}
        fitted = evaluation.fit_temperature(run) if args.temperature else None
        if fitted is not None:
            at, sums = fitted, evaluation.evaluate(run, args.split, fitted)
            values[f"{args.split} at T"] = metrics.compute(sums)
            print(f"temperature {at:.4f}, fitted to {run.data.sizes['val']} validation images")
        elif args.temperature:
            print("no temperature: the validation images are all right (or all wrong), and sharper (softer) is always better")
        print(f"{args.run}, checkpoint {args.checkpoint}, step {run.step}\n{report.final_table(values)}")
        print(f"\nwritten to {evaluation.write(run, args.split, values, sums, at)}")


if __name__ == "__main__":
    main()
