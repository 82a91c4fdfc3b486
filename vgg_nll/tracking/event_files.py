"""Event files: read back as curves, and purged of the steps that a resumed run repeats."""

import contextlib
import io
import logging
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SourceMetadata
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import SummaryWriter

from vgg_nll.errors import CheckpointError
from vgg_nll.files import atomic_write
from vgg_nll.run_folder import paths
from vgg_nll.tracking import tags

Curve = Sequence[tuple[int, float]]  # (optimizer step, value), in order of steps
FRAME_BYTES = 16  # around a record: its length in 8 bytes, two checksums
COPY = "copy it again if it is whole elsewhere"
log = logging.getLogger(__name__)


def event_files(folder: Path) -> list[Path]:
    """Returns the event files of a run in TensorBoard's order: by name, and so by the second of their start."""
    return sorted(folder.glob(paths.EVENT_FILES))


def write_mark(writer: SummaryWriter, step: int, run_id: str) -> None:
    """Writes an event without content: everything up to `step` is in the file. It shows later whether some was cut off."""
    writer._get_file_writer().add_event(Event(source_metadata=SourceMetadata(writer=run_id)), step)


def purge_run(folder: Path, first_step: int, first_validation: int | None = None, run_id: str = "") -> bool:
    """Purges all event files of a run, for a start at `first_step`; returns whether they hold all points before it.

    Every file begins with the mark of the step from which it continues, which an earlier file must hold, too.
    """
    marks, whole = {0}, True
    for path in event_files(folder):
        found = purge_events(path, first_step, first_validation, run_id)
        whole = whole and found is not None and (not found or found[0] in marks)
        marks.update(found or [])
    return whole and first_step - 1 in marks


def purge_events(path: Path, first_step: int, first_validation: int | None = None, run_id: str = "") -> list[int] | None:
    """Deletes from an event file what a resumed run writes again, and a record that a kill left incomplete; returns the marks.

    That is every event of `first_step` and later, and validations of `first_validation` and later: the state of a step may be
    saved before its validation is finished. The test split and the hyperparameters go, too: every start writes them again, and
    TensorBoard keeps the first ones that it finds. A file that cannot be read to its end for another reason is left as it is,
    and so is that of another run, for which None is returned.
    """
    kept, content, read = io.BytesIO(), path.read_bytes(), 0
    marks = []
    writer = RecordWriter(kept)
    first_validation = first_step if first_validation is None else first_validation
    for record in RawEventFileLoader(str(path)).Load():
        read += len(record) + FRAME_BYTES
        event = Event.FromString(record)
        is_mark = _is_mark(event)
        if is_mark and event.source_metadata.writer != run_id:
            if first_step > 1:
                return None
            continue  # of a start before this one, which never saved anything
        if event.step < first_step and not _is_repeated(event, first_validation):
            writer.write(record)
            marks += [event.step] if is_mark else []
    rest = content[read:]
    length, checksum = int.from_bytes(rest[:8], "little"), int.from_bytes(rest[8:12], "little")
    torn = len(rest) < 12 or (masked_crc32c(rest[:8]) == checksum and length + FRAME_BYTES > len(rest))
    if not torn:
        log.warning(f"warning: {path} is damaged: the points after the damage stay, and repeated steps have two points")
        return marks
    if kept.getvalue() != content:
        atomic_write(path, kept.getvalue())
    return marks


def _is_repeated(event: Event, first_validation: int) -> bool:
    """Returns whether a resumed run writes this event again, although it is of an earlier step than its first."""
    names = [value.tag for value in event.summary.value]
    if any(name.startswith((tags.TEST, "_hparams_/")) for name in names):
        return True
    others = (*tags.TRAINING, *tags.AT_START)
    validations = any(
        name not in others and not name.startswith(tags.PUSH) and not name.endswith("/text_summary") for name in names
    )
    return validations and event.step >= first_validation


def read_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Returns tag -> curve, as `read_checked` does, of a folder of which nothing is known."""
    return read_checked(folder)[0]


def read_checked(folder: Path, run_id: str = "", last_step: int = 0) -> tuple[dict[str, list[tuple[int, float]]], list[str]]:
    """Returns tag -> curve, from all event files of a run (a resumed run has several); and a line for each problem.

    If a step has several values, the last one written counts. A file is read up to its first damaged record; one of another run
    gives nothing, and so does one that cannot be opened.

    Args:
        run_id: of the run; "" if it is not known: the files of any run are read.
        last_step: up to which the files of the run go, whether it was resumed or not; 0 if it is not known.
    """
    values: dict[str, dict[int, float]] = defaultdict(dict)
    problems, marks = [], list[list[int]]()
    for path in event_files(folder):
        marks.append([])
        try:
            for event in _events(path, run_id):
                marks[-1] += [event.step] if _is_mark(event) else []
                for value in event.summary.value:
                    if value.WhichOneof("value") == "simple_value":
                        values[value.tag][event.step] = value.simple_value
        except CheckpointError as error:
            problems.append(str(error))
    if not problems and any(marks) and not _are_complete(marks, last_step):
        problems.append(f"{folder}: an event file is missing or cut off, so its curves have gaps; {COPY}")
    return {tag: sorted(by_step.items()) for tag, by_step in values.items()}, problems


def write_curves(folder: Path, curves: Mapping[str, Curve]) -> None:
    """Writes curves into a new event file, in the place of all that are there.

    An open TensorBoard drops the points that it has read before. It would read no further if a file were removed, so the old
    ones stay, without content.
    """
    before = event_files(folder)
    with SummaryWriter(str(folder), purge_step=0) as writer:
        for tag, points in curves.items():
            for step, value in points:
                writer.add_scalar(tag, value, step)
    for path in before:
        path.write_bytes(b"")


def read_times(folder: Path, tag: str) -> list[tuple[int, float]]:
    """Returns (step, seconds since 1970) of every point of a curve, in the order in which the points were written."""
    found: list[tuple[int, float]] = []
    for path in event_files(folder):
        with contextlib.suppress(CheckpointError):
            for event in _events(path):
                found += [(event.step, event.wall_time) for value in event.summary.value if value.tag == tag]
    return found


def _events(path: Path, run_id: str = "") -> Iterator[Event]:
    """Yields the events of a file; then raises CheckpointError if they are not all, or stops with one if they are another's."""
    if not (path.is_file() and os.access(path, os.R_OK)):
        raise CheckpointError(f"{path}: cannot be read; {COPY}")
    read, step = 0, 0
    for record in RawEventFileLoader(str(path)).Load():
        event = Event.FromString(record)
        if run_id and _is_mark(event) and event.source_metadata.writer not in ("", run_id):
            raise CheckpointError(f"{path}: is of another run; remove it, or put the file of this run in its place")
        read, step = read + len(record) + FRAME_BYTES, max(step, event.step)
        yield event
    if read == 0 or read < path.stat().st_size:
        raise CheckpointError(f"{path}: is damaged, so the points after step {step} are missing; {COPY}")


def _is_mark(event: Event) -> bool:
    return event.WhichOneof("what") is None


def _are_complete(marks: Sequence[Sequence[int]], last_step: int) -> bool:
    """Returns whether a file reaches the last step, and each begins at a step that another one reached. In any order."""
    begins = all(
        not own or own[0] == 0 or any(own[0] in others for others in (*marks[:k], *marks[k + 1 :]))
        for k, own in enumerate(marks)
    )
    return begins and max(max(own, default=0) for own in marks) >= last_step
