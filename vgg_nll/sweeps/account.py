"""Every job of a sweep, accounted for: for those who compare its runs."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from vgg_nll.errors import CheckpointError
from vgg_nll.escapes import printable
from vgg_nll.sweeps import record, status

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
        states = {job: status.of(sweep.folder_of(job)).state for job in sweep.jobs.values()}
        words = Counter(MISSING if state == status.WAITING else state for state in states.values())
        counts = ", ".join(f"{count} {state}" for state, count in words.most_common())
        lines.append(printable(f"{path.parent}: {len(states)} jobs: {counts}"))
        missing += [
            printable(f"left out, missing: {sweep.folder_of(job)}") for job, state in states.items() if state == status.WAITING
        ]
    return lines, missing
