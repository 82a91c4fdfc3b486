"""The DataLoader: batches from worker processes, which may die."""

import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch.utils.data import DataLoader, Dataset

from vgg_nll import rng
from vgg_nll.errors import DataError

log = logging.getLogger(__name__)
SHARED_MEMORY = (
    "data: /dev/shm is too small for the batches that worker processes send; docker run --shm-size=2g makes it larger, "
    "data.num_workers=0 does not need it"
)


def warn_of_many(num_workers: int) -> None:
    """Warns if there are more workers than cores: each takes memory, and they wait for each other."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if num_workers > cores:
        log.warning(f"warning: data.num_workers={num_workers}: is more than the {cores} cores here; {cores} read as fast")


def load_batches(
    dataset: Dataset[Any], order: Sequence[Any], batch_size: int, *, num_workers: int, pin_memory: bool, seed: int
) -> Iterator[Any]:
    """Yields the items of a data set in an order of keys, in batches, loaded by worker processes.

    Raises DataError as `iterate_with_worker_restart` does.
    """

    def make(done: int) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=order[done * batch_size :],
            num_workers=num_workers,
            pin_memory=pin_memory,
            # Its own generator: the loader would draw the workers' seeds from the global one otherwise.
            generator=rng.generator(seed, "workers"),
        )

    yield from iterate_with_worker_restart(make)


def iterate_with_worker_restart(load: Callable[[int], Iterable[Any]]) -> Iterator[Any]:
    """Yields the batches of a loader; if a worker process dies, new ones continue after the batches that are done.

    Args:
        load: number of batches done -> a loader of the rest.

    Raises DataError if a picture cannot be read, if workers die twice at one batch, or if the shared memory is full.
    """
    done, died_at = 0, -1
    batches: Iterator[Any] = iter(())
    while True:
        try:
            with _own_child_handler(), _without_advice():
                batches = iter(load(done))
            for batch in batches:
                yield batch
                done += 1
            return
        except DataError as error:  # from a worker, with the worker's traceback in its text
            line = error.args[0].strip().splitlines()[-1]
            # Frees the loader, which stops its workers: a reference cycle through the traceback would leave it to the garbage
            # collector, and then it waits 5 s for each worker.
            error.__traceback__, batches = None, iter(())
            raise DataError(line.removeprefix(f"{DataError.__module__}.DataError: ")) from error
        except (RuntimeError, ConnectionError, EOFError) as error:
            # The latter two: it died while sending a batch. An error inside a worker says "Caught ... in DataLoader".
            text = str(error)
            if "shared memory" in text or "Bus error" in text or _has_bus_error(batches):
                error.__traceback__, batches = None, iter(())  # as above
                raise DataError(SHARED_MEMORY) from error
            if "Caught" in text or (isinstance(error, RuntimeError) and "DataLoader worker" not in text):
                raise
            if died_at == done:
                raise DataError(
                    "data: worker processes die again and again (out of memory?); data.num_workers=0 works without them"
                ) from error
            died_at = done
            log.warning("warning: a worker process has died (killed?); new ones continue")
            # Drops the loader with its list of processes: another loader's handler would report the dead one again.
            batches = iter(())


@contextmanager
def _own_child_handler() -> Iterator[None]:
    """Removes the SIGCHLD handler that a loader installs with its first workers.

    That handler raises when a worker dies, in the middle of whatever runs, for example an update of the weights. Without it the
    loader notices the death when it next waits for a batch.
    """
    ours = hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGCHLD) if ours else None
    yield
    if ours:
        signal.signal(signal.SIGCHLD, before)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keeps back what a loader says, at every epoch twice, of more workers than cores: `warn_of_many` says it once."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create .* worker processes")
        yield


def _has_bus_error(batches: Iterator[Any]) -> bool:
    """Returns whether a worker was ended by SIGBUS: it has written to shared memory that is not there."""
    codes = [worker.exitcode for worker in getattr(batches, "_workers", ())]
    return hasattr(signal, "SIGBUS") and -signal.SIGBUS in codes
