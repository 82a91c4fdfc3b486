"""The list of pictures in a few arrays, which worker processes share."""

import os
from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple, overload

import numpy as np
import torch
from torch import Tensor


class Sample(NamedTuple):
    """A picture: its file, its class, the size of the file."""

    path: str
    label: int
    bytes: int


class Samples(Sequence[Sample]):
    """A list of pictures that does not change: the bytes of all paths in one array, and numbers in four others.

    A process that reads a Python object writes its reference count. So a list of a million tuples, which forked workers share
    at first, is soon copied into each of them. An array has one count for all its numbers.
    """

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        names, ends, labels, sizes = bytearray(), array("q", [0]), array("i"), array("q")
        for path, label, size in samples:
            names += os.fsencode(path)
            ends.append(len(names))
            labels.append(label)
            sizes.append(size)
        self._names = np.array(names, np.uint8)
        self._starts, self._ends = np.array(ends[:-1], np.int64), np.array(ends[1:], np.int64)
        self._labels, self._sizes = np.array(labels, np.int32), np.array(sizes, np.int64)

    def __len__(self) -> int:
        return len(self._labels)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> "Samples": ...

    def __getitem__(self, index: int | slice) -> "Sample | Samples":
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        name = self._names[self._starts[index] : self._ends[index]].tobytes()
        return Sample(os.fsdecode(name), int(self._labels[index]), int(self._sizes[index]))

    def __add__(self, other: "Samples") -> "Samples":
        joined, shift = Samples(), len(self._names)
        joined._names = np.concatenate([self._names, other._names])
        joined._starts = np.concatenate([self._starts, other._starts + shift])
        joined._ends = np.concatenate([self._ends, other._ends + shift])
        joined._labels = np.concatenate([self._labels, other._labels])
        joined._sizes = np.concatenate([self._sizes, other._sizes])
        return joined

    def select(self, index: Tensor | np.ndarray) -> "Samples":
        """Returns the pictures at these places, in this order; their names stay where they are."""
        places, part = np.asarray(index), Samples()
        part._names, part._starts, part._ends = self._names, self._starts[places], self._ends[places]
        part._labels, part._sizes = self._labels[places], self._sizes[places]
        return part

    def labels(self) -> Tensor:
        """Returns the classes [N] in int64."""
        return torch.from_numpy(self._labels).long()

    def places_of(self, label: int) -> np.ndarray:
        """Returns the places of the pictures of a class, in rising order."""
        return np.flatnonzero(self._labels == label)
