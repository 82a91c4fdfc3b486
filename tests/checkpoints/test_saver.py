"""The state is copied when `save` is called, not when it is written; what is written is that copy. Its way back."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.checkpoints.saver import CheckpointSaver
from vgg_nll.errors import CheckpointError
from vgg_nll.run_folder import paths

CPU = torch.device("cpu")


def content(value: float, step: int) -> dict[str, Any]:
    return {
        "model": {"w": torch.full((4,), value)},
        "optimizer": {"state": {0: {"m": torch.full((4,), value)}}, "groups": [{"betas": (0.9, 0.99)}]},
        "step": step,
    }


def test_training_continues_while_a_copy_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that follow change the state in place; the file holds the moment of the call, whenever it is written."""
    go, original = threading.Event(), checkpoint_file.save

    def late(*args: object) -> None:
        assert go.wait(10)
        original(*args)

    monkeypatch.setattr(checkpoint_file, "save", late)
    saver, live = CheckpointSaver(tmp_path, CPU, "run"), content(1.0, 1)
    saver.save(live, is_best=True)
    assert not list(tmp_path.rglob("*.pt"))  # `save` came back before anything was written
    live["model"]["w"].zero_()
    live["optimizer"]["state"][0]["m"].zero_()
    go.set()
    saver.wait()
    loaded = checkpoint_file.load(tmp_path / paths.LAST)
    assert loaded["model"]["w"].tolist() == loaded["optimizer"]["state"][0]["m"].tolist() == [1.0] * 4
    assert loaded["optimizer"]["groups"] == [{"betas": [0.9, 0.99]}]
    assert saver.load_best(1)["w"].tolist() == [1.0] * 4
    with pytest.raises(CheckpointError, match="holds step 1, not step 2"):
        saver.load_best(2)
    saver.close()


def test_the_memory_of_a_copy_is_used_again(tmp_path: Path) -> None:
    saver = CheckpointSaver(tmp_path, CPU, "run")
    saver.save(content(1.0, 1), is_best=False)
    first = saver._copy["model"]["w"].data_ptr()
    saver.save(content(2.0, 2), is_best=False)
    assert saver._copy["model"]["w"].data_ptr() == first
    saver.close()
    steps = {name: checkpoint_file.load(tmp_path / name)["model"]["w"][0].item() for name in (paths.LAST, paths.PREVIOUS)}
    assert steps == {paths.LAST: 2.0, paths.PREVIOUS: 1.0}
    assert not (tmp_path / paths.BEST).exists()


def test_the_best_is_kept_in_memory_until_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while later checkpoints reuse the memory of the copy."""
    original, refused = checkpoint_file.save, {"best.pt"}

    def save(path: Path, *args: object) -> None:
        if path.name in refused:
            raise OSError("disk full")
        original(path, *args)

    monkeypatch.setattr(checkpoint_file, "save", save)
    saver = CheckpointSaver(tmp_path, CPU, "run")
    saver.save(content(1.0, 1), is_best=True)
    saver.save(content(2.0, 2), is_best=False)
    assert saver.load_best(1)["w"].tolist() == [1.0] * 4
    refused.clear()
    saver.save(content(3.0, 3), is_best=False)
    saver.close()
    assert checkpoint_file.load(tmp_path / paths.BEST)["model"]["w"].tolist() == [1.0] * 4


def test_the_best_is_written_only_behind_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is resumed from an older last.pt would not know that step: the pair would not fit."""
    original, refused = checkpoint_file.save, {"last.pt"}

    def save(path: Path, *args: object) -> None:
        if path.name in refused:
            raise OSError("disk full")
        original(path, *args)

    saver = CheckpointSaver(tmp_path, CPU, "run")
    saver.save(content(1.0, 1), is_best=True)
    saver.wait()
    monkeypatch.setattr(checkpoint_file, "save", save)
    saver.save(content(2.0, 2), is_best=True)
    saver.wait()
    assert checkpoint_file.load(tmp_path / paths.BEST)["step"] == checkpoint_file.load(tmp_path / paths.LAST)["step"] == 1
    assert saver.load_best(2)["w"].tolist() == [2.0] * 4
    assert not saver.close()


def test_files_are_of_their_run(tmp_path: Path) -> None:
    saver = CheckpointSaver(tmp_path, CPU, "this")
    saver.save(content(1.0, 1), is_best=True)
    saver.close()
    for name in (paths.LAST, paths.BEST):
        assert checkpoint_file.load(tmp_path / name, "this")["step"] == 1
        with pytest.raises(CheckpointError, match="is of another run"):
            checkpoint_file.load(tmp_path / name, "other")


def test_an_error_that_is_not_the_disks_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_file, "save", lambda *_: (_ for _ in ()).throw(KeyError("an error of ours")))
    saver = CheckpointSaver(tmp_path, CPU, "run")
    saver.save(content(1.0, 1), is_best=False)
    with pytest.raises(KeyError, match="an error of ours"):
        saver.wait()


def test_a_refusal_that_a_later_checkpoint_makes_good_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, refused = checkpoint_file.save, {1}

    def save(path: Path, saved: dict[str, Any], *rest: Any) -> None:
        if saved["step"] in refused:
            raise OSError("disk full")
        original(path, saved, *rest)

    monkeypatch.setattr(checkpoint_file, "save", save)
    saver = CheckpointSaver(tmp_path, CPU, "run")
    saver.save(content(1.0, 1), is_best=False)
    saver.save(content(2.0, 2), is_best=False)
    assert saver.close()


class Restored:
    """A state that takes what it is given."""

    model = nn.Linear(2, 1)
    evaluated = model
    step, best_step = 0, -1

    def __init__(self) -> None:
        self.best_metrics: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "step": self.step}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        self.step = self.best_step = content["step"]


def test_one_that_only_reads_changes_no_file(tmp_path: Path) -> None:
    """The process that writes has looked after best.pt, or will."""
    writer = CheckpointSaver(tmp_path, CPU, "run")
    writer.save(content(1.0, 1), is_best=True)
    writer.close()
    (tmp_path / paths.BEST).unlink()
    state = Restored()
    reader = CheckpointSaver(tmp_path, CPU, "run", is_reader=True)
    reader.restore(state, "run")
    assert reader.close()
    assert (state.step, state.best_step) == (1, 1)
    assert not (tmp_path / paths.BEST).exists()
