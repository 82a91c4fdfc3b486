"""The first batches of a run, which are shown before they are trained on: loaded once."""

import itertools
from collections.abc import Callable, Iterator

from vgg_nll.data.interface import Batch


class FirstBatches:
    """The training batches of a data set, `train_batches(epoch, start)`, whose first ones can be looked at before.

    What `peek` has taken, and the workers that go on loading, are those of the next call for epoch 0.
    """

    def __init__(self, train_batches: Callable[[int, int], Iterator[Batch]]) -> None:
        self._train_batches = train_batches
        self._taken: list[Batch] = []
        self._rest: Iterator[Batch] | None = None

    def peek(self, batches: int) -> list[Batch]:
        """Returns that many batches of epoch 0, or all if it has fewer. Errors are those of the data."""
        if self._rest is None:
            self._taken, self._rest = [], self._train_batches(0, 0)
        try:
            self._taken += itertools.islice(self._rest, max(0, batches - len(self._taken)))
        except BaseException:
            self._rest = None  # it has ended
            raise
        return self._taken[:batches]

    def __call__(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Does what `train_batches` does."""
        if self._rest is None or (epoch, start) != (0, 0):
            return self._train_batches(epoch, start)
        taken, rest = self._taken, self._rest
        self._taken, self._rest = [], None
        return itertools.chain(taken, rest)
