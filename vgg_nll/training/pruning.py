"""Pruning: a run of a sweep stops early if it is worse than most of the finished ones were at the same epoch."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vgg_nll.errors import CheckpointError
from vgg_nll.run_folder import checked_json, paths
from vgg_nll.run_folder.record import RunRecord

MIN_RUNS = 3  # finished ones: the median of fewer says little
History = Sequence[tuple[float, float]]  # (epoch, validation loss), in order


class Pruned(Exception):
    """Ends a run that is not worth its time; the message says why."""


class MedianRule:
    """Stops a run whose validation loss is above the median of the finished runs at that epoch.

    Only runs with the same loss count: others have another unit.

    Args:
        folder: run folders lie in it; None: no run is stopped.
        loss: the settings of this run's loss.
    """

    def __init__(self, folder: Path | None, loss: Mapping[str, Any]) -> None:
        self._folder, self._loss = folder, dict(loss)

    def check(self, epoch: float, validation_loss: float) -> None:
        """Raises Pruned if the run should stop after the validation at this epoch."""
        if self._folder is None:
            return
        others = [value for history in self._histories() if (value := _at(history, epoch)) is not None]
        if len(others) < MIN_RUNS:
            return
        median = statistics.median(others)
        if validation_loss > median:
            raise Pruned(
                f"epoch {epoch:.3g}: the validation loss {validation_loss:.4g} is above {median:.4g}, the median of "
                f"{len(others)} finished runs there"
            )

    def _histories(self) -> list[History]:
        """Those of all finished runs; read again, since more may have finished."""
        assert self._folder is not None
        found: list[History] = []
        for path in sorted(self._folder.glob(f"*/{paths.DONE}")):
            try:
                record = RunRecord.open(path.parent)
                content = checked_json.read(path.with_name(paths.METRICS), record.run_id)
            except CheckpointError:
                continue
            match content:
                case {"validation_losses": list(history)} if record.config.get("loss") == self._loss:
                    found.append([(float(epoch), float(value)) for epoch, value in history])
        return found


def _at(history: History, epoch: float) -> float | None:
    """Returns the last value at or before an epoch."""
    return next((value for at, value in reversed(history) if at <= epoch + 1e-6), None)
