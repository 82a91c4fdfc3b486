"""Folders of pictures: what is listed, what is left out and why, and one line for a folder that cannot be used."""

import hashlib
import os
import shutil
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from helpers.bad_files import DAMAGED, DAMAGED_LINKS, encoded, write_bad_files
from helpers.configs import Config, make_data
from helpers.pictures import FOLDER, write_folder, write_imagenet
from PIL import Image

from vgg_nll.data.bad_files import BadImage, BadImages
from vgg_nll.data.pictures import walk
from vgg_nll.data.pictures.data_set import FolderData
from vgg_nll.data.pictures.listing import Listing, list_pictures
from vgg_nll.data.pictures.samples import Sample, Samples
from vgg_nll.errors import DataError


def names(listing: Listing, root: Path) -> dict[str, list[str]]:
    """{"train": ["train/one/0.png", ...], ...}."""
    return {split: [os.path.relpath(s.path, root) for s in samples] for split, samples in listing.samples.items()}


def flat(root: Path, number: int = 8) -> None:
    """Writes digits as root/<class>/<i>.png."""
    write_folder(root / "x")
    for split in ("train", "val", "test"):
        for folder in sorted((root / "x" / split).iterdir()):
            (root / folder.name).mkdir(exist_ok=True)
            for path in sorted(folder.iterdir())[:number]:
                path.rename(root / folder.name / f"{split}-{path.name}")
    shutil.rmtree(root / "x")


def test_one_folder_of_classes_is_split_by_content(tmp_path: Path) -> None:
    flat(tmp_path)
    options: dict[str, Any] = {"root": tmp_path, "val_fraction": 0.3, "test_fraction": 0.2}
    listing = list_pictures(**options)
    before = names(listing, tmp_path)
    assert listing.by_content and listing.class_names == ("one", "two", "zero")
    assert sum(map(len, before.values())) == 72
    # new files move none, and a copy goes where the original is
    (tmp_path / "one/copy.png").write_bytes((tmp_path / before["test"][0]).read_bytes())
    for i in range(20):
        Image.new("RGB", (40, 40), (i, 0, 0)).save(tmp_path / f"two/new-{i}.png")
    after = names(list_pictures(**options), tmp_path)
    for split in before:
        assert set(before[split]) <= set(after[split])
    assert "one/copy.png" in after["test"]
    assert names(list_pictures(**options, split_seed=1), tmp_path) != after
    assert set(list_pictures(root=tmp_path, val_fraction=0.3, test_fraction=0.0).samples) == {"train", "val"}


def test_without_val_a_part_of_train_validates(tmp_path: Path) -> None:
    write_folder(tmp_path, ("train", "test"))
    found = names(list_pictures(root=tmp_path, val_fraction=0.3), tmp_path)
    assert all(path.startswith("train/") for path in found["val"]) and 0 < len(found["val"]) < 24
    assert len(found["train"]) + len(found["val"]) == len(found["test"]) == 24


@pytest.mark.slow
def test_every_kind_of_bad_file(config: Config, tmp_path: Path) -> None:
    """Nothing but pictures comes out, every other file is listed with its reason, and each counts once."""
    write_folder(tmp_path / "pictures")
    expected = write_bad_files(tmp_path / "pictures/train/two")
    assert len(expected) >= 30
    options = [*FOLDER, f"data.root={tmp_path}/pictures", "data.max_bad_fraction=0.5", "data.num_workers=0"]
    data = make_data(config, *options)
    assert isinstance(data, FolderData)
    lines = data.survey()
    for _ in range(2):
        for batch, _ in data.train_batches(0):
            assert batch.isfinite().all()
    for split in ("train_eval", "val", "test"):
        list(data.eval_batches(split))
    found = data.bad_images.rows
    assert set(expected) - set(found) <= {path for path in expected if Path(path).name.startswith("cut")}
    for epoch in range(20):  # an epoch leaves out the remainder
        list(data.train_batches(epoch))
    assert set(found) == set(expected)
    for path, (words, is_damaged) in expected.items():
        assert words in found[path].reason, path
        assert found[path].is_damaged == is_damaged, path
    assert len(DAMAGED) + len(DAMAGED_LINKS) == sum(row.is_damaged for row in found.values())
    assert any("bad_images.csv" in line for line in lines)
    assert data.sizes["train"] == 24 + len([name for name in DAMAGED if name not in ("empty.png", "photo.heic", "camera.NEF")])


