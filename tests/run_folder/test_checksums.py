"""The tables of a run: plain CSV files, whose checksums are in metrics.json."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from helpers.runs import edit_json

from vgg_nll.errors import CheckpointError
from vgg_nll.run_folder import checked_json, checksums, paths
from vgg_nll.run_folder.record import RunRecord

TABLE = b"index,label\n0,a\n1,b\n"


def known(folder: Path) -> checksums.OtherFiles:
    return checksums.OtherFiles("x", 1, checksums.of_tables(folder))


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_line_ends_do_not_count(tmp_path: Path, end: bytes) -> None:
    """Git's autocrlf and editors change them."""
    path = tmp_path / paths.PREDICTIONS
    path.write_bytes(TABLE)
    before = known(tmp_path)
    path.write_bytes(TABLE.replace(b"\n", end))
    assert checksums.read_table(path, before) == TABLE.decode()
    assert known(tmp_path) == before


def test_what_is_wrong_with_a_table_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / paths.PREDICTIONS
    path.write_bytes(TABLE)
    files, other = known(tmp_path), b"index,label\n0,c\n"

    def error(content: bytes, others: Mapping[str, Path] = {}) -> str:
        path.write_bytes(content)
        with pytest.raises(CheckpointError) as refused:
            checksums.read_table(path, files, others)
        assert "\n" not in str(refused.value)
        return str(refused.value)

    unknown = f"{path}: is damaged, or of another run: its checksum in metrics.json does not fit; copy it again"
    assert error(other) == error(TABLE[:-4]) == error(b"") == unknown
    owners = {checksums.of_tables(tmp_path)[path.name]: Path("runs/b/predictions.csv")}
    assert error(b"", owners) == f"{path}: is of another run, runs/b; copy it again"
    assert error(b"\xff\xfe").startswith(f"{path}: is damaged: 'utf-8' codec can't decode")
    (tmp_path / paths.LAST).parent.mkdir()
    (tmp_path / paths.LAST).touch()
    assert error(other) == f"{unknown}, or resume={tmp_path} writes it again"
    path.unlink()
    with pytest.raises(CheckpointError, match=r"predictions\.csv: is missing; copy it again, or resume="):
        checksums.read_table(path, files)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=r"predictions\.csv: is damaged: is a link; copy it again"):
        checksums.read_table(path, files)


@pytest.mark.parametrize("given", [None, 7, [], {"predictions.csv": 7, "../x": "y"}])
def test_absent_checksums_are_not_checked(tmp_path: Path, given: object) -> None:
    (tmp_path / paths.PREDICTIONS).write_bytes(TABLE)
    files = checksums.other_files({"checksums": given, "step": "x"}, "x")
    assert files == checksums.OtherFiles("x")
    assert checksums.find_problems(tmp_path, files) == []
    assert checksums.read_table(tmp_path / paths.PREDICTIONS, files) == TABLE.decode()


def test_a_run_writes_the_checksums_of_its_tables(finished: Path, tmp_path: Path) -> None:
    """And a run from before, without them, still opens."""
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    run_id = RunRecord.open(run).run_id
    files = checksums.other_files(checked_json.read(run / paths.METRICS, run_id), run_id)
    assert files == checksums.OtherFiles(run_id, 12, checksums.of_tables(run))
    assert set(files.checksums) == {paths.METRICS_TABLE, paths.PREDICTIONS}
    assert checksums.find_problems(run, files) == []
    for name in checksums.TABLES:
        (run / name).write_text("x")
    assert [line.partition(": ")[0] for line in checksums.find_problems(run, files)] == [
        str(run / paths.METRICS_TABLE),
        str(run / paths.PREDICTIONS),
    ]
    edit_json(run / paths.METRICS, checksums=None, step=None)
    assert checksums.find_problems(run, checksums.other_files(checked_json.read(run / paths.METRICS), run_id)) == []
