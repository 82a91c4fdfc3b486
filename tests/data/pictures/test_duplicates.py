"""A split that copies and new files do not disturb; copies found by their bytes."""

import math
from pathlib import Path

import pytest
from PIL import Image

from vgg_nll.data.pictures.duplicates import WHOLE, copies, fingerprint, split_by_content
from vgg_nll.errors import DataError

SHARES = {"val": 0.2, "test": 0.1}


def write(folder: Path, number: int, size: int = 50) -> list[str]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{i}.png" for i in range(number)]
    for i, path in enumerate(paths):
        path.write_bytes(i.to_bytes(4) * (size // 4))
    return [str(path) for path in paths]


def test_shares_are_those_of_independent_draws(tmp_path: Path) -> None:
    splits = split_by_content(write(tmp_path, 2000), [0] * 2000, SHARES, seed=0)
    for split, share in {**SHARES, "train": 0.7}.items():
        assert abs(splits.count(split) - 2000 * share) < 4 * math.sqrt(2000 * share * (1 - share))


def test_new_files_move_none_and_names_say_nothing(tmp_path: Path) -> None:
    paths = write(tmp_path / "a", 200)
    before = dict(zip(paths, split_by_content(paths[::2], [0] * len(paths[::2]), SHARES, seed=0), strict=False))
    again = split_by_content(paths, [0] * len(paths), SHARES, seed=0)
    assert again[::2] == list(before.values())
    for path in paths:
        Path(path).rename(f"{path}.moved")
    assert split_by_content([f"{path}.moved" for path in paths], [0] * len(paths), SHARES, seed=0) == again
    assert split_by_content([f"{path}.moved" for path in paths], [0] * len(paths), SHARES, seed=1) != again


@pytest.mark.parametrize("size", [8, WHOLE, WHOLE + 1, 2 * WHOLE, 2 * WHOLE + 4, 10 * WHOLE])
def test_a_fingerprint_sees_both_ends(size: int, tmp_path: Path) -> None:
    path, content = tmp_path / "x", bytes(range(1, 9)) * (size // 8 + 1)
    seen = set()
    for changed in (content[:size], b"\0" + content[1:size], content[: size - 1] + b"\0", content[: size - 1]):
        path.write_bytes(changed)
        seen.add(fingerprint(str(path)))
    assert len(seen) == 4


def test_a_file_that_is_gone_has_one_too(tmp_path: Path) -> None:
    assert fingerprint(str(tmp_path / "a")) != fingerprint(str(tmp_path / "b"))


def test_copies_are_found(tmp_path: Path) -> None:
    paths = write(tmp_path, 5, size=3 * WHOLE)
    twins = [tmp_path / "twin-1", tmp_path / "twin-2"]
    for twin in twins:
        twin.write_bytes(Path(paths[1]).read_bytes())
    near = tmp_path / "near"  # differs in the middle only
    content = bytearray(Path(paths[1]).read_bytes())
    content[len(content) // 2 + 3000] ^= 1  # between two of the places that are looked at
    near.write_bytes(content)
    files = [*paths, str(near), *map(str, twins)]
    found = copies((path, Path(path).stat().st_size) for path in files)
    assert found == [[paths[1], *map(str, twins)]]


@pytest.mark.parametrize("side", [96, 192])
def test_a_plain_border_says_nothing(side: int, tmp_path: Path) -> None:
    """Uncompressed pictures of one size, read whole or in parts, that differ in the middle only."""
    assert (3 * side**2 > WHOLE) == (side == 192)
    for i in range(120):
        picture = Image.new("RGB", (side, side), "white")
        picture.paste((i, 0, 0), (side // 6, side // 6, side - side // 6, side - side // 6))
        picture.save(tmp_path / f"{i}.bmp")
    splits = split_by_content(
        [str(path) for path in sorted(tmp_path.iterdir())], [0] * len(list(tmp_path.iterdir())), SHARES, seed=0
    )
    assert {splits.count(split) > 0 for split in ("train", "val", "test")} == {True}


def test_too_many_to_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vgg_nll.data.pictures.duplicates.MAX_COMPARED", 3)
    with pytest.raises(DataError, match="4 files share their size with another, which are too many to compare"):
        copies([(f"{tmp_path}/{k}", 7) for k in range(4)])


def test_files_of_other_sizes_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("opened"))
    assert copies([(str(tmp_path / "a"), 1), (str(tmp_path / "b"), 2)]) == []


def test_every_class_keeps_a_picture_to_train_on(tmp_path: Path) -> None:
    """The one with the largest digest, and no other moves: a file more of a class changes at most that one."""
    paths = write(tmp_path, 300)
    labels = [k // 3 for k in range(300)]
    shares = {"val": 0.4, "test": 0.4}
    free, kept = (split_by_content(paths, given, shares, seed=0) for given in ([0] * 300, labels))
    moved = [k for k in range(300) if free[k] != kept[k]]
    assert len(moved) > 30 and {kept[k] for k in moved} == {"train"}
    for label in range(100):
        members = range(3 * label, 3 * label + 3)
        assert sum(kept[k] == "train" for k in members) >= 1
        if any(free[k] == "train" for k in members):
            assert not set(members) & set(moved)
    again = split_by_content(paths[:-1], labels[:-1], shares, seed=0)
    assert again[:-2] == kept[:-3]
