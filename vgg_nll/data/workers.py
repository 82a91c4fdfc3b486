"""Batches from worker processes, some of which may die."""

import logging
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from vgg_nll.errors import DataError

log = logging.getLogger(__name__)


def iterate_with_worker_restart(load: Callable[[int], Iterable[Any]]) -> Iterator[Any]:
    """The batches of a loader. Where a worker process dies, new ones go on behind the batches that are `done`.

    Raises DataError where a picture cannot be read, and where workers die twice at one batch.
    """
    done, died_at = 0, -1
    batches: Iterator[Any]
    while True:
        try:
            with _own_child_handler():
                batches = iter(load(done))
            for batch in batches:
                yield batch
                done += 1
            return
        except DataError as error:  # from a worker, with the worker's traceback in its text
            line = str(error).strip().splitlines()[-1]
            raise DataError(line.removeprefix(f"{DataError.__module__}.DataError: ")) from error
        except (RuntimeError, ConnectionError, EOFError) as error:
            # The latter two: it died while handing over a batch. What a worker itself raises says "Caught ... in DataLoader".
            text = str(error)
            if "Caught" in text or (isinstance(error, RuntimeError) and "DataLoader worker" not in text):
                raise
            if died_at == done:
                raise DataError(
                    "data: processes that read pictures die again and again (out of memory?); "
                    "data.num_workers=0 reads without them"
                ) from error
            died_at = done
            log.warning("warning: a process that reads pictures has died (killed?); new ones go on in its place")
            # Gone with its list of processes, from which a handler that some other loader has left would report the dead again.
            batches = iter(())


@contextmanager
def _own_child_handler() -> Iterator[None]:
    """Takes back the SIGCHLD handler that a loader installs with its first workers.

    It raises at a worker's death in the middle of whatever runs, an update of the weights say. Without it the loader notices
    when it next waits for a batch.
    """
    ours = hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGCHLD) if ours else None
    yield
    if ours:
        signal.signal(signal.SIGCHLD, before)
