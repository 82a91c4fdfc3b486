"""Checkpoints are whole, or the old one; and reading one runs no code."""

from pathlib import Path

import pytest
import torch

from vgg_nll import checkpoint
from vgg_nll.checkpoint import CheckpointError


def test_round_trip(tmp_path: Path) -> None:
    content = {"model": {"w": torch.arange(3.0)}, "step": 7, "best": {"accuracy": 0.5}}
    checkpoint.save(tmp_path / "a" / "last.pt", content)
    loaded = checkpoint.load(tmp_path / "a" / "last.pt")
    assert torch.equal(loaded["model"]["w"], content["model"]["w"])
    assert (loaded["step"], loaded["best"]) == (7, {"accuracy": 0.5})
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["last.pt"]


def test_crash_before_the_replace_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"step": 1})
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk gone")))
    with pytest.raises(OSError, match="disk gone"):
        checkpoint.save(path, {"step": 2})
    assert checkpoint.load(path)["step"] == 1
    assert list(tmp_path.iterdir()) == [path]


class Bomb:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("exploded"),))


def test_bad_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("last.pt")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        checkpoint.load(path)
    checkpoint.save(path, {"w": torch.zeros(10_000)})
    whole = path.read_bytes()
    for damaged in (b"", whole[:1000], whole[:-100], b"hello"):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoint.load(path)
    torch.save({"w": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of this project"):
        checkpoint.load(path)
    torch.save({"format_version": 99}, path)
    with pytest.raises(CheckpointError, match="newer version"):
        checkpoint.load(path)
    torch.save({"format_version": 1, "x": Bomb()}, path)
    with pytest.raises(CheckpointError, match="more than tensors and plain values"):
        checkpoint.load(path)
    assert not Path("exploded").exists()