@pytest.mark.parametrize(("limit", "fails"), [(0.08, False), (0.07, True)])
def test_too_many_are_an_error(config: Config, tmp_path: Path, limit: float, fails: bool) -> None:
    """Six of 78 pictures (7.7%) are damaged: some at first sight, some in their headers, some when they are decoded."""
    write_folder(tmp_path)
    for name, content in (("empty.png", b""), ("text.png", b"text"), ("cut.png", DAMAGED["cut.png"][0])):
        for folder in ("train/two", "val/two"):
            (tmp_path / folder / name).write_bytes(content)
    data = make_data(config, *FOLDER, f"data.root={tmp_path}", f"data.max_bad_fraction={limit}", "trainer.batch_size=1")
    if fails:
        words = r"data: 6 of 78 pictures cannot be used, more than data.max_bad_fraction=0.07 and more than 5; .*0 b"
        with pytest.raises(DataError, match=words):
            data.survey()
    else:
        data.survey()
        assert len(data.bad_images.rows) == 6
        assert len(list(data.train_batches(0))) == 26
    table = tmp_path / "bad.csv"
    data.bad_images.write(table)
    lines = table.read_text().splitlines()
    assert lines[0] == "path,split,class,reason,action"
    actions = {Path(line.split(",")[0]).name: line.split(",")[-1] for line in lines[1:]}
    assert actions == {"empty.png": "left out", "text.png": "replaced", "cut.png": "replaced"}


