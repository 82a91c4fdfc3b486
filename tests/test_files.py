"""A file is the old one or the new one, whole, whatever happens while it is written."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from vgg_nll.files import atomic_write, read_regular_file, remove_unfinished, write_csv

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
    path = tmp_path / "file"
    atomic_write(path, content)
    assert path.read_bytes() == expected
    path.write_text("longer than what follows")
    atomic_write(path, content)
    assert path.read_bytes() == expected
    assert names(tmp_path) == {"file"}


def test_a_table_holds_no_commands(tmp_path: Path) -> None:
    """Neither for a terminal nor for a spreadsheet; numbers stay."""
    write_csv(tmp_path / "a.csv", ("name", "value"), [("a\x1b[2J\nb", -0.5), ("=1+1", None)])
    assert (tmp_path / "a.csv").read_text() == "name,value\n" + r"a\x1b[2J\nb,-0.5" + "\n'=1+1,\n"


def test_no_folder_is_made(tmp_path: Path) -> None:
    """One that was removed in the middle of a run must not come back with a part of its files."""
    with pytest.raises(FileNotFoundError) as error:
        atomic_write(tmp_path / "gone" / "file", "text")
    assert str(tmp_path / "gone") in str(error.value)
    assert names(tmp_path) == set()


def test_an_error_of_the_disk_names_the_file(tmp_path: Path) -> None:
    """That of a full one does not do so by itself."""

    def full(file: IO[bytes]) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path / 'file'}'"):
        atomic_write(tmp_path / "file", full)


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    """Neither for the file nor for its unfinished part."""
    (tmp_path / "run").mkdir()
    for name in ("file", f".file.{os.getpid()}.tmp", "previous", f".previous.{os.getpid()}.tmp"):
        (tmp_path / f"outside {name}").write_text("precious")
        (tmp_path / "run" / name).symlink_to(tmp_path / f"outside {name}")
    atomic_write(tmp_path / "run/file", "text", previous=tmp_path / "run/previous")
    assert {path.read_text() for path in tmp_path.glob("outside *")} == {"precious"}
    assert (tmp_path / "run/file").read_text() == "text"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "large", "device"])
def test_only_regular_files_of_a_size_are_read(tmp_path: Path, kind: str) -> None:
    """A pipe would wait for ever, and a device has no end."""
    path = tmp_path / "file"
    (tmp_path / "other").write_text("0123456789")
    if kind == "link":
        path.symlink_to(tmp_path / "other")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        path.write_text("0123456789a")
    else:
        path = Path("/dev/zero")
    with pytest.raises((ValueError, IsADirectoryError)):
        read_regular_file(path, 10)
    assert read_regular_file(tmp_path / "other", 10) == b"0123456789"


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
    fsync, link, replace = os.fsync, os.link, Path.replace

    def logged_fsync(handle: int) -> None:
        events.append("flush folder" if Path(f"/proc/self/fd/{handle}").is_dir() else "flush bytes")
        fsync(handle)

    def logged_replace(self: Path, target: Path) -> Path:
        events.append(f"{target.name} is {'another' if self.suffix == '.tmp' else self.name}")
        return replace(self, target)

    def logged_link(source: Path, target: Path) -> None:
        events.append(f"{source.name} has two names")
        link(source, target)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "link", logged_link)
    monkeypatch.setattr(Path, "replace", logged_replace)
    (tmp_path / "file").write_text("old")
    atomic_write(tmp_path / "file", "new", previous=tmp_path / "previous")
    assert events == ["flush bytes", "file has two names", "previous is another", "file is another", "flush folder"]


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


def no_links(*_: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize(("links", "left"), [(True, {"file", "previous"}), (False, {"previous"})])
def test_a_crash_between_the_two_renames(tmp_path: Path, links: bool, left: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The old file keeps its name; on a disk without hard links, it is the previous one for a moment."""
    (tmp_path / "file").write_text("old")
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    crash_at_replace(2, tmp_path / "file", "new", previous=tmp_path / "previous")
    remove_unfinished(tmp_path)
    assert names(tmp_path) == left
    assert {(tmp_path / name).read_text() for name in left} == {"old"}


def test_without_hard_links_the_old_file_is_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", no_links)
    test_the_old_file_is_kept_as_previous(tmp_path)
