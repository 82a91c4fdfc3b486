"""Checkpoints are whole, or the old one; and reading one runs no code."""

from pathlib import Path

import pytest
import torch
from helpers.runs import Bomb

from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.errors import CheckpointError
from vgg_nll.files import remove_unfinished
from vgg_nll.run_folder import paths


def test_round_trip(tmp_path: Path) -> None:
    content = {"model": {"w": torch.arange(3.0)}, "step": 7, "best": {"accuracy": 0.5}}
    checkpoint_file.save(tmp_path / "last.pt", content)
    loaded = checkpoint_file.load(tmp_path / "last.pt")
    assert torch.equal(loaded["model"]["w"], content["model"]["w"])
    assert (loaded["step"], loaded["best"]) == (7, {"accuracy": 0.5})
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_crash_before_the_replace_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.pt"
    checkpoint_file.save(path, {"step": 1})
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk gone")))
    with pytest.raises(OSError, match="disk gone"):
        checkpoint_file.save(path, {"step": 2})
    assert checkpoint_file.load(path)["step"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_bad_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("last.pt")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        checkpoint_file.load(path)
    checkpoint_file.save(path, {"w": torch.zeros(10_000)})
    whole = path.read_bytes()
    for damaged in (b"", whole[:1000], whole[:-100], b"hello"):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoint_file.load(path)
    torch.save({"w": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of this project"):
        checkpoint_file.load(path)
    torch.save({"format_version": 99}, path)
    with pytest.raises(CheckpointError, match="newer version"):
        checkpoint_file.load(path)
    torch.save({"format_version": "1"}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of this project"):
        checkpoint_file.load(path)
    torch.save({"format_version": checkpoint_file.FORMAT_VERSION, "x": Bomb(Path("exploded"))}, path)
    with pytest.raises(CheckpointError, match="more than tensors and plain values"):
        checkpoint_file.load(path)
    assert not Path("exploded").exists()


def test_every_flipped_bit_of_the_weights_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint_file.save(path, {"w": torch.arange(1000.0), "step": 1})
    whole = path.read_bytes()
    start = whole.index(torch.arange(1000.0).numpy().tobytes())
    for position in (start, start + 1999, start + 3999):
        damaged = bytearray(whole)
        damaged[position] ^= 16
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoint_file.load(path)


def test_any_damage_is_an_error_of_ours_or_none(tmp_path: Path) -> None:
    """A byte changed anywhere gives CheckpointError, or the content as it was: never another error, never other numbers."""
    path = tmp_path / "last.pt"
    checkpoint_file.save(path, {"w": torch.arange(4.0), "step": 1})
    whole, refused = path.read_bytes(), 0
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x5A]) + whole[position + 1 :])
        try:
            content = checkpoint_file.load(path)
        except CheckpointError:
            refused += 1
        else:
            assert torch.equal(content["w"], torch.arange(4.0))
            assert content["step"] == 1
    assert refused > 50


def test_the_one_before_is_kept(tmp_path: Path) -> None:
    (tmp_path / paths.CHECKPOINTS).mkdir()
    for step in (1, 2, 3):
        checkpoint_file.save(tmp_path / paths.LAST, {"step": step}, tmp_path / paths.PREVIOUS)
    assert [checkpoint_file.load(tmp_path / name)["step"] for name in (paths.LAST, paths.PREVIOUS)] == [3, 2]
    assert checkpoint_file.load_newest(tmp_path) == ({"format_version": checkpoint_file.FORMAT_VERSION, "step": 3}, "")
    (tmp_path / paths.LAST).unlink()  # killed between the two renames
    assert paths.has_checkpoint(tmp_path)
    assert checkpoint_file.load_newest(tmp_path)[0]["step"] == 2
    (tmp_path / paths.CHECKPOINTS / ".last.pt.123.tmp").touch()
    remove_unfinished(tmp_path / paths.CHECKPOINTS)
    assert [path.name for path in (tmp_path / paths.CHECKPOINTS).iterdir()] == ["previous.pt"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (CheckpointError("last.pt: damaged"), "last.pt: damaged"),
        (ValueError("of another model"), "of another model"),
        (RuntimeError("size mismatch:\n\tthe shape is [2]"), "size mismatch: the shape is [2]"),  # PyTorch's have many lines
        (KeyError("model"), "'model'"),
        (TypeError("not a dict"), "not a dict"),
        (AttributeError("no attribute 'keys'"), "no attribute 'keys'"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_does_not_fit_is_one_error(error: Exception, text: str) -> None:
    """One line, which begins with what was asked for; the first error is its cause."""
    with pytest.raises(CheckpointError) as found, checkpoint_file.errors_as_one("resume=a/b"):
        raise error
    assert str(found.value) == f"resume=a/b: {text}"
    assert found.value.__cause__ is error


@pytest.mark.parametrize("kind", [OSError, MemoryError, KeyboardInterrupt])
def test_what_is_not_about_the_checkpoint_stays_what_it_is(kind: type[BaseException]) -> None:
    with pytest.raises(kind), checkpoint_file.errors_as_one("resume=a/b"):
        raise kind
