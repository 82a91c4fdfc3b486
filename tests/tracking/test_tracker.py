"""What lands in the event file, and what the figures show."""

import errno
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.runs import points, read_events
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as PluginEventAccumulator
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.plugins.distribution.compressor import compress_histogram
from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.summary.writer.event_file_writer import AtomicCounter
from tensorboard.util import tensor_util

from vgg_nll.model.summary import Layer
from vgg_nll.plots import Diagram, reliability_diagram
from vgg_nll.tracking import tags
from vgg_nll.tracking.event_files import event_files
from vgg_nll.tracking.summaries import (
    Embedding,
    EmbeddingData,
    FigureSummary,
    Histogram,
    Hyperparameters,
    ImageGrid,
    Layers,
    PrecisionRecall,
    Scalars,
    SessionEnd,
    Summary,
    Text,
)
from vgg_nll.tracking.tracker import GuardedTracker, NullTracker, TensorBoardTracker, Tracker


@pytest.fixture(autouse=True)
def _first_event_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Event files of one second end in a counter of the process: its tenth file would sort before its ninth."""
    monkeypatch.setattr("tensorboard.summary.writer.event_file_writer._global_uid", AtomicCounter(0))


def embedding(words: list[str]) -> Embedding:
    number = len(words)
    pictures = torch.zeros(number, 3, 2, 2, dtype=torch.uint8)
    return Embedding(lambda: EmbeddingData(torch.eye(number), ["label", "said"], [[word, word] for word in words], pictures))


def use(tracker: Tracker) -> None:
    for summary in (
        Scalars({"loss/train": 2.5, "confidence/incorrect": math.nan}),
        Histogram("confidence/margin_histogram", np.array([1.0, 4.0, 2.0, math.inf]), "log-odds"),
        Histogram("confidence/margin_histogram_incorrect", np.array([math.nan]), "log-odds"),
        FigureSummary("calibration/reliability_diagram", lambda: reliability_diagram(Diagram([1, 3], [0, 3], [0.4, 2.7]))),
        PrecisionRecall("precision_recall/a", np.array([[2, 1], [2, 0], [0, 2], [0, 1], [0.5, 1], [1, 0.5]])),
        PrecisionRecall("precision_recall/b", np.array([[0, 0], [2, 0], [0, 2], [0, 0], [0, 1], [math.nan] * 2])),
        Hyperparameters({"loss": "argmax", "lr": 0.1}),
        embedding(["a", "b", "b"]),
        Layers(
            [
                Layer("features.0", "conv1_1", "conv1", "Conv", (4, 2, 2), 112),
                Layer("classifier.0", "fc", "classifier", "Linear", (2,), 10),
            ]
        ),
        SessionEnd(True),
    ):
        tracker.add(summary, 3)
    tracker.add(Text("config", "seed: 0"), 1)
    tracker.close()


def test_event_file(tmp_path: Path) -> None:
    use(TensorBoardTracker(tmp_path, 1))
    events = read_events(tmp_path)
    assert events.Tags()["scalars"] == ["loss/train"]  # NaN is left out
    (point,) = events.Scalars("loss/train")
    assert (point.step, point.value) == (3, 2.5)
    (histogram,) = events.Tensors("confidence/margin_histogram")
    buckets = tensor_util.make_ndarray(histogram.tensor_proto)
    assert buckets == pytest.approx(np.array([[1, 2, 1.5], [2, 4, 1.5]]))  # equal shares between the values 1, 2 and 4
    assert len(events.Images("calibration/reliability_diagram")) == 1
    assert "config/text_summary" in events.Tags()["tensors"]
    assert [tag for tag in events.Tags()["tensors"] if "precision" in tag] == ["precision_recall/a"]  # b has no image
    histograms = [tag for tag in events.Tags()["tensors"] if "histogram" in tag]
    assert histograms == ["confidence/margin_histogram"]  # nothing was wrong
    names = [(node.name, node.op, list(node.input)) for node in GraphDef.FromString(events.Graph().SerializeToString()).node]
    assert names == [("conv1/conv1_1", "Conv", []), ("classifier/fc", "Linear", ["conv1/conv1_1"])]
    (table,) = events.Tensors("model/text_summary")
    assert b"**122**" in table.tensor_proto.string_val[0]


@pytest.mark.parametrize("size", [1, 2, 3, 10, 180, 1001, 1002, 5000])
@pytest.mark.parametrize("kind", ["normal", "one spike", "few values", "tail", "large"])
def test_quantiles_of_histograms(tmp_path: Path, size: int, kind: str) -> None:
    """Every quantile that TensorBoard's own code makes of the event file is NumPy's, within 1%."""
    draw = np.random.default_rng(size)
    values = {
        "normal": draw.normal(2, 3, size),
        "one spike": np.where(np.arange(size) % 50 == 7, draw.normal(0, 1, size), 17.25),
        "few values": draw.integers(-2, 3, size).astype(float),
        "tail": np.exp(draw.normal(1, 1.5, size)),
        "large": 700 + draw.normal(0, 1e-3, size),
    }[kind]
    tracker = TensorBoardTracker(tmp_path, 1)
    tracker.add(Histogram("confidence/margin_histogram", np.concatenate([values, [math.nan, math.inf]]), "log-odds"), 3)
    tracker.close()
    (event,) = [e for path in event_files(tmp_path) for e in EventFileLoader(str(path)).Load() if len(e.summary.value)]
    (value,) = event.summary.value
    assert value.metadata.summary_description == "log-odds"
    buckets = tensor_util.make_ndarray(value.tensor)
    assert (buckets[:, 0] < buckets[:, 1]).all()  # the page divides by the width
    assert buckets[:, 2].sum() == pytest.approx(size, rel=1e-5)
    for basis_points, found in compress_histogram(buckets):
        exact = np.quantile(values, basis_points / 10_000)
        assert found == pytest.approx(exact, rel=0.01, abs=0.01), basis_points


@pytest.mark.parametrize("is_success", [True, False])
def test_the_end_of_a_session_says_how(tmp_path: Path, is_success: bool) -> None:
    tracker = TensorBoardTracker(tmp_path, 1)
    tracker.add(Hyperparameters({"seed": 0, "optimizer": "adamw", "loss": "argmax"}), 1)
    tracker.add(SessionEnd(is_success), 5)
    tracker.close()
    plugin = read_events(tmp_path).PluginTagToContent("hparams")
    end = HParamsPluginData.FromString(plugin["_hparams_/session_end_info"]).session_end_info
    assert Status.Name(end.status) == ("STATUS_SUCCESS" if is_success else "STATUS_FAILURE")
    columns = HParamsPluginData.FromString(plugin["_hparams_/experiment"]).experiment.hparam_infos
    assert {column.name: column.differs for column in columns} == {"seed": True, "optimizer": False, "loss": True}


def test_an_open_tensorboard_shows_no_point_twice(tmp_path: Path) -> None:
    """It has read points that a kill made void, before the run is resumed."""
    first = TensorBoardTracker(tmp_path, 1, 0)
    for step in range(4):
        first.add(Scalars({"loss/train": float(step)}), step)
    first.flush(1)  # the state of step 1 is saved, and steps 2 and 3 are lost
    first.close()
    open_page = PluginEventAccumulator(str(tmp_path)).Reload()
    assert len(open_page.Tensors("loss/train")) == 4
    second = TensorBoardTracker(tmp_path, 2)
    for step in (2, 3):
        second.add(Scalars({"loss/train": 10.0 + step}), step)
    second.close()
    open_page.Reload()
    points = [(e.step, float(tensor_util.make_ndarray(e.tensor_proto))) for e in open_page.Tensors("loss/train")]
    assert points == [(0, 0.0), (1, 1.0), (2, 12.0), (3, 13.0)]


def test_files_of_a_run(tmp_path: Path) -> None:
    """One event file, right there, and the projector's; made again, its points take the place of the old ones."""
    use(TensorBoardTracker(tmp_path, 1))
    tracker = TensorBoardTracker(tmp_path, 4)
    tracker.add(embedding(["a", "b"]), 5)
    tracker.close()
    left = {path.name for path in tmp_path.iterdir() if not path.name.startswith("events.out.tfevents.")}
    assert left == {"00005", "projector_config.pbtxt"}
    assert (tmp_path / "00005/penultimate_features/metadata.tsv").read_text().split() == ["label", "said", "a", "a", "b", "b"]
    assert (tmp_path / "projector_config.pbtxt").read_text().count("embeddings {") == 1


