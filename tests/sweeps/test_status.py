"""What became of a job: the state of its folder, the row of the table, the account of a sweep."""

import csv
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from sweeps.fake import begin, finish, write_sweep

from vgg_nll.run_folder import checked_json, paths
from vgg_nll.sweeps import record, status
from vgg_nll.sweeps.status import FAILED, FINISHED, INTERRUPTED, PRUNED, RUNNING, WAITING, Status, account


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_sweep(tmp_path / "runs/s", finish)


def failed(folder: Path) -> None:
    folder.mkdir()
    (folder / paths.FAILED).write_text("out of\n memory \n")


def pruned(folder: Path) -> None:
    """Pruned, and finished by an earlier command."""
    finish(folder)
    (folder / paths.PRUNED).write_text("worse\n")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda folder: None, Status(WAITING)),
        (Path.mkdir, Status(WAITING)),
        (begin, Status(INTERRUPTED)),
        (failed, Status(FAILED, "out of memory")),
        (pruned, Status(PRUNED, "worse")),
        (
            lambda folder: finish(folder, 0.75),
            Status(FINISHED, "", 0.75, 1.5, {"val/accuracy": 0.75, "test/accuracy": 0.375, "test/ece": 0.25}),
        ),
    ],
)
def test_the_state_of_a_job(tmp_path: Path, make: Callable[[Path], object], expected: Status) -> None:
    make(tmp_path / "job")
    assert status.of(tmp_path / "job") == expected


def test_a_job_whose_lock_is_held_is_running(tmp_path: Path) -> None:
    begin(tmp_path)
    with paths.lock_run_folder(tmp_path):
        assert status.of(tmp_path).state == RUNNING
        assert status.of(tmp_path, look_for_processes=False).state == INTERRUPTED
    assert status.of(tmp_path).state == INTERRUPTED


def test_numbers_that_are_damaged_are_a_failure(tmp_path: Path) -> None:
    finish(tmp_path)
    (tmp_path / paths.METRICS).write_text("{")
    found = status.of(tmp_path)
    assert found.state == FAILED and "metrics.json: is damaged" in found.reason


def test_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    content = {"val": {"accuracy": True, "loss": 0.5, "ece": None}, "test": "x", "seconds": "long"}
    checked_json.write(tmp_path / paths.METRICS, content, "x")
    (tmp_path / paths.DONE).touch()
    assert status.of(tmp_path) == Status(FINISHED, "", None, None, {"val/loss": 0.5})


def test_the_table_has_a_row_per_job(sweep: Path) -> None:
    """Test metrics before those of validation; a text that a spreadsheet would run is a text."""
    (sweep / "failed" / paths.FAILED).write_text("=1+1")
    read = record.read(sweep)
    status.write_table(read, {job: status.of(sweep / job.name) for job in read.jobs.values() if job.name != "missing"})
    with (sweep / record.TABLE).open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["job", "overrides", "state", "objective", "seconds", "error", "test/accuracy", "test/ece", "val/accuracy"]
    assert rows[0][2:] == [FINISHED, "0.0", "1.5", "", "0.0", "0.25", "0.0"]
    assert [(row[0], row[2], row[5]) for row in rows[2:]] == [
        ("failed", FAILED, "'=1+1"),
        ("pruned", PRUNED, "why it pruned"),
        ("stopped", INTERRUPTED, ""),
    ]


@pytest.mark.parametrize("given", ["s", ""])
def test_every_job_is_accounted_for(sweep: Path, given: str) -> None:
    lines, missing = account([sweep.parent / given])
    assert lines == [f"{sweep}: 6 jobs: 2 finished, 1 failed, 1 pruned, 1 missing, 1 interrupted"]
    assert missing == [f"left out, missing: {sweep}/missing"]


def test_a_sweep_that_is_found_twice_is_counted_once(sweep: Path) -> None:
    assert len(account([sweep, sweep.parent])[0]) == 1


def test_a_damaged_record(tmp_path: Path) -> None:
    finish(tmp_path / "a")
    (tmp_path / record.RECORD).write_text("{")
    lines, missing = account([tmp_path])
    assert lines == [] and missing[0].startswith(f"left out: {tmp_path}/sweep.json: is damaged")


def test_numbers_of_another_run_are_not_those_of_a_job(tmp_path: Path) -> None:
    checked_json.write(tmp_path / paths.RUN, {"config": {}}, "this")
    (tmp_path / paths.DONE).touch()
    for run_id in ("this", "other"):
        checked_json.write(tmp_path / paths.METRICS, {"val": {"accuracy": 0.5}}, run_id)
        found = status.of(tmp_path)
        if run_id == "this":
            assert (found.state, found.objective) == (FINISHED, 0.5)
        else:
            assert (found.state, found.reason) == (FAILED, f"{tmp_path / paths.METRICS}: is of another run")


@pytest.mark.parametrize(
    ("best", "objective", "score", "head"),
    [
        (None, 0.5, 0.5, "accuracy %"),  # a run from before the key
        ("accuracy", 0.5, 0.5, "accuracy %"),
        ("nll", 0.25, -0.25, "NLL (argmax)"),
        ("refinement", None, -math.inf, "refinement"),  # not among its metrics
        ("strange", 0.5, 0.5, "accuracy %"),
    ],
)
def test_the_objective_is_what_chose_the_best_step(
    tmp_path: Path, best: str | None, objective: float | None, score: float, head: str
) -> None:
    checked_json.write(tmp_path / paths.RUN, {"config": {"trainer": {} if best is None else {"best": best}}}, "x")
    (tmp_path / paths.DONE).touch()
    checked_json.write(tmp_path / paths.METRICS, {"val": {"accuracy": 0.5, "nll_argmax": 0.25}}, "x")
    found = status.of(tmp_path)
    assert (found.objective, found.score, found.metric.head) == (objective, score, head)
