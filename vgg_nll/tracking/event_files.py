"""The event files of a run that goes on: what is done again is taken out of them first."""

import io
import logging
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.summary.writer.record_writer import RecordWriter

from vgg_nll.tracking import tags

FRAME_BYTES = 16  # around a record: its length in 8 bytes, two checksums
log = logging.getLogger(__name__)


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