def test_nobody_elses_folder_is_removed(tmp_path: Path) -> None:
    """Nor the old points, where new ones cannot be made."""
    (tmp_path / "my analysis" / "penultimate_features").mkdir(parents=True)
    (tmp_path / "00001" / "penultimate_features").mkdir(parents=True)
    (tmp_path / "00001" / "notes.txt").touch()
    (tmp_path / "00002" / "penultimate_features").mkdir(parents=True)
    tracker = TensorBoardTracker(tmp_path, 1)
    with pytest.raises(MemoryError):
        tracker.add(Embedding(lambda: (_ for _ in ()).throw(MemoryError())), 5)
    assert (tmp_path / "00002/penultimate_features").exists()
    tracker.add(embedding(["a\tb", "c\nd"]), 5)
    tracker.close()
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"my analysis", "00001", "00005"}
    assert (tmp_path / "my analysis/penultimate_features").exists()
    assert (tmp_path / "00001/notes.txt").exists()
    assert (tmp_path / "00005/penultimate_features/metadata.tsv").read_text() == "label\tsaid\na b\ta b\nc d\tc d\n"


def test_hyperparameters_of_a_resumed_run(tmp_path: Path) -> None:
    """TensorBoard keeps the first ones that it finds: those of the last start are the only ones."""
    tracker = TensorBoardTracker(tmp_path, 1)
    tracker.add(Hyperparameters({"loss": "argmax", "lr": 0.1}), 1)
    tracker.add(SessionEnd(True), 5)
    tracker.close()
    tracker = TensorBoardTracker(tmp_path, 6)
    tracker.add(Hyperparameters({"loss": "argmax", "lr": 0.2}), 6)
    tracker.close()
    plugin = read_events(tmp_path).PluginTagToContent("hparams")
    start = HParamsPluginData.FromString(plugin["_hparams_/session_start_info"]).session_start_info
    assert start.hparams["lr"].number_value == 0.2
    assert "_hparams_/session_end_info" not in plugin


