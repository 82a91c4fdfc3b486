"""A file is the old one or the new one, whole, whatever happens while it is written."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from vgg_nll.files import atomic_write, remove_unfinished

Content = str | bytes | Callable[[IO[bytes]], None]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def write_twice(file: IO[bytes]) -> None:
    file.write(b"two ")
    file.write(b"parts")


@pytest.mark.parametrize(
    ("content", "expected"),
    [("é\n", b"\xc3\xa9\n"), (b"\x00\xff", b"\x00\xff"), (write_twice, b"two parts"), ("", b"")],
    ids=["text", "bytes", "function", "empty"],
)
def test_content(tmp_path: Path, content: Content, expected: bytes) -> None:
    path = tmp_path / "new folder" / "file"
    atomic_write(path, content)
    assert path.read_bytes() == expected
    path.write_text("longer than what follows")
    atomic_write(path, content)
    assert path.read_bytes() == expected
    assert names(path.parent) == {"file"}


def test_the_old_file_is_kept_as_previous(tmp_path: Path) -> None:
    path, previous = tmp_path / "file", tmp_path / "previous"
    atomic_write(path, "1", previous=previous)
    assert names(tmp_path) == {"file"}  # there was none to keep
    for number in ("2", "3"):
        atomic_write(path, number, previous=previous)
    assert (path.read_text(), previous.read_text()) == ("3", "2")
    assert names(tmp_path) == {"file", "previous"}


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt(), ValueError("wrong")], ids=repr)
def test_an_error_half_way_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def half(file: IO[bytes]) -> None:
        file.write(b"ne")
        raise error

    with pytest.raises(type(error)):
        atomic_write(path, half, previous=tmp_path / "previous")
    assert path.read_text() == "old"
    assert names(tmp_path) == {"file"}


def test_a_disk_that_refuses_to_flush_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("input/output error")))
    with pytest.raises(OSError, match="input/output error"):
        atomic_write(path, "new", previous=tmp_path / "previous")
    assert path.read_text() == "old"
    assert names(tmp_path) == {"file"}


def test_bytes_are_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power failure could leave the new name on an empty file."""
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def logged_fsync(handle: int) -> None:
        events.append("flush folder" if Path(f"/proc/self/fd/{handle}").is_dir() else "flush bytes")
        fsync(handle)

    def logged_replace(self: Path, target: Path) -> Path:
        events.append(f"{'new' if self.suffix == '.tmp' else self.name} becomes {target.name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(Path, "replace", logged_replace)
    (tmp_path / "file").write_text("old")
    atomic_write(tmp_path / "file", "new", previous=tmp_path / "previous")
    assert events == ["flush bytes", "file becomes previous", "new becomes file", "flush folder"]


def crash_at_replace(number: int, *args: Any, **kwargs: Any) -> None:
    """Calls `atomic_write` in a child process that is gone, without any cleaning up, at its `number`-th rename."""
    child = os.fork()
    if child == 0:
        calls, replace = [0], Path.replace

        def crash(self: Path, target: Path) -> Path:
            calls[0] += 1
            if calls[0] == number:
                os._exit(9)
            return replace(self, target)

        Path.replace = crash  # type: ignore[assignment, method-assign]
        try:
            atomic_write(*args, **kwargs)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_a_crash_between_write_and_replace_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    crash_at_replace(1, path, "new")
    assert path.read_text() == "old"
    (part,) = names(tmp_path) - {"file"}
    assert part.startswith(".file.") and part.endswith(".tmp")
    for other in (".hidden", "a.tmp"):  # not parts of files of ours
        (tmp_path / other).touch()
    remove_unfinished(tmp_path)
    assert names(tmp_path) == {"file", ".hidden", "a.tmp"}


def test_a_crash_between_the_two_renames_leaves_the_previous_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    crash_at_replace(2, tmp_path / "file", "new", previous=tmp_path / "previous")
    remove_unfinished(tmp_path)
    assert names(tmp_path) == {"previous"}
    assert (tmp_path / "previous").read_text() == "old"
