"""What a run's network is worth: `python scripts/evaluate.py RUN` (a table; JSON and pictures in RUN/evaluation)."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # also where the project is not installed

from vgg_nll.cli.launch import errors_as_lines
from vgg_nll.evaluation import metrics, report
from vgg_nll.inference import evaluate, trained_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--split", default="test", help="train, val or test (the default)")
    parser.add_argument("--checkpoint", default="best", choices=["best", "last", "previous"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-size", type=int, help="images that go through the network at once (the run's eval_batch_size)")
    parser.add_argument("--data-root", help="where the data is, if it has moved (the run's data.root)")
    parser.add_argument(
        "--temperature",
        nargs="?",
        const="fit",
        metavar="T",
        help="also with the logits divided by T, a number, or 'saved'; without T, by the number that fits the validation "
        "images best, which is saved in the run",
    )
    args = parser.parse_args()
    if args.batch_size is not None and args.batch_size < 1:
        parser.error("--batch-size must be at least 1")
    with errors_as_lines():
        run = evaluate.open_run(args.run, args.checkpoint, args.device, args.data_root, args.batch_size)
        evaluate.check_split(run, args.split)
        at = temperature_of(run, args.temperature)
        found = evaluate.evaluate(run, args.split)
        values = {args.split: metrics.compute(found[0])}
        if at != 1:
            found = evaluate.evaluate(run, args.split, at)
            values[f"{args.split} at T"] = metrics.compute(found[0])
        print(f"{args.run}, checkpoint {args.checkpoint}, step {run.network.step}\n{report.final_table(values)}\n", flush=True)
        print(f"written to {evaluate.write(run, args.split, values, found, at)}")


def temperature_of(run: evaluate.Run, wish: str | None) -> float:
    if wish is None:
        return 1.0
    if wish != "fit":
        return trained_model.read_temperature(run.network, wish)
    fitted = evaluate.fit_temperature(run)
    if fitted is None:
        print("no temperature: the validation images are all right (or all wrong), and sharper (softer) is always better")
        return 1.0
    trained_model.write_temperature(run.network, fitted)
    print(
        f"temperature {fitted:.4f}, fitted to {run.data.sizes['val']} validation images, saved in {trained_model.TEMPERATURE}"
    )
    return fitted


if __name__ == "__main__":
    main()