def fails(error: Exception) -> Callable[[], Figure]:
    return lambda: (_ for _ in ()).throw(error)


def test_what_cannot_be_drawn_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With one warning a picture; the curves continue."""
    tracker = GuardedTracker(lambda: TensorBoardTracker(tmp_path, 1))
    for step in (1, 2):
        tracker.add(FigureSummary("a/b", fails(ValueError("no font"))), step)
        tracker.add(Scalars({"loss/train": 1.0}), step)
    tracker.close()
    assert [(tag, step) for tag, step, _ in points(tmp_path)] == [("loss/train", 1), ("loss/train", 2)]
    assert [record.getMessage() for record in caplog.records] == [
        "warning: a/b is left out of TensorBoard, training continues: ValueError: no font"
    ]


def test_what_was_taken_before_the_disk_refused_is_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracker = GuardedTracker(lambda: TensorBoardTracker(tmp_path, 1))
    tracker.add(Scalars({"loss/train": 1.0}), 1)
    tracker.add(FigureSummary("a/b", fails(OSError("no space left"))), 1)
    tracker.add(Scalars({"loss/train": 2.0}), 2)
    assert [(tag, step) for tag, step, _ in points(tmp_path)] == [("loss/train", 1)]  # at once, without an end
    tracker.close()
    assert caplog.text.count("no more curves from here on, training continues: tracking failed (no space left)") == 1


def test_hyperparameters_are_one_session(tmp_path: Path) -> None:
    """As the HParams page reads them: settings and metric tags when the run begins, its end when it ends."""
    tracker = TensorBoardTracker(tmp_path, 1)
    tracker.add(Hyperparameters({"loss": "argmax", "lr": 0.1}), 1)
    tracker.close()
    plugin = read_events(tmp_path).PluginTagToContent("hparams")
    assert set(plugin) == {"_hparams_/experiment", "_hparams_/session_start_info"}
    start = HParamsPluginData.FromString(plugin["_hparams_/session_start_info"]).session_start_info
    assert (start.hparams["loss"].string_value, start.hparams["lr"].number_value) == ("argmax", 0.1)
    experiment = HParamsPluginData.FromString(plugin["_hparams_/experiment"]).experiment
    assert [metric.name.tag for metric in experiment.metric_infos] == list(tags.HYPERPARAMETER_METRICS)
    tracker = TensorBoardTracker(tmp_path, 2)
    tracker.add(SessionEnd(True), 2)
    tracker.close()
    end = HParamsPluginData.FromString(read_events(tmp_path).PluginTagToContent("hparams")["_hparams_/session_end_info"])
    assert end.session_end_info.status == Status.Value("STATUS_SUCCESS")


def test_resumed_points_replace_old_ones(tmp_path: Path) -> None:
    first = TensorBoardTracker(tmp_path, 1)
    for step in (1, 2, 3):
        first.add(Scalars({"loss/train": float(step)}), step)
    first.close()
    again = TensorBoardTracker(tmp_path, 3)
    again.add(Scalars({"loss/train": 30.0}), 3)
    again.close()
    assert [(point.step, point.value) for point in read_events(tmp_path).Scalars("loss/train")] == [(1, 1), (2, 2), (3, 30)]


def test_files_are_free_of_what_is_done_again(tmp_path: Path) -> None:
    """Also for a reader that knows of no purging; and what a kill left of a record is gone."""
    first = TensorBoardTracker(tmp_path, 1)
    use(first)
    first = TensorBoardTracker(tmp_path, 4)
    for step in (4, 5):
        first.add(Scalars({"loss/train": 1.0, "test/loss": 1.0}), step)
    first.close()
    files = event_files(tmp_path)
    with files[1].open("ab") as file:
        file.write(b"torn")
    untouched = files[0].stat().st_mtime_ns
    TensorBoardTracker(tmp_path, 5).close()
    files = event_files(tmp_path)
    found = points(tmp_path)
    assert [(tag, step) for tag, step, _ in found if tag.startswith(("loss", "test"))] == [("loss/train", 3), ("loss/train", 4)]
    assert not files[1].read_bytes().endswith(b"torn")
    assert files[0].stat().st_mtime_ns == untouched
    assert len(files) == 3


def test_a_start_from_the_beginning_takes_everything_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A run that was killed before its first save is started again in its folder."""
    use(TensorBoardTracker(tmp_path, 1))
    assert len(points(tmp_path)) > 0
    TensorBoardTracker(tmp_path, 1, run_id="new").close()
    assert points(tmp_path) == []
    TensorBoardTracker(tmp_path, 1, run_id="new").close()
    assert "gaps" not in caplog.text


