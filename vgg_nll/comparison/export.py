"""Runs and their curves as CSV files, for pandas, R and spreadsheets."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vgg_nll.comparison.runs import Run
from vgg_nll.files import write_csv
from vgg_nll.tracking.event_files import Curve

RUNS, CURVES = "runs.csv", "curves.csv"
OWN_COLUMNS = ("seed.", "resume.", "resume_strict.")


def write_runs(path: Path, runs: Sequence[Run]) -> None:
    """Writes a row per run: its folder, what it is, every setting in which the runs differ, every metric."""
    keys = sorted({key for run in runs for key in run.config if not f"{key}.".startswith(OWN_COLUMNS)})
    keys = [key for key in keys if len({run.config.get(key) for run in runs}) > 1]
    metrics = sorted({name for run in runs for name in run.values})
    head = ("run", "data", "model", "loss", "seed", "device", "precision", "seconds", "split", *keys, *metrics)
    rows = (
        (
            *(str(run.folder), run.data, run.model, run.loss, run.seed, run.provenance["device"], run.provenance["precision"]),
            *(run.seconds, run.split, *(run.config.get(key, "") for key in keys)),
            *(run.values.get(name, "") for name in metrics),
        )
        for run in runs
    )
    write_csv(path, head, rows)


def write_curves(path: Path, curves: Mapping[Path, Mapping[str, Curve]]) -> None:
    """Writes a row per point of every curve: run, tag, step, value."""
    rows = (
        (str(run), tag, step, value) for run, by_tag in curves.items() for tag in sorted(by_tag) for step, value in by_tag[tag]
    )
    write_csv(path, ("run", "tag", "step", "value"), rows)
