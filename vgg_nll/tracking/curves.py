"""Event files -> curves."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event

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
    for path in sorted(folder.glob("events.out.tfevents.*")):
        if not path.is_file() or not os.access(path, os.R_OK):
            continue
        for record in RawEventFileLoader(str(path)).Load():
            event = Event.FromString(record)
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":
                    values[value.tag][event.step] = value.simple_value
    return {tag: sorted(by_step.items()) for tag, by_step in values.items()}


def across(runs: Sequence[Mapping[str, Curve]], tag: str) -> list[Point]:
    """Mean, least and greatest value over the runs that have this curve, at the steps that all of those have."""
    curves = [dict(run[tag]) for run in runs if tag in run]
    if not curves:
        return []
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    columns = [[curve[step] for curve in curves] for step in steps]
    return [Point(step, sum(c) / len(c), min(c), max(c)) for step, c in zip(steps, columns, strict=True)]