def test_a_damaged_event_file_is_left_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Only a torn end is cut off: behind a flipped bit there may be the points of hours. Nor is another's file emptied."""
    use(TensorBoardTracker(tmp_path, 1))
    path = event_files(tmp_path)[0].rename(tmp_path / "events.out.tfevents.1000000000.pc")
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    notes = tmp_path / "events.out.tfevents.notes"
    notes.write_text("which of these is the good one")
    TensorBoardTracker(tmp_path, 2).close()
    assert path.read_bytes() == content
    assert notes.read_text() == "which of these is the good one"
    assert caplog.text.count("is damaged: the points after the damage stay") == 2


def test_an_event_file_that_was_cut_off_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At any byte: the marks show up to which step the file was written."""
    tracker = TensorBoardTracker(tmp_path, 1, run_id="this")
    for step in (1, 2):
        tracker.add(Scalars({"loss/train": float(step)}), step)
        tracker.flush(step)
    tracker.close()
    (path,) = event_files(tmp_path)
    whole = path.read_bytes()
    for length in (*range(0, len(whole), 7), len(whole) - 1):
        for later in event_files(tmp_path)[1:]:
            later.unlink()
        path.write_bytes(whole[:length])
        caplog.clear()
        TensorBoardTracker(tmp_path, 3, run_id="this").close()
        assert "its curves have gaps" in caplog.text, length
    path.write_bytes(whole)
    caplog.clear()
    TensorBoardTracker(tmp_path, 3, run_id="this").close()
    TensorBoardTracker(tmp_path, 3, run_id="this").close()
    assert caplog.text == ""
    path.unlink()
    TensorBoardTracker(tmp_path, 3, run_id="this").close()
    assert "its curves have gaps" in caplog.text


def test_an_event_file_of_another_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    use(TensorBoardTracker(tmp_path, 1, run_id="other"))
    (path,) = event_files(tmp_path)
    before = path.read_bytes()
    TensorBoardTracker(tmp_path, 2, run_id="this").close()
    assert path.read_bytes() == before
    assert "an event file is missing, cut off, or of another run" in caplog.text


def test_a_validation_that_is_done_again(tmp_path: Path) -> None:
    """The state of step 3 was saved before its validation: that goes, and the training curves of the step stay."""
    tracker = TensorBoardTracker(tmp_path, 1)
    for step in (2, 3):
        tracker.add(Scalars(dict.fromkeys((tags.LOSS_TRAIN, tags.LEARNING_RATE, *tags.VALIDATION.values()), 1.0)), step)
        tracker.add(Histogram("confidence/margin_histogram", np.array([0.0, 1.0]), ""), step)
    tracker.add(Text("config", "x"), 3)
    for tag in (tags.AUGMENTED, tags.FIRST_OF_CLASSES):
        tracker.add(ImageGrid(tag, lambda: torch.zeros(1, 3, 8, 8, dtype=torch.uint8), columns=1), 3)
    tracker.close()
    TensorBoardTracker(tmp_path, 4, first_validation=3).close()
    left = read_events(tmp_path)
    steps = {tag: [point.step for point in left.Scalars(tag)] for tag in left.Tags()["scalars"]}
    assert steps == {tag: [2, 3] for tag in (tags.LOSS_TRAIN, tags.LEARNING_RATE)} | {
        tag: [2] for tag in tags.VALIDATION.values()
    }
    assert [point.step for point in left.Tensors("confidence/margin_histogram")] == [2]
    assert [point.step for point in left.Tensors("config/text_summary")] == [3]
    for tag in (tags.AUGMENTED, tags.FIRST_OF_CLASSES):
        assert [image.step for image in left.Images(tag)] == [3]


def test_a_full_disk_in_the_writing_thread(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorBoard's: one warning, and no traceback from beside; that of another thread is shown."""
    shown: list[object] = []
    monkeypatch.setattr("vgg_nll.tracking.tracker._show_thread_error", shown.append)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    tracker = GuardedTracker(lambda: TensorBoardTracker(tmp_path, 1))
    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", full)
    for step in range(1, 5):
        tracker.add(Scalars({"loss/train": 1.0}), step)
        tracker.flush(step)
    tracker.close()
    assert caplog.text.count("no more curves from here on, training continues") == 1
    assert shown == []
    thread = threading.Thread(target=full)
    thread.start()
    thread.join()
    assert len(shown) == 1