def test_a_small_folder_is_decoded_before_training(config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Five bad pictures are always allowed, unless none is; a survey that has found all leaves nothing to stop a run."""
    write_folder(tmp_path)
    for i in range(5):
        (tmp_path / f"train/two/cut{i}.png").write_bytes(DAMAGED["cut.png"][0] + bytes(i))
    options = [*FOLDER, f"data.root={tmp_path}", "data.num_workers=0"]
    data = make_data(config, *options)
    lines = data.survey()
    assert any(line.startswith("warning: cannot be used: 5 pictures") for line in lines)
    list(data.train_batches(0))
    assert not caplog.records and len(data.bad_images.rows) == 5
    with pytest.raises(DataError, match=r"5 of 77 pictures cannot be used, more than data\.max_bad_fraction=0;"):
        make_data(config, *options, "data.max_bad_fraction=0").survey()


def test_photographs_of_telephones_count(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pillow-heif they are bad pictures, with it they are read."""
    write_folder(tmp_path)
    for i, name in enumerate(["0.HEIC", "1.heic", "2.heif", "3.hif", "4.heic", "5.jxl"]):
        (tmp_path / "train/two" / name).write_bytes(bytes(i + 1))
    monkeypatch.setattr(walk, "has_heif", lambda: False)
    with pytest.raises(DataError, match=r"6 of 78 .*0.HEIC: .HEIC: is not read .* without pillow-heif; pip install"):
        make_data(config, *FOLDER, f"data.root={tmp_path}")
    monkeypatch.setattr(walk, "has_heif", lambda: True)
    assert len(list_pictures(root=tmp_path).samples["train"]) == 29


@pytest.mark.slow
def test_a_picture_is_replaced_by_one_of_its_class(config: Config, tmp_path: Path) -> None:
    """The same one in every epoch and for any number of workers; the class and the number of images stay."""
    write_folder(tmp_path)
    whole = list(make_data(config, *FOLDER, f"data.root={tmp_path}", "data.num_workers=0").eval_batches("val"))
    (tmp_path / "val/two/3.png").write_bytes(b"text")
    options = [*FOLDER, f"data.root={tmp_path}", "data.max_bad_fraction=0.1"]
    batches = [list(make_data(config, *options, f"data.num_workers={n}").eval_batches("val")) for n in (0, 1)]
    for (images, target), (again, labels), (_, expected) in zip(*batches, whole, strict=True):
        assert (images == again).all() and target.tolist() == labels.tolist() == expected.tolist()
    two = [image for images, target in batches[0] for image in images[target == 1]]
    assert sum(bool((two[3] == other).all()) for other in two) == 2


def test_a_class_without_any_readable_picture(config: Config, tmp_path: Path) -> None:
    write_folder(tmp_path)
    for path in (tmp_path / "val/two").iterdir():
        path.write_bytes(b"text")
    data = make_data(config, *FOLDER, f"data.root={tmp_path}", "data.max_bad_fraction=0.9", "data.num_workers=0")
    with pytest.raises(DataError, match=r"val/two/0.png: cannot be read, and no other picture of its class can"):
        list(data.eval_batches("val"))


def test_rows_of_an_earlier_session_stay(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    for name in ("a", "b", "b"):
        bad = BadImages(100, raises=False, max_fraction=0.5)
        bad.add([BadImage(name, "val", "=cat", "0 bytes", "left out", True)])
        bad.write(path)
    assert [line.split(",")[0] for line in path.read_text().splitlines()] == ["path", "a", "b"]
    path.write_bytes(b"\xff\x00nonsense")
    bad.write(path)
    assert len(path.read_text().splitlines()) == 2


def test_links_out_are_followed_if_asked(tmp_path: Path) -> None:
    write_folder(tmp_path / "real")
    (tmp_path / "root").mkdir()
    for split in ("train", "val"):
        (tmp_path / "root" / split).symlink_to(tmp_path / "real" / split)
    with pytest.raises(
        DataError, match=r"the class one has no pictures \(1 other files; one is a link that leads out of data.root"
    ):
        list_pictures(root=tmp_path / "root")
    assert len(list_pictures(root=tmp_path / "root", follow_links=True).samples["train"]) == 24
    (tmp_path / "link").symlink_to(tmp_path / "real")  # the root itself may be one
    assert len(list_pictures(root=tmp_path / "link").samples["train"]) == 24


def one_picture(folder: Path) -> None:
    """Leaves one picture in a folder, and no class folders."""
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "1.png").write_bytes(encoded("PNG"))


def rename(root: Path, before: str, after: str) -> None:
    (root / before).rename(root / after)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda root: rename(root, "val", "valid"), r"valid/ is not read; rename it to val/, if that is what it is"),
        (lambda root: rename(root, "val", "validation"), r"validation/ is not read; rename it to val/"),
        (lambda root: rename(root, "train", "TRAIN"), r"TRAIN/ is not read; rename it to train/"),
        (lambda root: rename(root, "train", "training"), r"training/ is not read; rename it to train/"),
        (
            lambda root: rename(root, "train", "cats"),
            r"test/ stands beside folders that are no splits \(cats, val\); move those into train/",
        ),
        (
            lambda root: one_picture(root / "test"),
            r"no pictures in test/; add some, or remove it",
        ),
        (lambda root: rename(root, "test", "Test"), r"Test/ is not read; rename it to test/"),
        (lambda root: shutil.rmtree(root / "train"), r"there is no train/; expected"),
        (
            lambda root: shutil.rmtree(root / "train/one"),
            r"val/ and train/ differ in .*: val/ has one, which train/ lacks; rename",
        ),
        (
            lambda root: [p.unlink() for p in (root / "train/one").iterdir()],
            r"the class one has no pictures; add some to .*/one,",
        ),
        (
            lambda root: [p.rename(p.with_suffix(".heic")) for p in (root / "train/one").iterdir()],
            r"the class one has no pictures \(8 other files; 0.heic .heic: is not read as a picture",
        ),
        (
            lambda root: [shutil.rmtree(root / split / name) for split in ("train", "val", "test") for name in ("one", "two")],
            r"one class folder only in train/, zero/; a network tells two",
        ),
        (
            lambda root: [p.unlink() for p in (root / "val").rglob("*.png")],
            r"there are no pictures in val/; add some, or remove it",
        ),
        (lambda root: [shutil.rmtree(root / s) for s in ("train", "val", "test")], r"no class folders with pictures; expected"),
    ],
)
def test_a_folder_that_cannot_be_used(change: Any, words: str, tmp_path: Path) -> None:
    write_folder(tmp_path)
    change(tmp_path)
    with pytest.raises(DataError, match=words):
        list_pictures(root=tmp_path)


def test_too_few_for_a_split(tmp_path: Path) -> None:
    flat(tmp_path, number=1)
    with pytest.raises(DataError, match=r"there are no pictures in val/; add some, or raise data.val_fraction=0.001"):
        list_pictures(root=tmp_path, val_fraction=0.001, test_fraction=0)
    few = list_pictures(root=tmp_path, val_fraction=0.8, test_fraction=0)
    assert {sample.label for sample in few.samples["train"]} == {0, 1, 2}  # each class keeps a picture to train on


