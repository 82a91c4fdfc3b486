"""Trackers: TensorBoard, and its null twin, so that the loop never asks whether logging is on."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread
from torch.utils.tensorboard import SummaryWriter

from vgg_nll.tracking.event_files import purge_run, write_mark
from vgg_nll.tracking.summaries import Summary

log = logging.getLogger(__name__)
_show_thread_error = threading.excepthook


def _excepthook(args: threading.ExceptHookArgs) -> None:
    """Leaves the errors of TensorBoard's writing thread to the next call of its writer, which raises them again."""
    if not isinstance(args.thread, _AsyncWriterThread):
        _show_thread_error(args)


class Tracker(Protocol):
    """Takes the summaries of a run."""

    def add(self, summary: Summary, step: int) -> None:
        """Adds a summary at this optimizer step."""
        ...

    def flush(self, step: int) -> None:
        """Writes what was added so far: the state of this step is about to be saved, and stands for it."""
        ...

    def close(self) -> None:
        """Writes what is left."""
        ...


class TensorBoardTracker:
    """Writes one event file into `folder`.

    Args:
        first_step: the first step that will have points. In earlier files of the run, points from that step on are deleted, and
            so are those of the test split: a resumed run writes them again.
        first_validation: the first step whose validation is written again; None: `first_step`.
        run_id: the identity of the run, which its event files hold.
    """

    def __init__(self, folder: Path, first_step: int, first_validation: int | None = None, run_id: str = "") -> None:
        threading.excepthook = _excepthook
        self._run_id = run_id
        if not purge_run(folder, first_step, first_validation, run_id):
            log.warning(f"warning: {folder}: its curves have gaps: an event file is missing, cut off, or of another run")
        # An open TensorBoard that has read the deleted points hides them. The first process says so, too: TensorBoard takes the
        # first such message as the run's beginning, and only later ones as a restart. A new run's curves may begin at step 0.
        self._writer = SummaryWriter(str(folder), purge_step=first_step if first_step > 1 else 0, flush_secs=5)
        write_mark(self._writer, first_step - 1, run_id)

    def add(self, summary: Summary, step: int) -> None:
        summary.write(self._writer, step)

    def flush(self, step: int) -> None:
        write_mark(self._writer, step, self._run_id)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class NullTracker:
    """Takes everything, keeps nothing; has the same constructor as its twin."""

    def __init__(self, folder: Path, first_step: int, first_validation: int | None = None, run_id: str = "") -> None:
        pass

    def add(self, summary: Summary, step: int) -> None:
        pass

    def flush(self, step: int) -> None:
        pass

    def close(self) -> None:
        pass


class GuardedTracker:
    """Wraps a tracker so that its errors are warnings: no run is lost for a curve.

    A summary that cannot be drawn is left out, and the rest continues; if the disk refuses, nothing more is written.

    Args:
        make: is called when there is something to write: a run that does not begin leaves no file.
    """

    def __init__(self, make: Callable[[], Tracker]) -> None:
        self._make: Callable[[], Tracker] | None = make
        self._tracker: Tracker | None = None
        self._left_out: set[str] = set()

    def add(self, summary: Summary, step: int) -> None:
        if self._make is not None:
            make, self._make = self._make, None
            with self._giving_up():
                self._tracker = make()
        if self._tracker is None:
            return
        try:
            with self._giving_up(OSError):
                self._tracker.add(summary, step)
        except Exception as error:
            what = getattr(summary, "tag", type(summary).__name__)
            if what not in self._left_out:
                log.warning(f"warning: {what} is left out of TensorBoard, training continues: {type(error).__name__}: {error}")
            self._left_out.add(what)

    def flush(self, step: int) -> None:
        if self._tracker is not None:
            with self._giving_up():
                self._tracker.flush(step)

    def close(self) -> None:
        if self._tracker is not None:
            with self._giving_up():
                self._tracker.close()

    @contextlib.contextmanager
    def _giving_up(self, kind: type[Exception] = Exception) -> Iterator[None]:
        """Closes the tracker, with a warning, after an error of this kind in the block."""
        try:
            yield
        except kind as error:
            failed, self._tracker = self._tracker, None
            if failed is not None:
                with contextlib.suppress(Exception):
                    failed.close()  # writes what it took before
            log.warning(f"warning: no more curves from here on, training continues: tracking failed ({error})")
