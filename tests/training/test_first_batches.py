"""The first batches: looked at, then trained on, in the data's order."""

from collections.abc import Iterator

import pytest
import torch

from vgg_nll.data.interface import Batch
from vgg_nll.errors import DataError
from vgg_nll.training.first_batches import FirstBatches


class Data:
    """Three batches an epoch, which tell their epoch and number; the first look at batch `bad` fails."""

    def __init__(self, bad: int | None = None) -> None:
        self.bad, self.loaded = bad, 0

    def __call__(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for number in range(start, 3):
            self.loaded += 1
            if number == self.bad:
                self.bad = None
                raise DataError("cannot be read")
            yield torch.tensor([epoch]), torch.tensor([number])


def numbers(batches: Iterator[Batch] | list[Batch]) -> list[tuple[int, int]]:
    return [(int(epoch), int(number)) for epoch, number in batches]


def test_what_was_looked_at_is_trained_on() -> None:
    data = Data()
    first = FirstBatches(data)
    assert numbers(first.peek(2)) == [(0, 0), (0, 1)]
    assert numbers(first.peek(1)) == [(0, 0)]
    assert numbers(first(0)) == [(0, 0), (0, 1), (0, 2)]
    assert data.loaded == 3


def test_any_other_call_is_the_datas() -> None:
    first = FirstBatches(Data())
    assert numbers(first(0, 1)) == [(0, 1), (0, 2)]
    first.peek(1)
    assert numbers(first(1)) == [(1, 0), (1, 1), (1, 2)]
    assert numbers(first(0, 2)) == [(0, 2)]
    for _ in range(2):  # the look is used up by the first one
        assert numbers(first(0)) == [(0, 0), (0, 1), (0, 2)]


def test_a_short_epoch() -> None:
    first = FirstBatches(Data())
    assert numbers(first.peek(9)) == numbers(first(0)) == [(0, 0), (0, 1), (0, 2)]


def test_an_error_of_the_data_leaves_no_gap() -> None:
    first = FirstBatches(Data(bad=1))
    with pytest.raises(DataError, match="cannot be read"):
        first.peek(2)
    assert numbers(first.peek(2)) == [(0, 0), (0, 1)]
    assert numbers(first(0)) == [(0, 0), (0, 1), (0, 2)]