def test_folders_of_systems_are_no_classes(tmp_path: Path) -> None:
    write_folder(tmp_path)
    for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir"):
        shutil.copytree(tmp_path / "train/one", tmp_path / "train" / name)
    listing = list_pictures(root=tmp_path)
    assert listing.class_names == ("one", "two", "zero")
    assert Counter(row.reason for row in listing.bad) == {"is hidden, or of an operating system": 3}


@pytest.mark.slow
def test_imagenet_has_names(tmp_path: Path, config: Config) -> None:
    write_imagenet(tmp_path)
    data = make_data(config, "data=imagenet", f"data.root={tmp_path}")
    assert len(set(data.class_names)) == 1000
    assert data.class_names[:2] == ("tench", "goldfish")
    shutil.rmtree(tmp_path / "train/n01440764")
    shutil.rmtree(tmp_path / "val/n01440764")
    with pytest.raises(DataError, match=r"has 999 class folders, the first is n01440765; ImageNet has 1,000"):
        make_data(config, "data=imagenet", f"data.root={tmp_path}")


def test_nothing_is_opened_to_list_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path)
    monkeypatch.setattr("builtins.open", lambda *_, **__: pytest.fail("opened"))
    monkeypatch.setattr(Path, "open", lambda *_, **__: pytest.fail("opened"))
    assert len(list_pictures(root=tmp_path).samples["train"]) == 24


@pytest.mark.parametrize("target", ["..", "../..", "../../test/one", "../two"])
def test_a_link_to_another_part_of_the_root_is_left_out(target: str, tmp_path: Path) -> None:
    """It would give wrong labels, and put test pictures into training."""
    write_folder(tmp_path)
    before = names(list_pictures(root=tmp_path), tmp_path)
    (tmp_path / "train/one/more").symlink_to(tmp_path / "train/one" / target)
    listing = list_pictures(root=tmp_path)
    assert names(listing, tmp_path) == before
    assert [row.reason for row in listing.bad] == ["is a link to another part of data.root, which would count twice"]


def test_classes_that_are_called_like_splits(tmp_path: Path) -> None:
    write_folder(tmp_path / "x")
    for name, before in (("training", "one"), ("running", "two"), ("swimming", "zero")):
        rename(tmp_path, f"x/train/{before}", name)
    shutil.rmtree(tmp_path / "x")
    assert list_pictures(root=tmp_path, val_fraction=0.3).class_names == ("running", "swimming", "training")


