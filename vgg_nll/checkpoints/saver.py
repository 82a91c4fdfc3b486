"""Saves checkpoints while training continues, and restores a state from them."""

import contextlib
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vgg_nll import hardware
from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.checkpoints.weights import check_weights, evaluated_weights
from vgg_nll.errors import CheckpointError
from vgg_nll.files import remove_unfinished
from vgg_nll.run_folder import paths

log = logging.getLogger(__name__)


class SavedState(Protocol):
    """What is saved and restored: `training.state.TrainState`."""

    model: nn.Module
    step: int
    best_step: int
    best_metrics: dict[str, float]

    @property
    def evaluated(self) -> nn.Module: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, content: dict[str, Any]) -> None: ...


class CheckpointSaver:
    """Writes `last.pt` (the one before it stays as `previous.pt`) and `best.pt` of a run.

    A copy of the state is taken at once, and written during the next steps. Only the copy blocks training; it goes into memory
    that is kept (page-locked beside a GPU): once the state's size. If the disk refuses, that is a warning: the old files stay,
    the next checkpoint tries again, and `close` raises only if nothing was ever saved. Best weights that could not be written
    are kept in memory until they can be.

    Args:
        folder: the run folder; run_id: the identity of the run, which every file of it holds.
        is_reader: restores only, after the process that writes has done so: one of several that train together.
    """

    def __init__(self, folder: Path, device: torch.device, run_id: str, *, is_reader: bool = False) -> None:
        self.folder, self._device, self._run_id, self._is_reader = folder, device, run_id, is_reader
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint_saver")
        self._writing: Future[None] | None = None
        self._copy: dict[str, Any] = {}
        self._unwritten_best: dict[str, Any] | None = None
        self._has_saved = paths.has_checkpoint(folder)
        self._failure: OSError | None = None

    def restore(self, state: SavedState, name: str) -> None:
        """Loads the last valid state of the run, and makes sure that `best.pt` belongs to it.

        A damaged `last.pt` becomes `damaged.pt`. Raises CheckpointError if no checkpoint can be read, or it does not fit.

        Args:
            name: of the run, in messages.
        """
        with checkpoint_file.errors_as_one(f"resume={name}"):
            if not self._is_reader:
                remove_unfinished(self.folder / paths.CHECKPOINTS)
            content, damage = checkpoint_file.load_newest(self.folder, self._run_id)
            state.load_state_dict(content)
        if damage and not self._is_reader:
            with contextlib.suppress(FileNotFoundError):  # else it would replace the valid one at the next checkpoint
                (self.folder / paths.LAST).replace(self.folder / paths.DAMAGED)
            log.warning(f"warning: {damage}; the state saved before it takes its place")
        log.info(f"resumed {name} at step {state.step}")
        if state.best_step < 0 or self._is_reader:
            return
        try:
            check_weights(state.model, self.load_best(state.best_step))
        except ValueError as error:  # CheckpointError is one
            if state.step == state.best_step:  # the process ended between the two files
                self.save(state.state_dict(), is_best=True)
                self.wait()
                return
            log.warning(f"warning: {error}; the best step is chosen again, among the steps to come")
            state.best_step, state.best_metrics = -1, {}

    def save(self, content: dict[str, Any], *, is_best: bool) -> None:
        """Copies `content`, the state at this moment, and begins to write it; the best one's model as `best.pt`, too."""
        self.wait()
        self._copy = _copied(content, self._copy)
        hardware.wait(self._device)  # until the copies have arrived
        self._writing = self._writer.submit(self._write, self._copy, is_best)

    def wait(self) -> None:
        """Waits until the checkpoint in progress is on the disk, or was refused."""
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def close(self) -> bool:
        """Waits, and ends the writer; returns whether the last state and the best weights are on the disk.

        Raises CheckpointError if no checkpoint of this run was ever written.
        """
        self.wait()
        self._writer.shutdown()
        if not self._has_saved and self._failure is not None:
            place = self.folder / paths.CHECKPOINTS
            raise CheckpointError(f"{place}: no checkpoint could be written: {self._failure}") from self._failure
        return self._failure is None and self._unwritten_best is None

    def load_best(self, step: int) -> dict[str, Tensor]:
        """Returns the weights of the best step. Raises CheckpointError if `best.pt` cannot be read, or holds another step's."""
        self.wait()
        path = self.folder / paths.BEST
        content = self._unwritten_best or checkpoint_file.load(path, self._run_id)
        if content.get("step") != step:
            raise CheckpointError(f"{path}: holds step {content.get('step')}, not step {step}")
        weights: dict[str, Tensor] = content["model"]
        return weights

    def load_best_into(self, state: SavedState) -> str:
        """Loads the weights of the best step into the network that is evaluated; returns why that cannot be, or nothing."""
        try:
            weights = self.load_best(state.best_step)
            check_weights(state.evaluated, weights)
        except ValueError as error:  # CheckpointError is one
            return str(error)
        state.evaluated.load_state_dict(weights)
        return ""

    def _write(self, content: dict[str, Any], is_best: bool) -> None:
        # The last before the best: after a kill between the two, the last still has the weights of the best. And no best
        # without a last: a run that is resumed from an older last would not know it.
        written = self._try(paths.LAST, content, self.folder / paths.PREVIOUS)
        if written:
            self._failure = None
        if is_best:
            self._unwritten_best = {"model": evaluated_weights(content), "step": content["step"]}
        if self._unwritten_best is not None:
            if written and self._try(paths.BEST, self._unwritten_best):
                self._unwritten_best = None
            elif is_best:
                # A copy of its own: the next checkpoint reuses the memory of `content`.
                self._unwritten_best["model"] = _copied(evaluated_weights(content), {})

    def _try(self, name: str, content: dict[str, Any], previous: Path | None = None) -> bool:
        try:
            (self.folder / paths.CHECKPOINTS).mkdir(exist_ok=True)
            checkpoint_file.save(self.folder / name, {**content, "run": self._run_id}, previous)
        except OSError as error:
            self._failure = error
            log.warning(f"warning: step {content['step']} was not saved, training continues: {error}")
            return False
        self._has_saved = True
        return True


def _copied(value: Any, into: Any) -> Any:
    """Returns tensors, dicts and lists copied to the CPU, into the tensors of an earlier copy if they fit."""
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
