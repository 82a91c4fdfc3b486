"""Mean, minimum and maximum over seeds: their numbers, when they are written, and that jobs are never touched."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.runs import read_curves, read_events, write_events

from vgg_nll.comparison.runs import find
from vgg_nll.run_folder import checked_json, paths
from vgg_nll.sweeps import means
from vgg_nll.sweeps.job_names import Job
from vgg_nll.sweeps.means import MEMBERS, Means, setting_of
from vgg_nll.sweeps.record import PRIVATE, Sweep
from vgg_nll.tracking.event_files import event_files
from vgg_nll.tracking.summaries import Scalars
from vgg_nll.tracking.tracker import TensorBoardTracker


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    (tmp_path / PRIVATE).mkdir()
    jobs = [Job(f"loss={loss},seed={seed}", (f"loss={loss}", f"seed={seed}")) for loss in "ab" for seed in range(3)]
    return Sweep(tmp_path, "x", swept=["loss", "seed"], jobs={job.name: job for job in jobs})


def finish(sweep: Sweep, job: Job, *points: tuple[str, int, float]) -> None:
    folder = sweep.folder_of(job)
    folder.mkdir()
    write_events(folder, *points)
    (folder / paths.DONE).touch()


def test_a_mean_says_what_it_lacks(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    """A job whose event file is cut off, and one with the file of another run."""
    a0, a1, *_ = sweep.jobs.values()
    for job in (a0, a1):
        finish(sweep, job)
        for path in event_files(sweep.folder_of(job)):
            path.unlink()
        tracker = TensorBoardTracker(sweep.folder_of(job), 1, run_id=job.name)
        for step in (1, 2):
            tracker.add(Scalars({"loss/val": float(step)}), step)
            tracker.flush(step)
        tracker.close()
        checked_json.write(sweep.folder_of(job) / paths.METRICS, {"step": 2}, job.name)
    means._write(sweep.folder, "loss=a", [a0.name, a1.name])
    assert capsys.readouterr().err == ""
    (cut,), (foreign,) = (event_files(sweep.folder_of(job)) for job in (a0, a1))
    cut.write_bytes(cut.read_bytes()[:-3])
    checked_json.write(sweep.folder_of(a1) / paths.METRICS, {"step": 2}, "other")
    means._write(sweep.folder, "loss=a", [a0.name, a1.name])
    assert [line.partition("; ")[0] for line in capsys.readouterr().err.splitlines()] == [
        f"warning: {cut}: is damaged, so the points after step 2 are missing",
        f"warning: {foreign}: is of another run",
    ]


def test_means(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    a0, a1, a2, *_ = sweep.jobs.values()
    finish(sweep, a0, ("loss/val", 1, 1.0), ("loss/val", 2, 0.5), ("speed/mfu", 1, 3.0), ("test/ece", 2, 0.25))
    updates = Means(sweep)
    updates.update(a0)
    updates.finish()
    assert not (sweep.folder / "mean").exists()  # of one seed
    # its best step is another one
    finish(sweep, a1, ("loss/val", 1, 3.0), ("loss/val", 2, 2.5), ("test/ece", 1, 0.5))
    updates.update(a1)
    updates.finish()
    expected: dict[str, Callable[[list[float]], float]] = {"mean": statistics.fmean, "min": min, "max": max}
    for name, function in expected.items():
        curves = read_curves(sweep.folder / name / "loss=a")
        assert curves == {
            "loss/val": [(1, function([1.0, 3.0])), (2, function([0.5, 2.5]))],
            "test/ece": [(2, function([0.25, 0.5]))],
        }
    finish(sweep, a2, ("loss/val", 1, 8.0))
    updates.update(a2)
    updates.finish()
    assert read_curves(sweep.folder / "mean/loss=a")["loss/val"] == [(1, 4.0)]
    assert (sweep.folder / "max/loss=a" / MEMBERS).read_text() == "".join(f"loss=a,seed={seed}\n" for seed in range(3))
    assert {path.name for path in (sweep.folder / "mean").iterdir()} == {"loss=a"}
    assert find([sweep.folder])[0] == []  # no comparison takes a mean for a run
    calls: list[object] = []
    monkeypatch.setattr(means, "new_process", lambda *arguments: calls.append(arguments))
    updates.update(a0)
    updates.finish()
    assert calls == []  # nothing has changed


def test_an_open_tensorboard_drops_the_old_points(sweep: Sweep) -> None:
    """It has read them before, and reads on in the next file of the folder."""
    a0, a1, a2, *_ = sweep.jobs.values()
    finish(sweep, a0, ("loss/val", 1, 1.0), ("loss/val", 2, 1.0))
    finish(sweep, a1, ("loss/val", 1, 3.0), ("loss/val", 2, 3.0))
    updates = Means(sweep)
    updates.update(a1)
    updates.finish()
    opened = read_events(sweep.folder / "mean/loss=a")
    assert [point.value for point in opened.Scalars("loss/val")] == [2.0, 2.0]
    finish(sweep, a2, ("loss/val", 1, 8.0), ("loss/val", 2, 8.0))
    time.sleep(1.1)  # files are in the order of the seconds in their names
    updates.update(a2)
    updates.finish()
    opened.Reload()
    assert [(point.step, point.value) for point in opened.Scalars("loss/val")] == [(1, 4.0), (2, 4.0)]


@pytest.mark.parametrize(
    ("overrides", "swept", "expected"),
    [
        (("loss=a", "seed=1"), ["loss", "seed"], "loss=a"),
        (("loss=a", "seed=1", "data.fold=2", "device=cpu"), ["loss", "seed"], "loss=a"),
        (("seed=1",), ["seed"], "all"),
        (("optimizer.lr=1e-3", "seed=1"), ["optimizer.lr"], "optimizer.lr=0.001"),
        (("optimizer.lr=0.001", "seed=2"), ["optimizer.lr"], "optimizer.lr=0.001"),
        (("model.width=2", "loss=a"), ["loss", "model.width"], "loss=a,model.width=2"),
    ],
)
def test_settings(tmp_path: Path, overrides: tuple[str, ...], swept: list[str], expected: str) -> None:
    assert setting_of(Job("x", overrides), Sweep(tmp_path, "x", swept=swept)) == expected
