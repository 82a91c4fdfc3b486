"""Which runs are found, and what is read of them."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import edit_json, edit_record

from vgg_nll.calibration import bins
from vgg_nll.comparison.runs import as_texts, find
from vgg_nll.errors import CheckpointError

MakeRun = Callable[..., Path]


@pytest.mark.slow
def test_finds_finished_runs(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path / "b", "argmax", 1)
    make_run(tmp_path / "a" / "deep", "argmax")
    make_run(tmp_path / "running", "argmax", done=False)
    failed = make_run(tmp_path / "failed", "argmax", done=False)
    (failed / "FAILED").write_text("TrainingError: the loss is nan\nat step 3\n")
    (tmp_path / "no run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "no run" / "comparison.html").touch()
    (tmp_path / "saved" / "checkpoints").mkdir(parents=True)
    (tmp_path / "saved" / "checkpoints" / "last.pt").touch()
    found, left_out = find([tmp_path, tmp_path / "b"])  # the second is in the first
    assert [run.folder for run in found] == [tmp_path / "a" / "deep", tmp_path / "b"]
    assert left_out == [
        f"left out, not finished: {tmp_path}/failed (failed: TrainingError: the loss is nan at step 3)",
        f"left out, not finished: {tmp_path}/running",
        f"left out, not finished: {tmp_path}/saved",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "{}: is damaged: Expecting property name"),
        ("\udcff", "{}: is damaged: 'utf-8'"),
        (None, "{}: is missing"),
        ("[]", "{}: is damaged: it holds no names with values"),
        ("{}", "{}: is damaged: it holds no names with values"),
        ('{"test": 3}', "{}: is damaged: its checksum does not fit"),
        ("[" * 100_000, "{}: is damaged: maximum recursion depth exceeded"),
        (f'{{"seed": {10**400}}}', "{}: is damaged: an integer of 401 digits"),
        (f'{{"seed": "{"x" * (9 << 20)}"}}', "{}: is damaged: is larger than 8,388,608 bytes"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_leaves_out_an_unreadable_run(tmp_path: Path, make_run: MakeRun, text: str | None, message: str) -> None:
    good, bad = make_run(tmp_path / "good", "argmax"), make_run(tmp_path / "bad", "argmax")
    for name in ("metrics.json", "run.json"):
        (bad / name).unlink()
        if text is not None:
            (bad / name).write_bytes(text.encode(errors="surrogateescape"))
        found, (line,) = find([tmp_path])
        assert [run.folder for run in found] == [good]
        no_record = name == "run.json" and text is None
        expected = f"{bad}: holds no run (there is no run.json)" if no_record else message.format(bad / name)
        assert line.startswith("left out: " + expected)
        assert "\n" not in line


@pytest.mark.parametrize("kind", ["a pipe", "a link"])
def test_leaves_out_what_is_not_a_file(tmp_path: Path, make_run: MakeRun, kind: str) -> None:
    """A pipe would block for ever."""
    good, bad = make_run(tmp_path / "good", "argmax"), make_run(tmp_path / "bad", "argmax")
    (bad / "metrics.json").unlink()
    if kind == "a pipe":
        os.mkfifo(bad / "metrics.json")
    else:
        (bad / "metrics.json").symlink_to(good / "metrics.json")
    found, (line,) = find([tmp_path])
    assert [run.folder for run in found] == [good]
    assert line == f"left out: {bad}/metrics.json: is damaged: is {'not a regular file' if kind == 'a pipe' else 'a link'}"


def test_a_flipped_digit_is_noticed(tmp_path: Path, make_run: MakeRun) -> None:
    path = make_run(tmp_path / "a", "argmax") / "metrics.json"
    path.write_text(path.read_text().replace('"accuracy": 0.25', '"accuracy": 0.65', 1))
    assert find([tmp_path]) == ([], [f"left out: {path}: is damaged: its checksum does not fit"])


def test_names_of_others_stay_on_their_line(tmp_path: Path, make_run: MakeRun) -> None:
    """Terminal escapes and newlines in names and settings; a text that would hang a table is refused."""
    folder = make_run(tmp_path / "a", "argmax", overrides=("x=\x1b[2J",), leaves={"name": "a\nb | c"})
    edit_record(folder, choices={"loss": "evil\x1b[31m\nnll", "data": "$\\bad$"})
    (run,) = find([tmp_path])[0]
    assert (run.loss, run.data) == (r"evil\x1b[31m\nnll", "$\\bad$")
    assert run.overrides["x"] == r"\x1b[2J" and run.config["name"] == r"a\nb | c"
    edit_json(folder / "metrics.json", device="x" * 1_000_000)
    assert find([tmp_path])[1] == [
        f"left out: {folder}/metrics.json: is damaged: it holds text of more than 4096 characters, or is nested too deep"
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("device", None),
        ("seconds", "60"),
        ("reliability", None),
        ("reliability", {"images": [1, 2], "correct": [0, 1], "confidence": [0.5, 1.0]}),  # another number of bins
        ("reliability", {"images": [1] * 15, "correct": ["?"] * 15, "confidence": [1.0] * 15}),
        ("reliability", {"images": [1] * 15, "correct": [1] * 15, "confidence": [None] * 15}),
        ("reliability", {"images": [1] * 15, "correct": [1] * 15, "confidence": [1e999] * 15}),
        ("reliability", {"images": [0] * 15, "correct": [0] * 15, "confidence": [0.0] * 15}),  # no image
    ],
)
def test_leaves_out_a_damaged_run(tmp_path: Path, make_run: MakeRun, key: str, value: Any) -> None:
    make_run(tmp_path / "a", "argmax", **{key: value})
    assert find([tmp_path]) == ([], [f"left out: {tmp_path}/a/metrics.json: is damaged: it has no valid {key}"])


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone: there is no such folder$"):
        find([tmp_path, tmp_path / "gone"])
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"file: is not a folder$"):
        find([tmp_path / "file"])


def test_reads_a_real_run(real_runs: Path) -> None:
    run = find([real_runs / "argmax1"])[0][0]
    content = json.loads((real_runs / "argmax1" / "metrics.json").read_text())
    assert (run.data, run.model, run.loss, run.seed, run.split) == ("synthetic", "vgg16", "argmax", 1, "test")
    assert run.values == {name: value for name, value in content["test"].items() if isinstance(value, float)}
    assert run.bins is not None and run.bins[0].tolist() == content["reliability"]["images"]
    assert run.bins[0].sum() == 8  # a fifth of 40 images
    assert float(bins.of_bins(*run.bins)["ece"]) == pytest.approx(content["test"]["ece"], abs=1e-12)
    assert run.overrides["trainer.epochs"] == run.config["trainer.epochs"] == "2"
    assert run.config["seed"] == "1" and run.config["model._target_"] == "vgg_nll.model.VGG16"
    assert run.machine == f"{content['device']}, float32"
    assert run.provenance["versions.torch"] == content["versions"]["torch"]


def test_reads_values_and_provenance(tmp_path: Path, make_run: MakeRun) -> None:
    folder = make_run(tmp_path / "a", "argmax", values={"ece": math.nan}, overrides=("+x.y='a=b'",), git="")
    make_run(tmp_path / "b", "argmax", test=None)
    a, b = find([tmp_path])[0]
    names = json.loads((folder / "metrics.json").read_text())["test"].keys()
    assert names - a.values.keys() == {"ece"} and set(a.values.values()) == {0.25}
    assert a.overrides["x.y"] == "'a=b'"
    assert a.bins is not None and a.bins[0, -1] == 90
    assert a.provenance == {"device": "CPU", "precision": "float32", "threads": "2", "versions.torch": "2.14"}
    assert (a.split, b.split, b.bins) == ("test", "val", None)


def test_equal_text_for_equal_numbers() -> None:
    content = {"a": {"b": 6.0, "c": None, "d": [1, 2.5]}, "e": True, "f": "6.0", "g": 0.1}
    assert as_texts(content) == {"a.b": "6", "a.c": "null", "a.d": "[1, 2.5]", "e": "true", "f": "6.0", "g": "0.1"}
