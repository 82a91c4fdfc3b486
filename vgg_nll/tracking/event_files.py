"""The event files of a run that goes on: what is done again is taken out of them first, and a new one comes last."""

import io
import logging
import time
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.summary.writer.record_writer import RecordWriter

from vgg_nll.tracking import tags

PREFIX = "events.out.tfevents."  # the second, the machine, the process and a number follow
FRAME_BYTES = 16  # around a record: its length in 8 bytes, two checksums
log = logging.getLogger(__name__)


def event_files(folder: Path) -> list[Path]:
    """Those of a run, in the order in which readers take them: by name, and so by the second in which they were begun."""
    return sorted(folder.glob(f"{PREFIX}*"))


def put_in_the_past(folder: Path) -> None:
    """Renames event files that would sort behind one begun now: those of this very second, and those of a clock that has been
    set back since (then with a warning: a TensorBoard that is open does not find them by their new names).
    """
    now = time.time()
    ahead = 0.0
    for path in event_files(folder):
        second, _, rest = path.name.removeprefix(PREFIX).partition(".")
        if second.isdecimal() and int(second) >= int(now):
            # ~ sorts behind the names of machines, so behind what was begun in that second.
            path.rename(path.with_name(f"{PREFIX}{int(now) - 1:010d}.~{time.time_ns()}.{rest}"))
            ahead = int(second) - now
    if ahead > 1:
        log.warning(f"warning: the clock is {ahead:.0f} s behind this run's curves: restart a TensorBoard that is open")


def forget(path: Path, first_step: int) -> None:
    """Deletes from an event file what belongs to `first_step` and later, the test split and hyperparameters (TensorBoard keeps
    the first ones that it finds), which every start writes anew; and what a kill left torn.

    A file that cannot be read to its end for another reason is left as it is.
    """
    kept, content, read = io.BytesIO(), path.read_bytes(), 0
    writer = RecordWriter(kept)
    for record in RawEventFileLoader(str(path)).Load():
        read += len(record) + FRAME_BYTES
        event = Event.FromString(record)
        names = [value.tag for value in event.summary.value]
        if event.step < first_step and not any(name.startswith((tags.TEST, "_hparams_/")) for name in names):
            writer.write(record)
    rest = content[read:]
    length, checksum = int.from_bytes(rest[:8], "little"), int.from_bytes(rest[8:12], "little")
    torn = len(rest) < 12 or (masked_crc32c(rest[:8]) == checksum and length + FRAME_BYTES > len(rest))
    if not torn:
        log.warning(f"warning: {path} is damaged: the points behind that are left as they are, those done again stand twice")
        return
    if kept.getvalue() != content:
        unfinished = path.with_name(".unfinished")
        unfinished.write_bytes(kept.getvalue())
        unfinished.replace(path)
