"""Which split a run had a picture in: by its name below the run's data, and only as long as that is what it was."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.pictures import FOLDER, write_folder
from helpers.runs import edit_config, train

from vgg_nll.errors import CheckpointError, DataError
from vgg_nll.inference.pictures import splits_of
from vgg_nll.run import build

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of one step, `run`, on the pictures in `data`, which are not in folders of splits."""
    place = tmp_path_factory.mktemp("pictures")
    write_folder(place / "data", splits=("",))
    small = (*FOLDER, f"data.root={place}/data", "data.num_workers=0", "model.width=0.0625", "tracking=none", "device=cpu")
    train(place / "run", *small, "trainer.steps=1", "data.val_fraction=0.2", "data.test_fraction=0.2")
    return place


def test_each_picture_has_the_split_of_the_run(made: Path) -> None:
    """As the data set of the run gives them; by any name of the file; a copy and a stranger have none."""
    files = sorted((made / "data").rglob("*.png"))
    copy = Path(shutil.copy(files[0], made / "copy.png"))
    found = splits_of(made / "run", [*files, copy])
    record = evaluated(made / "run")
    assert found == {file: record[str(file.relative_to(made / "data"))] for file in files}
    assert set(found.values()) == set(SPLITS) and len(found) == 24
    assert splits_of(made / "run", [copy]) == {}


def evaluated(run: Path) -> dict[str, str]:
    """Returns the split of each picture, by the files that the run itself wrote down, and the rest as trained on."""
    with np.load(run / "outputs.npz") as content:
        held_out = {str(path): split for split in ("val", "test") for path in content[f"{split}_paths"]}
    assert len(held_out) > 1
    names = [str(path.relative_to(run.parent / "data")) for path in (run.parent / "data").rglob("*.png")]
    return {name: held_out.get(name, "train") for name in names}


def test_other_names_of_the_same_file(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative ones, and through links in either direction."""
    (file, *_) = sorted((made / "data").rglob("*.png"))
    expected = splits_of(made / "run", [file])[file]
    monkeypatch.chdir(file.parent)
    (made / "link").symlink_to(made / "data")
    names = [Path(file.name), Path("..") / file.parent.name / file.name, made / "link" / file.relative_to(made / "data")]
    assert splits_of(made / "run", names) == dict.fromkeys(names, expected)
    (made / "link").unlink()


def test_nothing_is_read_for_pictures_from_elsewhere(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a run whose data is gone predicts without a word; and `data2` is not in `data`."""
    monkeypatch.setattr(build, "make_data", lambda *_: pytest.fail("was read"))
    assert splits_of(made / "run", [tmp_path / "a.png", made / "data2/zero/0.png", made / "run/x.png"]) == {}


def test_a_run_on_no_folder_knows_no_file(finished: Path) -> None:
    assert splits_of(finished, [Path("a.png")]) == {}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            lambda place: shutil.copy(place / "data/zero/0.png", place / "data/zero/new.png"),
            DataError,
            "holds other pictures than",
        ),
        (lambda place: shutil.rmtree(place / "data/one"), DataError, "holds other pictures than"),
        (lambda place: edit_config(place / "run", **{"data.source._target_": "os.system"}), CheckpointError, "names this here"),
    ],
)
def test_what_is_not_known_is_said(
    made: Path, tmp_path: Path, change: Callable[[Path], object], error: type[Exception], words: str
) -> None:
    place = Path(shutil.copytree(made, tmp_path / "mine"))
    edit_config(place / "run", **{"data.root": str(place / "data")})
    file = place / "data/zero/1.png"
    assert splits_of(place / "run", [file])
    change(place)
    with pytest.raises(error, match=words):
        splits_of(place / "run", [file])


def test_a_loss_that_is_gone_does_not_matter(made: Path, tmp_path: Path) -> None:
    """As for predict itself."""
    place = Path(shutil.copytree(made / "run", tmp_path / "run"))
    edit_config(place, **{"loss._target_": "vgg_nll.losses.Gone"})
    (file, *_) = sorted((made / "data").rglob("*.png"))
    assert splits_of(place, [file]).keys() == {file}
