"""The small files of a run: what was written comes back, and nothing else does."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vgg_nll import records
from vgg_nll.errors import CheckpointError

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
    records.write_json(path, CONTENT, "id")
    assert records.read_json(path) == records.read_json(path, "id") == CONTENT
    with pytest.raises(CheckpointError, match=r"a\.json: is of another run"):
        records.read_json(path, "other")
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_json_without_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    records.write_json(path, {"test": {"ece": math.nan, "accuracy": 1.0, "bins": [math.inf, 1]}}, "id")
    assert records.read_json(path) == {"test": {"ece": None, "accuracy": 1.0, "bins": [None, 1]}}


def test_yaml_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    content = CONTENT | {"classes": [name for name in CONTENT["classes"] if name != "caf\udce9"]}
    records.write_yaml(path, content, "id")
    assert records.read_yaml(path) == (content, "id")
    assert records.run_of(path) == "id"
    path.write_text(path.read_text().replace("\n", "\r\n"))  # by an editor on Windows: not a change of what it says
    assert records.read_yaml(path) == (content, "id")


@pytest.mark.slow
@pytest.mark.parametrize("write", [records.write_json, records.write_yaml])
def test_every_flipped_bit_is_seen_or_says_the_same(tmp_path: Path, write: Callable[..., None]) -> None:
    path = tmp_path / "a"
    content = {"seed": 0, "lr": 0.0005, "name": "train", "flag": True, "none": None}
    write(path, content, "0123456789abcdef")
    whole, refused = path.read_bytes(), 0
    for k in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[k // 8] ^= 1 << k % 8
        path.write_bytes(changed)
        try:
            read = records.read_json(path, "0123456789abcdef") if write is records.write_json else records.read_yaml(path)
        except CheckpointError:
            refused += 1
        else:
            # The first line of YAML holds the identity, which is compared with that in the other files.
            assert (read if isinstance(read, dict) else read[0]) == content
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
        records.read_json(path)
    assert len(str(error.value)) < 500


def test_what_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is missing; training writes it"):
        records.read_json(tmp_path / "none")
    (tmp_path / "folder").mkdir()
    for read in (records.read_json, records.read_yaml):
        with pytest.raises(CheckpointError, match="cannot be read"):
            read(tmp_path / "folder")
    assert records.run_of(tmp_path / "folder") is None


@pytest.mark.slow
def test_sizes_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("# run a, checksum b\n" + "a: [" + "1, " * (records.MAX_YAML_BYTES // 3 - 20) + "1]\n")
    with pytest.raises(CheckpointError, match="its checksum does not fit"):
        records.read_yaml(path)
    path.write_text("# " + "x" * records.MAX_YAML_BYTES)
    with pytest.raises(CheckpointError, match="is larger than 131,072 bytes"):
        records.read_yaml(path)
    path.write_text(json.dumps({"a": "x" * records.MAX_JSON_BYTES}))
    with pytest.raises(CheckpointError, match="is larger than 8,388,608 bytes"):
        records.read_json(path)


@pytest.mark.parametrize("depth", [15, 16, 100])
def test_depth_is_bounded(tmp_path: Path, depth: int) -> None:
    value: Any = 1
    for _ in range(depth - 1):
        value = {"a": value}
    records.write_yaml(tmp_path / "a.yaml", value, "id")
    if depth < 17:
        assert records.read_yaml(tmp_path / "a.yaml") == (value, "id")
    else:
        with pytest.raises(CheckpointError, match="is nested more than 16 times"):
            records.read_yaml(tmp_path / "a.yaml")


def test_identities_differ() -> None:
    assert len({records.new_run_id() for _ in range(1000)}) == 1000
