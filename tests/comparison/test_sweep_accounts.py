"""compare.py on a sweep: every job is accounted for."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sweeps.fake import finish

from vgg_nll.run_folder import paths
from vgg_nll.sweeps import record
from vgg_nll.sweeps.jobs import Job
from vgg_nll.sweeps.record import Sweep
from vgg_nll.sweeps.status import account


@pytest.fixture
def sweep(tmp_path: Path, make_run: Callable[..., Path]) -> Path:
    folder = tmp_path / "runs/s"
    folder.mkdir(parents=True)
    jobs = [Job(name, ()) for name in ("a", "b", "failed", "pruned", "missing", "stopped")]
    record.write(Sweep(folder, "x", jobs={job.name: job for job in jobs}))
    for seed, name in enumerate("ab"):
        make_run(folder / name, "argmax", seed)
    for name, marker in (("failed", paths.FAILED), ("pruned", paths.PRUNED)):
        (folder / name).mkdir()
        (folder / name / marker).write_text(f"why it {name}\n")
    (folder / "stopped").mkdir()
    (folder / "stopped" / paths.RUN).touch()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("given", ["s", ""])
def test_every_job(sweep: Path, given: str) -> None:
    lines, missing = account([sweep.parent / given])
    assert lines == [f"{sweep}: 6 jobs: 2 finished, 1 failed, 1 pruned, 1 missing, 1 interrupted"]
    assert missing == [f"left out, missing: {sweep}/missing"]


def test_compare(sweep: Path, script: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert script("compare", sweep) == 0
    printed = capsys.readouterr()
    assert f"- {sweep}: 6 jobs: 2 finished, 1 failed, 1 pruned, 1 missing, 1 interrupted" in printed.out
    assert f"left out, not finished: {sweep}/failed (failed: why it failed)" in printed.err
    assert f"left out, not finished: {sweep}/pruned (pruned: why it pruned)" in printed.err
    assert f"left out, missing: {sweep}/missing" in printed.err
    assert "Left out: 4 runs" in printed.out
    assert (sweep / "comparison/runs.csv").read_text().count("\n") == 3


def test_a_damaged_record(tmp_path: Path) -> None:
    finish(tmp_path / "a")
    (tmp_path / record.RECORD).write_text("{")
    lines, missing = account([tmp_path])
    assert lines == [] and missing[0].startswith(f"left out: {tmp_path}/sweep.json: is damaged")
