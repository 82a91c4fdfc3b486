"""What became of a job, as its run folder says."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vgg_nll.errors import CheckpointError
from vgg_nll.escapes import printable
from vgg_nll.evaluation.best_step import CRITERIA
from vgg_nll.evaluation.registry import METRICS, Metric
from vgg_nll.files import read_regular_file, write_csv
from vgg_nll.run_folder import checked_json, paths
from vgg_nll.sweeps import record
from vgg_nll.sweeps.job_names import Job
from vgg_nll.sweeps.record import Sweep

FINISHED, PRUNED, FAILED, RUNNING, INTERRUPTED, WAITING = "finished", "pruned", "failed", "running", "interrupted", "waiting"
DONE_WITH = (FINISHED, PRUNED)  # not to be run again
BEST = "accuracy"  # what a run from before `trainer.best` chose its best step by
MAX_BYTES = 4096


@dataclass(frozen=True)
class Status:
    """State of one job.

    Attributes:
        reason: of a job that failed or was pruned, in one line.
        objective: of a finished job, what its `trainer.best` names, on the validation images; None for the others.
        best: its `trainer.best`.
        metrics: "val/accuracy", ... of a finished job.
    """

    state: str
    reason: str = ""
    objective: float | None = None
    seconds: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    best: str = BEST

    @property
    def metric(self) -> Metric:
        """Returns the metric that the objective is."""
        return METRICS[CRITERIA[self.best][0]]

    @property
    def score(self) -> float:
        """Returns the objective, or its negative if less is better; -inf if there is none."""
        sign = 1 if CRITERIA[self.best][1] else -1
        return -math.inf if self.objective is None else sign * self.objective


def of(folder: Path, *, look_for_processes: bool = True) -> Status:
    """Returns the status of the job with this run folder.

    Args:
        look_for_processes: tells a running job from an interrupted one, by its lock.
    """
    for marker, state in ((paths.PRUNED, PRUNED), (paths.FAILED, FAILED)):
        if (folder / marker).is_file():
            return Status(state, _line(folder / marker))
    if (folder / paths.DONE).is_file():
        return _finished(folder)
    if look_for_processes and paths.is_running(folder):
        return Status(RUNNING)
    begun = paths.has_checkpoint(folder) or (folder / paths.RUN).is_file()
    return Status(INTERRUPTED if begun else WAITING)


def _finished(folder: Path) -> Status:
    try:
        record, run_id = checked_json.read_with_id(folder / paths.RUN) if (folder / paths.RUN).is_file() else ({}, None)
        content = checked_json.read(folder / paths.METRICS, run_id)
    except CheckpointError as error:
        return Status(FAILED, str(error))
    metrics = {f"{split}/{name}": float(value) for split in ("val", "test") for name, value in _numbers(content.get(split))}
    seconds = dict(_numbers({"seconds": content.get("seconds")})).get("seconds")
    match record:
        case {"config": {"trainer": {"best": str(best)}}} if best in CRITERIA:
            pass
        case _:
            best = BEST
    return Status(FINISHED, "", metrics.get(f"val/{CRITERIA[best][0]}"), seconds, metrics, best)


def _numbers(values: Any) -> list[tuple[str, float]]:
    items = values.items() if isinstance(values, dict) else ()
    return [(name, value) for name, value in items if isinstance(value, (int, float)) and not isinstance(value, bool)]


def _line(path: Path) -> str:
    try:
        return " ".join(read_regular_file(path, MAX_BYTES).decode(errors="replace").split())
    except (OSError, ValueError) as error:
        return f"{path.name} cannot be read ({error})"


def write_table(sweep: Sweep, statuses: Mapping[Job, Status]) -> None:
    """Writes `sweep.csv`: a row per job of the sweep, whole."""
    rows = [(job, statuses[job]) for job in sweep.jobs.values() if job in statuses]
    names = sorted({name for _, status in rows for name in status.metrics}, key=_order)
    head = ("job", "overrides", "state", "objective", "seconds", "error", *names)
    cells = []
    for job, status in rows:
        first = (job.name, " ".join(job.overrides), status.state, status.objective, status.seconds, status.reason)
        cells.append((*first, *map(status.metrics.get, names)))
    write_csv(sweep.folder / record.TABLE, head, cells)


def _order(name: str) -> tuple[bool, str]:
    """Test metrics before those of validation."""
    return name.startswith("val/"), name


MISSING = "missing"  # what a job that never began is to a comparison


def account(folders: Iterable[Path]) -> tuple[list[str], list[str]]:
    """Returns a line for each sweep in and below the folders: how many of its jobs are finished, failed, ...; and a line for
    each job that has no run folder that a comparison would see."""
    lines, missing = [], []
    for path in sorted({path.resolve(): path for folder in folders for path in folder.rglob(record.RECORD)}.values()):
        try:
            sweep = record.read(path.parent)
        except CheckpointError as error:
            missing.append(f"left out: {error}")
            continue
        states = {job: of(sweep.folder_of(job)).state for job in sweep.jobs.values()}
        words = Counter(MISSING if state == WAITING else state for state in states.values())
        counts = ", ".join(f"{count} {state}" for state, count in words.most_common())
        lines.append(printable(f"{path.parent}: {len(states)} jobs: {counts}"))
        missing += [
            printable(f"left out, missing: {sweep.folder_of(job)}") for job, state in states.items() if state == WAITING
        ]
    return lines, missing
