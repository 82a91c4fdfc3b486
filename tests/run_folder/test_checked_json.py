"""The small files of a run: what was written comes back, and nothing else does."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from vgg_nll.errors import CheckpointError
from vgg_nll.run_folder import checked_json

CONTENT: dict[str, Any] = {
    "classes": [
        "a",
        "zwei",
        "\u2603",
        "\x1b",
        "1",
        "null",
        "yes",
        "- x",
        "a: b",
        "#",
        "'",
        '"',
        "\n",
        "caf\udce9",
        "2001-01-01",
    ],
    "numbers": [0, -1, 2**62, 0.1, 1e-300, 1e300, -0.0],
    "nested": {"a": {"b": [True, False, None]}},
    "empty": [],
}


def test_json_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    checked_json.write(path, CONTENT, "id")
    assert checked_json.read(path) == checked_json.read(path, "id") == CONTENT
    with pytest.raises(CheckpointError, match=r"a\.json: is of another run"):
        checked_json.read(path, "other")
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_json_without_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    checked_json.write(path, {"test": {"ece": math.nan, "accuracy": 1.0, "bins": [math.inf, 1]}}, "id")
    assert checked_json.read(path) == {"test": {"ece": None, "accuracy": 1.0, "bins": [None, 1]}}


@pytest.mark.slow
def test_every_flipped_bit_is_seen_or_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a"
    content = {"seed": 0, "lr": 0.0005, "name": "train", "flag": True, "none": None}
    checked_json.write(path, content, "0123456789abcdef")
    whole, refused = path.read_bytes(), 0
    for k in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[k // 8] ^= 1 << k % 8
        path.write_bytes(changed)
        try:
            assert checked_json.read(path, "0123456789abcdef") == content
        except CheckpointError:
            refused += 1
    assert refused > 0.8 * 8 * len(whole)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "3", "null", "[]", "{}", "[" * 100_000, "{", '{"a": 1}', '{"a": NaN, "checksum": ""}', "\0", "\ufeff{}"),
        *('{"a": 1' + "0" * 10_000 + "}", '{"a": ' + "[" * 5_000 + "]" * 5_000 + "}", '{"a": "\\ud800", "checksum": 1}'),
    ],
)
def test_json_of_others(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"a\.json: is damaged") as error:
        checked_json.read(path)
    assert len(str(error.value)) < 500


def test_what_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is missing; training writes it"):
        checked_json.read(tmp_path / "none")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="cannot be read"):
        checked_json.read(tmp_path / "folder")


@pytest.mark.slow
def test_sizes_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": "x" * checked_json.MAX_BYTES}))
    with pytest.raises(CheckpointError, match="is larger than 8,388,608 bytes"):
        checked_json.read(path)


@pytest.mark.parametrize("depth", [15, 16, 100])
def test_depth_is_bounded(tmp_path: Path, depth: int) -> None:
    value: Any = 1
    for _ in range(depth - 1):
        value = {"a": value}
    checked_json.write(tmp_path / "a.json", value, "id")
    if depth < 17:
        assert checked_json.read(tmp_path / "a.json") == value
    else:
        with pytest.raises(CheckpointError, match="is nested more than 16 times"):
            checked_json.read(tmp_path / "a.json")


def test_identities_differ() -> None:
    assert len({checked_json.new_run_id() for _ in range(1000)}) == 1000
