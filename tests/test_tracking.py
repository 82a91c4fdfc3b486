"""What lands in the event file, and what the figures show."""

import math
from pathlib import Path

import pytest
from conftest import points
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vgg_nll.tracking.figures import reliability_diagram
from vgg_nll.tracking.tracker import NullTracker, TensorBoardTracker, Tracker


def read(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0, "images": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def use(tracker: Tracker) -> None:
    tracker.scalars({"loss/train": 2.5, "confidence/incorrect": math.nan}, 3)
    tracker.histogram("confidence/histogram", [0.0, 1.0, 3.0], 2.5, 2.1, 3)
    tracker.figure("calibration/reliability_diagram", reliability_diagram([1, 3], [0, 3], [0.4, 2.7]), 3)
    tracker.text("config", "seed: 0", 1)
    tracker.close()


def test_event_file(tmp_path: Path) -> None:
    use(TensorBoardTracker(tmp_path, 1))
    events = read(tmp_path)
    assert events.Tags()["scalars"] == ["loss/train"]  # NaN is left out
    (point,) = events.Scalars("loss/train")
    assert (point.step, point.value) == (3, 2.5)
    (histogram,) = events.Histograms("confidence/histogram")
    value = histogram.histogram_value
    assert (value.num, value.sum, value.sum_squares) == (4, 2.5, 2.1)
    assert list(value.bucket) == [0, 1, 3]
    assert list(value.bucket_limit) == pytest.approx([1 / 3, 2 / 3, 1])
    assert len(events.Images("calibration/reliability_diagram")) == 1
    assert "config/text_summary" in events.Tags()["tensors"]
    assert len(list(tmp_path.iterdir())) == 1


def test_resumed_points_replace_old_ones(tmp_path: Path) -> None:
    first = TensorBoardTracker(tmp_path, 1)
    for step in (1, 2, 3):
        first.scalars({"loss/train": float(step)}, step)
    first.close()
    again = TensorBoardTracker(tmp_path, 3)
    again.scalars({"loss/train": 30.0}, 3)
    again.close()
    assert [(point.step, point.value) for point in read(tmp_path).Scalars("loss/train")] == [(1, 1), (2, 2), (3, 30)]


def test_files_are_free_of_what_is_done_again(tmp_path: Path) -> None:
    """Also for a reader that knows of no purging; and what a kill left of a record is gone."""
    first = TensorBoardTracker(tmp_path, 1)
    use(first)
    first = TensorBoardTracker(tmp_path, 4)
    for step in (4, 5):
        first.scalars({"loss/train": 1.0, "test/loss": 1.0}, step)
    first.close()
    files = sorted(tmp_path.iterdir())
    with files[1].open("ab") as file:
        file.write(b"torn")
    untouched = files[0].stat().st_mtime_ns
    TensorBoardTracker(tmp_path, 5).close()
    found = points(tmp_path)
    assert [(tag, step) for tag, step, _ in found if tag.startswith(("loss", "test"))] == [("loss/train", 3), ("loss/train", 4)]
    assert not files[1].read_bytes().endswith(b"torn")
    assert files[0].stat().st_mtime_ns == untouched
    assert len(list(tmp_path.iterdir())) == 3


def test_a_damaged_event_file_is_left_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Only a torn end is cut off: behind a flipped bit there may be the points of hours. Nor is another's file emptied."""
    use(TensorBoardTracker(tmp_path, 1))
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    notes = tmp_path / "events.out.tfevents.notes"
    notes.write_text("which of these is the good one")
    TensorBoardTracker(tmp_path, 2).close()
    assert path.read_bytes() == content
    assert notes.read_text() == "which of these is the good one"
    assert caplog.text.count("is damaged: the points behind that are left as they are") == 2


def test_null_tracker_keeps_nothing(tmp_path: Path) -> None:
    use(NullTracker(tmp_path, 1))
    assert list(tmp_path.iterdir()) == []


def test_reliability_diagram_has_a_bar_per_filled_bin() -> None:
    """Bins of (0, 0.5] and (0.5, 1]: one image, wrong at 0.4; three, right at 0.9 each."""
    above, below = reliability_diagram([1, 3], [0, 3], [0.4, 2.7]).axes
    accuracy, gap = [p for p in above.patches if p.get_alpha() is None], [p for p in above.patches if p.get_alpha() is not None]
    assert [bar.get_height() for bar in accuracy] == [0, 1]
    assert [bar.get_height() for bar in gap] == pytest.approx([0.4, -0.1])
    assert [bar.get_height() for bar in below.patches] == [1, 3]
    empty, _ = reliability_diagram([0, 3], [0, 3], [0, 2.7]).axes
    assert len(empty.patches) == 2
