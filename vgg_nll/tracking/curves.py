"""Event files -> curves."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event

from vgg_nll.tracking.event_files import event_files

Curve = Sequence[tuple[int, float]]  # (optimizer step, value), in order of steps


class Point(NamedTuple):
    """Of several curves at one step."""

    step: int
    mean: float
    least: float
    greatest: float


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> curve, from all event files of a run (a resumed one has several), in the order of their names, which is that of
    time. Of several values for one step the last one written counts. A file is read up to its first damaged record.
    Nothing from files that cannot be opened.
    """
    values: dict[str, dict[int, float]] = defaultdict(dict)
    for event in _events(folder):
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                values[value.tag][event.step] = value.simple_value
    return {tag: sorted(by_step.items()) for tag, by_step in values.items()}


def clock(folder: Path, tag: str) -> list[tuple[int, float]]:
    """(step, seconds since 1970) of every point of a curve, in the order in which they were written."""
    return [(event.step, event.wall_time) for event in _events(folder) if any(v.tag == tag for v in event.summary.value)]


def _events(folder: Path) -> Iterator[Event]:
    for path in event_files(folder):
        if path.is_file() and os.access(path, os.R_OK):
            for record in RawEventFileLoader(str(path)).Load():
                yield Event.FromString(record)


def across(runs: Sequence[Mapping[str, Curve]], tag: str) -> list[Point]:
    """Mean, least and greatest value over the runs that have this curve, at the steps that all of those have."""
    curves = [dict(run[tag]) for run in runs if tag in run]
    if not curves:
        return []
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    columns = [[curve[step] for curve in curves] for step in steps]
    return [Point(step, sum(c) / len(c), min(c), max(c)) for step, c in zip(steps, columns, strict=True)]
