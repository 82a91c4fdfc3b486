"""The record of a sweep: what may be added, what is refused, and what a foreign folder cannot do."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vgg_nll.config import schema, upgrade
from vgg_nll.config.compose import composed
from vgg_nll.config.sweep_overrides import parse
from vgg_nll.errors import CheckpointError, ConfigError
from vgg_nll.run_folder import checked_json
from vgg_nll.run_folder.record import DataRecord, RunRecord
from vgg_nll.sweeps import record
from vgg_nll.sweeps.record import RECORD, Sweep


def add(folder: Path, *words: str) -> list[str]:
    """Does what a command does with its words; returns the folder names of its jobs."""
    parsed = parse(words)
    records = {overrides: RunRecord.new(composed(overrides)) for overrides in parsed.combinations()}
    planned = [(overrides, schema.leaves(made.stored_config)) for overrides, made in records.items()]
    with record.locked(folder):
        sweep = record.open_sweep(folder, parsed.swept)
        found = record.add(sweep, planned)
        record.write(sweep)
    return [found[overrides].name for overrides, _ in planned]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (["seed=0,1"], ["seed=0,1"], ["seed=0", "seed=1"]),
        (["seed=0,1"], ["seed=0,1,2"], ["seed=0", "seed=1", "seed=2"]),
        (["seed=0"], ["seed=3"], ["seed=3"]),
        (["data.folds=3", "data.fold=0"], ["data.folds=3", "data.fold=1,2"], ["data.fold=1", "data.fold=2"]),
        (["loss=argmax,all_logit"], ["loss=sigmoid"], ["loss=sigmoid"]),
        (["loss=argmax"], ["loss=argmax,all_logit"], ["loss=argmax", "loss=all_logit"]),
        # a key that is swept now: the job with the old value is the old job
        (["seed=0,1"], ["seed=0", "optimizer.lr=5e-4,3e-3"], ["seed=0", "optimizer.lr=0.003,seed=0"]),
        (["seed=0,1"], ["seed=0,1", "device=cpu", "tracking=none"], ["seed=0", "seed=1"]),
        (["seed=0,1"], ["seed=0,0,1", "trainer.epochs=6.0"], ["seed=0", "seed=1"]),
    ],
)
def test_a_sweep_may_be_widened(tmp_path: Path, first: list[str], second: list[str], expected: list[str]) -> None:
    names = add(tmp_path, *first)
    assert add(tmp_path, *second) == expected
    assert set(names) <= {job.name for job in record.read(tmp_path).jobs.values()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("second", "differences"),
    [
        (["seed=0,1", "trainer.epochs=2"], ["trainer.epochs=6 (now 2)"]),
        (["seed=0,1", "optimizer.lr=1e-2", "data.noise=0.5"], ["data.noise=0.3 (now 0.5)", "optimizer.lr=0.0005 (now 0.01)"]),
        (["seed=0,1", "loss=sigmoid"], ["loss._target_=vgg_nll.losses.ArgmaxNLL (now "]),
    ],
)
def test_another_base_is_refused(tmp_path: Path, second: list[str], differences: list[str]) -> None:
    add(tmp_path, "data=synthetic", "seed=0,1", "loss=argmax")
    before = (tmp_path / RECORD).read_bytes()
    with pytest.raises(ConfigError) as refused:
        add(tmp_path, "data=synthetic", *second)
    assert all(difference in str(refused.value) for difference in differences)
    assert f"sweep={tmp_path.name}: was made with" in str(refused.value)
    assert (tmp_path / RECORD).read_bytes() == before


def test_a_group_that_was_swept_may_bring_other_leaves(tmp_path: Path) -> None:
    add(tmp_path, "optimizer=adamw,sgd")
    assert add(tmp_path, "optimizer=sgd", "seed=1") == ["optimizer=sgd,seed=1"]
    with pytest.raises(ConfigError, match=r"model.width=1.0 \(now 0.5\)"):
        add(tmp_path, "optimizer=sgd", "model.width=0.5")


@pytest.mark.parametrize("content", ["file", "other files"])
def test_a_folder_that_is_no_sweep(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "s"
    if content == "file":
        folder.touch()
    else:
        folder.mkdir()
        (folder / "thesis.txt").touch()
    with pytest.raises(ConfigError, match=f"{folder}: is not the folder of a sweep"):
        record.check_folder(folder)


def test_an_empty_folder_may_become_one(tmp_path: Path) -> None:
    record.check_folder(tmp_path)
    record.check_folder(tmp_path / "new")


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "..", "", ".", "a/b", 3])
def test_a_foreign_record_leads_nowhere_else(tmp_path: Path, name: object) -> None:
    """Run folders are written where the names in the record say."""
    job = {"name": name, "identity": "x", "overrides": []}
    checked_json.write(tmp_path / RECORD, {"format": 1, "shared": {}, "swept": [], "jobs": [job], "sweep": "x"}, "x")
    with pytest.raises(CheckpointError, match="is damaged"):
        record.read(tmp_path)


def test_a_sweep_of_before_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that came since makes no job another one: those that have begun keep their folders, the rest is added again."""
    add(tmp_path, "seed=0,1,2", "optimizer.lr=1e-3")
    sweep = record.read(tmp_path)
    preprocessing = {"image_size": 32, "resize": 32, "mean": [0.0] * 3, "std": [1.0] * 3}
    for job in list(sweep.jobs.values())[:2]:
        made = RunRecord.new(composed(job.overrides))
        before = {**made.config, "trainer": {key: v for key, v in made.config["trainer"].items() if key != "bucket_mb"}}
        sweep.folder_of(job).mkdir()
        replace(made, config=before, data=DataRecord(["a"], {}, ""), preprocessing=preprocessing).write(sweep.folder_of(job))
    monkeypatch.setattr(upgrade, "FORMAT", upgrade.FORMAT + 1)
    monkeypatch.setattr(upgrade, "SINCE", {"trainer.bucket_mb": (upgrade.FORMAT, 25)})
    read = record.read(tmp_path)
    assert [job.name for job in read.jobs.values()] == ["seed=0", "seed=1"]
    assert read.shared["optimizer.lr"] == 1e-3 and "seed" not in read.shared
    assert add(tmp_path, "seed=0,1,2,3", "optimizer.lr=1e-3") == ["seed=0", "seed=1", "seed=2", "seed=3"]
    assert [job.name for job in record.read(tmp_path).jobs.values()] == ["seed=0", "seed=1", "seed=2", "seed=3"]
    with pytest.raises(ConfigError, match=r"was made with optimizer\.lr=0\.001 "):
        add(tmp_path, "seed=0", "optimizer.lr=1e-2")


