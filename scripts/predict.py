"""Predicts the classes of pictures: `python scripts/predict.py RUN picture.jpg folder`.

Files that cannot be read are named and left out; the exit code is 3 then.
"""

import argparse
import csv
import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vgg_nll.cli.console import write_any_text
from vgg_nll.cli.error_messages import errors_as_lines
from vgg_nll.cli.scripts import check_run, count, fraction, temperature, warn_of_temperature
from vgg_nll.data.pictures.walk import find_pictures
from vgg_nll.errors import CheckpointError, ConfigError, DataError
from vgg_nll.escapes import csv_cell, printable
from vgg_nll.evaluation.report import complement

if TYPE_CHECKING:
    from vgg_nll.inference.predict import Prediction

MAX_WARNINGS = 10
FIRST_ROWS = 64  # of the table, which give the widths of its columns
SMALL = 5e-5  # would read as 0.0000, or 1.0000


def main() -> None:
    write_any_text()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("pictures", nargs="*", type=Path, help="picture files, and folders of them")
    parser.add_argument("--top", type=count, default=3, help="classes a picture (3)")
    parser.add_argument("--checkpoint", default="best", choices=["best", "last", "previous"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-size", type=count, default=64, help="pictures that go through the network at once (64)")
    parser.add_argument(
        "--temperature",
        type=temperature,
        nargs="?",
        const="saved",
        default="1",
        metavar="T",
        help="divide the logits by T, a number; without T, by the one that scripts/evaluate.py saved",
    )
    parser.add_argument(
        "--threshold",
        type=fraction,
        default=0.0,
        metavar="P",
        help="confidence below which the prediction is 'unsure' (0)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="a list of objects, instead of a table")
    form.add_argument("--csv", action="store_true", help="a row per picture and class, instead of a table")
    args = parser.parse_args()
    if not args.pictures:
        parser.error("name pictures, or folders of them")
    unreadable: list[str] = []
    with errors_as_lines():
        check_run(args.run, args.device, args.temperature)
        paths = find_pictures(args.pictures)
        from vgg_nll.inference import predict, trained_model  # here: they load PyTorch, and mistakes should not wait for that
        from vgg_nll.inference.saved_temperature import temperature_of
        from vgg_nll.progress import track

        trained = trained_model.load(args.run, args.checkpoint, args.device)
        at_temperature, doubt = temperature_of(trained, args.temperature)
        warn_of_temperature(doubt)
        splits = known_splits(args.run, paths)
        found = predict.predict_files(
            trained, paths, top_k=args.top, temperature=at_temperature, batch_size=args.batch_size, threshold=args.threshold
        )
        table = partial(write_table, splits=splits, has_threshold=args.threshold > 0)
        write = write_json if args.json else write_csv if args.csv else table
        # On a terminal, the rows themselves show the progress, and a bar between them would write over them.
        counted = found if sys.stdout.isatty() else track(found, len(paths), "pictures")
        write(readable(counted, unreadable))
    if unreadable:
        print("\n".join(f"warning: {message}" for message in unreadable[:MAX_WARNINGS]), file=sys.stderr)
        print(f"warning: {len(unreadable)} of {len(paths)} files were left out", file=sys.stderr)
        sys.exit(3)


def known_splits(run: Path, paths: Sequence[Path]) -> dict[Path, str]:
    """Returns the splits of the run's own pictures; says how many of them it was trained on, or why nobody knows."""
    from vgg_nll.inference.pictures import splits_of

    try:
        splits = splits_of(run, paths)
    except (CheckpointError, ConfigError, DataError) as error:
        print(f"warning: which of these pictures the run was trained on is not known: {error}", file=sys.stderr)
        return {}
    trained_on = list(splits.values()).count("train")
    if trained_on:
        print(
            f"warning: the run was trained on {trained_on:,} of these {len(paths):,} pictures: it has seen their labels",
            file=sys.stderr,
        )
    return splits


def readable(found: "Iterator[Prediction | str]", unreadable: list[str]) -> "Iterator[Prediction]":
    """Yields the predictions; appends the messages to `unreadable`."""
    for item in found:
        if isinstance(item, str):
            unreadable.append(item)
        else:
            yield item


def write_table(found: "Iterator[Prediction]", splits: Mapping[Path, str] = {}, has_threshold: bool = False) -> None:
    """Writes a row per picture under a header, as they come; a column is as wide as the first rows need.

    Args:
        splits: of the run's own pictures, by path; without any, there is no column of them.
        has_threshold: whether the prediction, which may be "unsure", has a column.
    """
    rows = (
        [
            shown(item.path),
            *[printable(item.prediction)] * has_threshold,
            *cells(item),
            *[splits.get(item.path, "")] * bool(splits),
        ]
        for item in found
    )
    first = list(itertools.islice(rows, FIRST_ROWS))
    if not first:
        return
    others = len(first[0]) - 2 - has_threshold - bool(splits)  # classes
    head = ["picture", *["prediction"] * has_threshold, "class", *(f"{k}." for k in range(2, others + 1)), "margin"]
    head += ["split"] * bool(splits)
    widths = [max(map(len, column)) for column in zip(head, *first, strict=True)]
    for row in itertools.chain([head], first, rows):
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def cells(item: "Prediction") -> list[str]:
    """Returns the cells of a row that every table has: the classes with their outputs, the margin."""
    rest = complement(item.margin)
    first = f"1 - {rest:.1e}" if rest < SMALL else probability_text(item.confidence[0])  # never a rounded 1
    outputs = [first, *map(probability_text, item.confidence[1:])]
    classes = [f"{printable(name)} {output}" for name, output in zip(item.classes, outputs, strict=True)]
    return [*classes, f"{item.margin:.2f}"]


def probability_text(p: float) -> str:
    """Returns a probability with four digits, never a rounded 0."""
    return f"{p:.4f}" if p >= SMALL or p == 0 else f"{p:.1e}"


def write_json(found: "Iterator[Prediction]") -> None:
    json.dump([{**vars(item), "path": str(item.path)} for item in found], sys.stdout, indent=2)
    print()


def write_csv(found: "Iterator[Prediction]") -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["path", "rank", "class", "confidence", "margin", "prediction"])
    for item in found:
        for rank, (name, p) in enumerate(zip(item.classes, item.confidence, strict=True), 1):
            row = [csv_cell(shown(item.path)), rank, csv_cell(printable(name)), p, item.margin]
            writer.writerow([*row, csv_cell(printable(item.prediction))])


def shown(path: Path) -> str:
    """Returns a path on one line; the bytes of a name that is no text stay, so that a script finds the file."""
    return "".join(c if "\udca0" <= c <= "\udcff" else printable(c) for c in str(path))


if __name__ == "__main__":
    main()
