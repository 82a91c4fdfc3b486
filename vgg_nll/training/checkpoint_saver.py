"""Saves a run's state beside the training: a copy is taken at once, and written while the next steps go on."""

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vgg_nll import hardware
from vgg_nll.errors import CheckpointError
from vgg_nll.training import checkpoint

log = logging.getLogger(__name__)


class Saver:
    """Writes `last.pt` (the one before it stays as `previous.pt`) and `best.pt` into `folder`.

    Training stops for the copy alone; it goes into memory that is kept (page-locked beside a GPU), once the state's size.
    A disk that refuses is a warning: the old files stay, the next save tries again, and `close` raises only where nothing
    was ever saved. `write_best` weights that could not be written are kept in memory until they can.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.folder, self._device = folder, device
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="saver")
        self._writing: Future[None] | None = None
        self._copy: dict[str, Any] = {}
        self._unwritten_best: dict[str, Any] | None = None
        self._saved = checkpoint.exists(folder)
        self._failure: OSError | None = None

    def save(self, content: dict[str, Any], *, best: bool) -> None:
        """Copies `content`, the state at this moment, and begins to write it; with `best`, its model as `best.pt` too."""
        self.wait()
        self._copy = _copied(content, self._copy)
        hardware.wait(self._device)  # until the copies have arrived
        self._writing = self._writer.submit(self._write, self._copy, best)

    def wait(self) -> None:
        """Until what was begun is on the disk, or was refused."""
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def close(self) -> bool:
        """Waits, and ends the writer; tells whether the last state and the best weights are on the disk.

        Raises CheckpointError where no save of this run has ever worked.
        """
        self.wait()
        self._writer.shutdown()
        if not self._saved and self._failure is not None:
            raise CheckpointError(f"{self.folder}: no checkpoint could be written: {self._failure}") from self._failure
        return self._failure is None and self._unwritten_best is None

    def best(self, step: int) -> dict[str, Tensor]:
        """The weights of the best step. Raises CheckpointError where `best.pt` cannot be read, or holds another step's."""
        self.wait()
        content = self._unwritten_best or checkpoint.load(self.folder / checkpoint.BEST)
        if content.get("step") != step:
            raise CheckpointError(f"{self.folder / checkpoint.BEST}: holds step {content.get('step')}, not step {step}")
        weights: dict[str, Tensor] = content["model"]
        return weights

    def _write(self, content: dict[str, Any], best: bool) -> None:
        # The last before the best: after a kill between the two, the last still has the weights of the best.
        if self._try(checkpoint.LAST, content, self.folder / checkpoint.PREVIOUS):
            self._failure = None
        if best:
            self._unwritten_best = {"model": content["model"], "step": content["step"]}
        if self._unwritten_best is not None:
            if self._try(checkpoint.BEST, self._unwritten_best):
                self._unwritten_best = None
            elif best:
                self._unwritten_best["model"] = _copied(content["model"], {})  # the next save writes over this one

    def _try(self, name: str, content: dict[str, Any], previous: Path | None = None) -> bool:
        try:
            checkpoint.save(self.folder / name, content, previous)
        except OSError as error:
            self._failure = error
            log.warning(f"warning: step {content['step']} was not saved, training goes on: {error}")
            return False
        self._saved = True
        return True


def _copied(value: Any, into: Any) -> Any:
    """Tensors, dicts and lists copied to the CPU, into the tensors of an earlier copy where they fit."""
    if isinstance(value, Tensor):
        if not (isinstance(into, Tensor) and into.shape == value.shape and into.dtype == value.dtype):
            into = torch.empty_like(value, device="cpu", pin_memory=value.device.type == "cuda")
        return into.copy_(value.detach(), non_blocking=True)
    if isinstance(value, dict):
        return {key: _copied(item, into.get(key) if isinstance(into, dict) else None) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        earlier = into if isinstance(into, list) else []
        return [_copied(item, old) for item, old in zip_longest(value, earlier[: len(value)])]
    return value
