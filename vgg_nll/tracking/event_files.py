"""The event files of a run that goes on: what is done again is taken out of them first, and a new one comes last."""

import io
import logging
import time
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import SummaryWriter

from vgg_nll.tracking import tags

PREFIX = "events.out.tfevents."  # the second, the machine, the process and a number follow
FRAME_BYTES = 16  # around a record: its length in 8 bytes, two checksums
log = logging.getLogger(__name__)


def open_last(folder: Path, first_step: int) -> SummaryWriter:
    """Opens a new event file, the last one by name: readers take files in that order, and a TensorBoard that is open never
    looks at one before the one that it is at.

    Waits for the next second where that is all it needs; where the clock has been set back, one warning.
    """
    earlier = event_files(folder)
    writer = _open(folder, first_step)
    if not earlier or event_files(folder)[-1] != earlier[-1]:
        return writer
    second = earlier[-1].name.removeprefix(PREFIX).partition(".")[0]
    ahead = int(second) + 1 - time.time() if second.isdecimal() else 0.0
    if ahead > 1:
        log.warning(f"warning: the clock is {ahead:.0f} s behind this run's curves: restart TensorBoard to see what follows")
    elif ahead > 0:
        writer.close()
        for path in set(event_files(folder)) - set(earlier):
            path.unlink()
        time.sleep(ahead)
        writer = _open(folder, first_step)
    return writer


def event_files(folder: Path) -> list[Path]:
    """Those of a run, in the order in which readers take them."""
    return sorted(folder.glob(f"{PREFIX}*"))


def _open(folder: Path, first_step: int) -> SummaryWriter:
    # A TensorBoard that has read the points that are done again hides them.
    return SummaryWriter(str(folder), purge_step=first_step if first_step > 1 else None, flush_secs=5)


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
