"""What became of a job, as its run folder says."""

from pathlib import Path

from vgg_nll.run_folder import checked_json, paths
from vgg_nll.sweeps import status


def test_numbers_of_another_run_are_not_those_of_a_job(tmp_path: Path) -> None:
    checked_json.write(tmp_path / paths.RUN, {"config": {}}, "this")
    (tmp_path / paths.DONE).touch()
    for run_id in ("this", "other"):
        checked_json.write(tmp_path / paths.METRICS, {"val": {"accuracy": 0.5}}, run_id)
        found = status.of(tmp_path)
        if run_id == "this":
            assert (found.state, found.objective) == (status.FINISHED, 0.5)
        else:
            assert (found.state, found.reason) == (status.FAILED, f"{tmp_path / paths.METRICS}: is of another run")
