"""Evaluates a finished run: `python scripts/evaluate.py RUN` (a table; JSON and figures in RUN/evaluation)."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vgg_nll.cli.console import write_any_text
from vgg_nll.cli.error_messages import errors_as_lines
from vgg_nll.cli.scripts import check_run, count, temperature, warn_of_temperature
from vgg_nll.run_folder import paths

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vgg_nll.evaluation.loop import Evaluation
    from vgg_nll.inference.evaluate import FinishedRun


def main() -> None:
    write_any_text()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"], help="test is the default")
    parser.add_argument("--checkpoint", default="best", choices=["best", "last", "previous"])
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--batch-size", type=count, help="images that go through the network at once (the run's eval_batch_size)"
    )
    parser.add_argument("--data-root", help="where the data is, if it has moved (the run's data.root)")
    parser.add_argument(
        "--temperature",
        type=temperature,
        nargs="?",
        const="fit",
        metavar="T",
        help="also divide the logits by T: a number, or 'saved'; without T, by the number that fits the validation images "
        "best, which is saved in the run",
    )
    parser.add_argument(
        "--svs",
        action="store_true",
        help="also structured vector scaling, fitted to the validation images: may change predictions",
    )
    parser.add_argument("--flip", action="store_true", help="also the mean of the outputs for an image and its mirror image")
    args = parser.parse_args()
    with errors_as_lines():
        check_run(args.run, args.device, args.temperature or "1")
        from vgg_nll.evaluation import report, thresholds  # here: they load PyTorch, and mistakes should not wait for that
        from vgg_nll.inference import evaluate

        run = evaluate.open_run(args.run, args.checkpoint, args.device, args.data_root, args.batch_size)
        done = {args.split: evaluate.evaluate(run, args.split)}
        at_temperature = temperature_of(run, args.temperature)
        if at_temperature != 1:
            done[f"{args.split} at T"] = evaluate.evaluate(run, args.split, at_temperature)
        if args.flip:
            done[f"{args.split}, flip"] = evaluate.evaluate(run, args.split, at_temperature, flip=True)
        svs = with_vector_scaling(run, args.split, done[args.split]) if args.svs else {}
        shown = f"{args.data_root}, all of it" if run.is_new_data else args.split
        number = run.data.sizes[args.split]
        head = f"{args.run}, checkpoint {args.checkpoint}, step {run.trained.step}"
        table = table_of(done | svs, number, len(run.data.class_names))
        print(f"{head}; {number:,} images of {shown}\n{table}\n{report.few_images(number)}", flush=True)
        name, last = list(done.items())[-1]
        rows = thresholds.threshold_rows(last.sums.by_image())
        print(f"what a threshold of confidence costs ({name})\n{thresholds.threshold_table(rows)}\n", flush=True)
        print(f"written to {evaluate.write_evaluation(run, svs | done, args.split, at_temperature)}")


def table_of(done: "Mapping[str, Evaluation]", number: int, num_classes: int) -> str:
    from vgg_nll.evaluation.registry import View
    from vgg_nll.evaluation.report import final_table

    values = {name: evaluation.values for name, evaluation in done.items()}
    return final_table(
        values,
        dict.fromkeys(values, number),
        num_classes=num_classes,
        intervals=list(done.values())[-1].intervals,
        view=View.TABLE | View.EVALUATION,
    )


def temperature_of(run: "FinishedRun", given: str | None) -> float:
    from vgg_nll.inference import evaluate, saved_temperature

    if given == "fit":
        fitted = evaluate.fit_temperature(run)
        saved_temperature.write_temperature(run.trained, fitted)
        print(
            f"temperature {fitted.temperature:.4f} (95% interval {fitted.low:.3g} to {fitted.high:.3g}), fitted to "
            f"{fitted.images} validation images and saved in {paths.TEMPERATURE}"
        )
    at_temperature, doubt = saved_temperature.temperature_of(run.trained, "saved" if given == "fit" else given or "1")
    warn_of_temperature(doubt)
    return at_temperature


def with_vector_scaling(run: "FinishedRun", split: str, before: "Evaluation") -> dict[str, "Evaluation"]:
    from vgg_nll.inference import evaluate

    after = evaluate.evaluate(run, split, scaling=evaluate.fit_vector_scaling(run))
    changed = int((after.sums.by_image().prediction != before.sums.by_image().prediction).sum())
    fitted_to, tested = run.data.sizes["val"], run.data.sizes[split]
    print(f"SVS, fitted to {fitted_to:,} validation images, changes {changed:,} of {tested:,} predictions")
    return {f"{split} after SVS": after}


if __name__ == "__main__":
    main()
