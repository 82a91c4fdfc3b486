"""What a sweep prints at its end: a table of its jobs, and what to do next."""

import shlex
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from vgg_nll.config.compose import names_of
from vgg_nll.escapes import printable
from vgg_nll.evaluation.registry import METRICS
from vgg_nll.evaluation.report import format_table
from vgg_nll.sweeps import record
from vgg_nll.sweeps.job_names import Job
from vgg_nll.sweeps.record import Sweep
from vgg_nll.sweeps.status import DONE_WITH, FAILED, Status
from vgg_nll.tracking import dashboard

MAX_ROWS = 40
COLUMNS = [METRICS[name] for name in ("accuracy", "nll_argmax", "ece")]


def print_dashboard(folder: Path) -> None:
    """Prints how to look at the curves of a sweep."""
    print(f"curves: {dashboard.command(folder)}\n{dashboard.link(names_of('loss'))}", flush=True)


def print_summary(sweep: Sweep, statuses: Mapping[Job, Status], number: int, command: str) -> None:
    """Prints the best jobs first, the states of all, and every error.

    Args:
        number: of jobs that the sweep has in all; command: the one that continues it.
    """
    done = sorted(statuses.items(), key=lambda item: -item[1].score)
    rows = []
    for job, status in done[:MAX_ROWS]:
        split = "test" if "test/accuracy" in status.metrics else "val"
        cells = [(status.metrics.get(f"{split}/{metric.name}"), metric.unit.factor) for metric in COLUMNS]
        numbers = ["-" if value is None else f"{factor * value:.4g}" for value, factor in cells]
        objective = "-" if status.objective is None else f"{status.metric.unit.factor * status.objective:.4g}"
        seconds = "-" if status.seconds is None else f"{status.seconds:.0f}"
        rows.append([job.name, status.state, objective, *numbers, seconds])
    objectives = dict.fromkeys(status.metric.head for status in statuses.values() if status.objective is not None)
    head = [
        "job",
        "state",
        f"validation {' or '.join(objectives) or 'objective'}",
        *(f"test {metric.head}" for metric in COLUMNS),
        "seconds",
    ]
    if rows:
        print(f"\n{format_table(head, rows, markdown=False)}")
    if len(done) > MAX_ROWS:
        print(f"and {len(done) - MAX_ROWS} more")
    counts = Counter(status.state for status in statuses.values())
    counts["not started"] = max(0, number - len(statuses))
    print(
        f"\n{', '.join(f'{count} {state}' for state, count in counts.items() if count)}; all in {sweep.folder / record.TABLE}"
    )
    quoted = shlex.quote(str(sweep.folder))
    print_dashboard(sweep.folder)
    print(f"compare: python scripts/compare.py {quoted}")
    if any(status.state not in DONE_WITH for status in statuses.values()) or counts["not started"]:
        print(printable(f"continue with: {command}"), file=sys.stderr)
    for job, status in statuses.items():
        if status.state == FAILED:
            print(printable(f"error: {job.name}: {status.reason}"), file=sys.stderr)
