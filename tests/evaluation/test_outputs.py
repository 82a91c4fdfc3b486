"""outputs.npz: what is written is read; what is not a run's own file is one line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vgg_nll.errors import CheckpointError
from vgg_nll.evaluation.outputs import SplitOutputs, read_outputs, write_outputs

NAMES = ("猫", "Café")
SPLIT = SplitOutputs(
    np.array([[1.5, -np.inf], [3e38, 0.1], [np.nan, 0]], dtype=np.float32), np.array([0, 1, 1]), np.array(["猫/1.png", "", "x"])
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_outputs(tmp_path / "outputs.npz", {"val": SPLIT, "test": SPLIT}, NAMES, "me")
    return tmp_path / "outputs.npz"


def test_what_is_written_is_read(path: Path) -> None:
    found = read_outputs(path, "me")
    assert list(found) == ["val", "test"]
    for name in SplitOutputs._fields:
        np.testing.assert_array_equal(getattr(found["test"], name), getattr(SPLIT, name), strict=True)


def rewrite(path: Path, **changed: object) -> None:
    with np.load(path) as content:
        arrays = {name: content[name] for name in content.files} | changed
    np.savez(path, **{name: np.asarray(value) for name, value in arrays.items() if value is not ...})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (Path.unlink, "there is no such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-50]), "is damaged"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"\x00\x00\xc0\x3f", b"\x00\x00\xc1\x3f")), "is damaged"),
        (lambda path: path.write_bytes(b"PK nothing"), "is damaged"),
        (lambda path: rewrite(path, run="other"), "is of another run"),
        (lambda path: rewrite(path, run=...), "is damaged"),
        (lambda path: rewrite(path, test_labels=[0, 1, 2]), "does not hold what a run writes"),
        (lambda path: rewrite(path, test_labels=[0.0, 1.0, 1.0]), "does not hold what a run writes"),
        (lambda path: rewrite(path, test_labels=[0, 1]), "does not hold what a run writes"),
        (lambda path: rewrite(path, test_logits=[[0.0], [1.0], [2.0]]), "does not hold what a run writes"),
        (lambda path: rewrite(path, classes=["a", "b", "c"]), "does not hold what a run writes"),
        (lambda path: np.savez(path, run=np.array("me"), x=np.array([print], dtype=object)), "is damaged"),
    ],
)
def test_other_files_are_refused(path: Path, damage: Callable[[Path], object], words: str) -> None:
    damage(path)
    with pytest.raises(CheckpointError, match=rf"outputs\.npz: [^\n]*{words}[^\n]*$"):
        read_outputs(path, "me")
