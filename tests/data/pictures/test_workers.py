"""Loaders whose processes die."""

import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils.signal_handling import _error_if_any_worker_fails

from vgg_nll.data.pictures.workers import iterate_with_worker_restart


class Numbers(Dataset[int]):
    """0 to 5; the process that comes to 3 first dies."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> int:
        if index == 3 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return index


class Torn:
    """A loader's batches up to the third, in whose middle the connection breaks."""

    def __init__(self, loader: DataLoader[int]) -> None:
        self.batches: Any = iter(loader)
        self.seen = 0

    def __iter__(self) -> "Torn":
        return self

    def __next__(self) -> int:
        if self.seen == 2:
            os.waitid(os.P_PID, self.batches._workers[0].pid, os.WEXITED | os.WNOWAIT)  # until it is dead, unnoticed
            raise ConnectionResetError
        self.seen += 1
        return next(self.batches)


def test_a_death_is_reported_once(tmp_path: Path) -> None:
    """PyTorch leaves a handler of SIGCHLD with a process's first loader. It may run late, while the next is being made."""
    loads: list[int] = []

    def load(done: int) -> Iterable[int]:
        loads.append(done)
        if len(loads) > 1:
            _error_if_any_worker_fails()  # all that the handler does
        loader = DataLoader(Numbers(tmp_path / "died"), sampler=range(done, 6), num_workers=1)
        return Torn(loader) if len(loads) == 1 else loader

    assert [int(batch) for batch in iterate_with_worker_restart(load)] == [0, 1, 2, 3, 4, 5]
    assert loads == [0, 2]