def test_a_sweep_of_a_newer_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(tmp_path, "seed=0,1")
    monkeypatch.setattr(upgrade, "FORMAT", 0)
    with pytest.raises(CheckpointError, match=r"sweep\.json: was written by a newer vgg-nll"):
        record.read(tmp_path)


def test_a_sweep_of_before_there_were_formats(tmp_path: Path) -> None:
    checked_json.write(tmp_path / RECORD, {"shared": {}, "swept": [], "jobs": [], "sweep": "x"}, "x")
    with pytest.raises(
        CheckpointError, match=r"sweep\.json: is of a sweep from before records had a format; take another name"
    ):
        record.read(tmp_path)


@pytest.mark.parametrize("name", ["seed=0", ".sweep", ".sweep/seed=0.err", "sweep.csv"])
def test_links_in_a_folder_are_refused(tmp_path: Path, name: str) -> None:
    folder, elsewhere = tmp_path / "s", tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder.mkdir()
    checked_json.write(folder / RECORD, {"shared": {}, "swept": [], "jobs": [], "sweep": "x"}, "x")
    record.check_folder(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to(elsewhere)
    with pytest.raises(ConfigError, match=f"{name}: is a link"):
        record.check_folder(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"jobs": []}', json.dumps({"jobs": [], "checksum": "x"})])
def test_a_damaged_record(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(CheckpointError, match="is damaged"):
        record.read(tmp_path)


@pytest.mark.slow
def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    add(tmp_path, "seed=0,1")
    sweep = record.read(tmp_path)
    first, second = sweep.jobs.values()
    code = f"""
from pathlib import Path
from vgg_nll.sweeps import record
sweep = record.read(Path({str(tmp_path)!r}))
with sweep.claim(next(iter(sweep.jobs.values()))) as is_mine:
    print(is_mine, flush=True)
    input()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "True\n"
    with sweep.claim(first) as is_mine, sweep.claim(second) as other_is_mine:
        assert (is_mine, other_is_mine) == (False, True)
    process.kill()
    process.wait()
    with sweep.claim(first) as is_mine:
        assert is_mine


def test_an_empty_sweep_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    with record.locked(folder):
        pass
    record.remove_empty(folder)
    assert not folder.exists()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    add(tmp_path, "seed=0,1", "loss=argmax,all_logit")
    sweep = record.read(tmp_path)
    again = tmp_path / "again"
    again.mkdir()
    record.write(Sweep(again, sweep.sweep_id, sweep.shared, sweep.swept, sweep.jobs))
    assert (again / RECORD).read_text() == (tmp_path / RECORD).read_text()