def test_a_relative_root_is_the_same_data(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    digests = {make_data(config, *FOLDER, f"data.root={root}").digest for root in (".", "../" + tmp_path.name, tmp_path)}
    assert len(digests) == 1


def test_ranks_compare_sizes_and_runs_names(tmp_path: Path) -> None:
    """A run of an older version must find its data unchanged."""
    sample = Sample(f"{tmp_path}/train/a/1.png", 0, 10)
    listings = [
        Listing(tmp_path, {"train": Samples([sample._replace(bytes=size)])}, ("a",), [], by_content=False) for size in (10, 11)
    ]
    by_name = hashlib.blake2b(b"train/train/a/1.png\0", digest_size=16).hexdigest()
    assert [listing.digest() for listing in listings] == [by_name, by_name]
    assert len({listing.digest(with_sizes=True) for listing in listings} | {by_name}) == 3


def test_a_replacement_comes_from_the_whole_split(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`train_eval` has one picture of a class here: a broken one must not end the run."""
    write_folder(tmp_path)
    options = [*FOLDER, f"data.root={tmp_path}", "data.num_workers=0", "data.max_bad_fraction=0.5", "data.mean=auto"]
    data = make_data(config, *options)
    assert isinstance(data, FolderData)
    for sample in data._eval["train_eval"].samples:
        Path(sample.path).write_bytes(b"text")
    assert sum(len(target) for _, target in make_data(config, *options).eval_batches("train_eval")) == 1
    # the same of the pictures whose mean is measured, here one of each class
    monkeypatch.setattr("vgg_nll.data.pictures.data_set.MAX_MEASURED", 3)
    for sample in data._train.samples[::8]:
        Path(sample.path).write_bytes(b"text")
    assert 0 < float(make_data(config, *options).preprocessing.mean[0]) < 1


def test_a_damaged_test_picture_does_not_end_a_trained_run(config: Config, tmp_path: Path) -> None:
    """Too many of them are found when the network is trained already: they are replaced, and listed."""
    write_folder(tmp_path)
    for i in range(3):
        path = tmp_path / f"test/one/{i}.png"
        path.write_bytes(path.read_bytes()[:-60])
    data = make_data(config, *FOLDER, f"data.root={tmp_path}", "data.num_workers=0")
    assert sum(len(target) for _, target in data.eval_batches("test")) == 24
    assert len(data.bad_images.rows) == 3


def test_names_that_are_no_text(tmp_path: Path, config: Config, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(tmp_path)
    for name in (b"caf\xe9.txt", b"two\nlines.png"):
        Path(os.fsdecode(os.fsencode(tmp_path / "train/one") + b"/" + name)).write_bytes(DAMAGED["cut.png"][0])
    data = make_data(config, *FOLDER, f"data.root={tmp_path}", "data.num_workers=0", "data.max_bad_fraction=0.5")
    list(data.eval_batches("train"))
    data.bad_images.write(tmp_path / "bad.csv")
    assert len((tmp_path / "bad.csv").read_text().splitlines()) == 3
    assert "\n" not in caplog.messages[-1] and "lines.png" in caplog.messages[-1]
    data.bad_images.write(tmp_path / "no/folder/bad.csv")  # a report is not worth a run
    assert "bad.csv was not written" in caplog.messages[-1]


def test_folds_do_not_keep_copies_together_and_do_not_say_so(config: Config, tmp_path: Path) -> None:
    flat(tmp_path)
    for fold in ("", "data.folds=3"):
        lines = make_data(config, *FOLDER, f"data.root={tmp_path}", "data.num_workers=0", *filter(None, [fold])).survey()
        assert any("stay on one side" in line for line in lines) == (not fold)


def folders(root: Path, *names: str) -> None:
    for name in names:
        (root / name).mkdir(parents=True)
        for k in range(4):
            Image.new("RGB", (40, 40), (k, len(name), 0)).save(root / name / f"{k}.png")


def test_one_class_in_two_forms_of_unicode(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))
    folders(tmp_path / "train", composed, "Tee")
    folders(tmp_path / "val", apart, "Tee")
    listing = list_pictures(root=tmp_path)
    assert listing.class_names == (composed, "Tee")
    assert [sample.label for sample in listing.samples["val"]] == [0] * 4 + [1] * 4
    assert names(listing, tmp_path)["val"][0] == f"val/{apart}/0.png"


@pytest.mark.parametrize(
    ("one", "other"), [("Cafe\u0301", "Caf\u00e9"), ("Tee", "Tee "), ("Tee", "Tee\u3000")], ids=["forms", "blank", "wide blank"]
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_class_folders_that_nobody_can_tell_apart(split: str, one: str, other: str, tmp_path: Path) -> None:
    for name in ("train", "val"):
        folders(tmp_path / name, one, "zebra")
    folders(tmp_path / split, other)
    with pytest.raises(DataError) as caught:
        list_pictures(root=tmp_path)
    for name in (one, other):
        assert " ".join(f"U+{ord(c):04X}" for c in name) + ")" in str(caught.value)
    assert f"two class folders in {split}/ have names that look equal" in str(caught.value)


@pytest.mark.parametrize("other", ["TEE", "\uff34\uff45\uff45"], ids=["case", "width"])
def test_class_folders_that_look_much_the_same(other: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A and a may be classes of letters."""
    folders(tmp_path / "train", "Tee", other)
    folders(tmp_path / "val", "Tee", other)
    assert len(list_pictures(root=tmp_path).class_names) == 2
    assert [record.message.count("U+") for record in caplog.records] == [6, 6]
    assert "train/" in caplog.messages[0] and "val/" in caplog.messages[1]


def test_a_split_with_a_name_that_looks_like_a_class(tmp_path: Path) -> None:
    folders(tmp_path / "train", "Tee", "zebra")
    folders(tmp_path / "val", "Tee ", "zebra")
    with pytest.raises(DataError, match=r"'Tee ' \(U\+0054 U\+0065 U\+0065 U\+0020\) looks like 'Tee' \(U\+0054"):
        list_pictures(root=tmp_path)