def test_null_tracker_keeps_nothing(tmp_path: Path) -> None:
    use(NullTracker(tmp_path, 1))
    assert list(tmp_path.iterdir()) == []


def heights(patches: list[Any]) -> list[float]:
    return [bar.get_height() for bar in patches]


def test_reliability_diagram_has_a_bar_per_filled_bin() -> None:
    """Bins of (0, 0.5] and (0.5, 1]: one image, wrong at 0.4; three, right at 0.9 each."""
    above, below = reliability_diagram(Diagram([1, 3], [0, 3], [0.4, 2.7])).axes
    accuracy, gap, chance = above.patches[:2], above.patches[2:4], above.patches[4:]
    assert heights(accuracy) == [0, 1]
    assert heights(gap) == pytest.approx([0.4, -0.1])
    assert heights(list(below.patches)) == [1, 3]
    empty, _ = reliability_diagram(Diagram([0, 3], [0, 3], [0, 2.7])).axes
    assert len(empty.patches) == 3 and len(chance) == 2


class FullDisk(NullTracker):
    """Cannot add anything, and notes that it was closed."""

    def __init__(self, closed: list[str]) -> None:
        self.closed = closed

    def add(self, summary: Summary, step: int) -> None:
        raise OSError("no space left")

    def close(self) -> None:
        self.closed.append("closed")


def test_a_tracker_that_is_given_up_is_closed_once() -> None:
    closed: list[str] = []
    tracker = GuardedTracker(lambda: FullDisk(closed))
    tracker.add(Scalars({"loss/train": 1.0}), 1)
    assert closed == ["closed"]
    tracker.close()
    assert closed == ["closed"]
