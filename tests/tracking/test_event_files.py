"""Curves, read back from event files."""

from pathlib import Path

from helpers.runs import write_events

from vgg_nll.tracking.event_files import read_curves


def test_several_files(tmp_path: Path) -> None:
    first = write_events(tmp_path, ("a", 2, 2.0), ("a", 1, 1.0), ("a", 3, 3.0), ("b", 3, 0.5))
    first.rename(tmp_path / "events.out.tfevents.1000000000.x")
    write_events(tmp_path, ("a", 3, 30.0), ("a", 4, 4.0), ("a", 4, 40.0))  # later by its name
    assert read_curves(tmp_path) == {"a": [(1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0)], "b": [(3, 0.5)]}


def test_damaged_files(tmp_path: Path) -> None:
    path = write_events(tmp_path, ("a", 1, 1.0), ("a", 2, 2.0))
    whole = path.read_bytes()
    end = whole.rindex(b"config/text_summary")
    path.write_bytes(whole[: end + 3])  # torn in its last record
    assert read_curves(tmp_path) == {"a": [(1, 1.0), (2, 2.0)]}
    path.write_bytes(whole[: end - 30] + b"\xff\xff\xff" + whole[end - 27 :])  # bits of an earlier record
    assert read_curves(tmp_path) == {"a": [(1, 1.0)]}
    path.write_bytes(b"not an event file")
    (tmp_path / "events.out.tfevents.9.link").symlink_to(tmp_path / "gone")
    assert read_curves(tmp_path) == {}
