"""Curves, read back from event files."""

from pathlib import Path

import pytest
from helpers.runs import write_events

from vgg_nll.tracking.event_files import event_files, read_checked, read_curves, read_times
from vgg_nll.tracking.summaries import Scalars
from vgg_nll.tracking.tracker import TensorBoardTracker


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
    assert read_times(tmp_path, "a") == []


def sessions(folder: Path, *names: str) -> None:
    """Leaves the event files of a run that is resumed after every step, each under one of these names."""
    for step, name in enumerate(names, start=1):
        tracker = TensorBoardTracker(folder, step, run_id="this")
        tracker.add(Scalars({"a": float(step)}), step)
        tracker.flush(step)
        tracker.close()
        (path,) = [path for path in event_files(folder) if path.name not in names]
        path.rename(folder / name)


def test_sound_files_have_no_problems(tmp_path: Path) -> None:
    """In any order of their names: the clock may have been set back. Files without marks are not checked."""
    sessions(tmp_path, "events.out.tfevents.1", "events.out.tfevents.2", "events.out.tfevents.3")
    curves = {"a": [(1, 1.0), (2, 2.0), (3, 3.0)]}
    assert read_checked(tmp_path, "this", 3) == read_checked(tmp_path) == (curves, [])
    (tmp_path / "events.out.tfevents.1").rename(tmp_path / "events.out.tfevents.9")
    assert read_checked(tmp_path, "this", 3) == (curves, [])
    other = tmp_path / "other"
    other.mkdir()
    write_events(other, ("a", 1, 1.0))
    assert read_checked(other, "this", 3) == ({"a": [(1, 1.0)]}, [])


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_event_file_that_is_cut_off_or_missing_is_said(tmp_path: Path, number: int) -> None:
    """At any byte, between two records too."""
    sessions(tmp_path, *(f"events.out.tfevents.{k}" for k in (1, 2, 3)))
    path = tmp_path / f"events.out.tfevents.{number}"
    gaps = f"{tmp_path}: an event file is missing or cut off, so its curves have gaps; copy it again if it is whole elsewhere"
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 5):
        path.write_bytes(whole[:length])
        (line,) = read_checked(tmp_path, "this", 3)[1]
        assert line == gaps or line.startswith(f"{path}: is damaged, so the points after step "), length
        assert line.endswith("; copy it again if it is whole elsewhere")
    path.unlink()
    assert read_checked(tmp_path, "this", 3)[1] == [gaps]


def test_an_empty_event_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "events.out.tfevents.1"
    path.touch()
    line = f"{path}: is damaged, so the points after step 0 are missing; copy it again if it is whole elsewhere"
    assert read_checked(tmp_path, "this", 3) == ({}, [line])


def test_an_event_file_of_another_run_is_said_and_not_read(tmp_path: Path) -> None:
    sessions(tmp_path, "events.out.tfevents.1")
    other = tmp_path / "other"
    other.mkdir()
    sessions(other, "events.out.tfevents.2", "events.out.tfevents.3")
    path = (other / "events.out.tfevents.3").rename(tmp_path / "events.out.tfevents.3")
    assert read_checked(tmp_path, "this", 2) == ({"a": [(1, 1.0), (2, 2.0)]}, [])
    assert read_checked(tmp_path, "that", 2)[0] == {}
    assert read_checked(tmp_path, "that", 2)[1][1] == (
        f"{path}: is of another run; remove it, or put the file of this run in its place"
    )
