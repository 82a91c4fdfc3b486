"""Classes from a table: the same data as class folders give, and one line for a table that says too little, or two things."""

import csv
import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.configs import Config, make_data
from helpers.pictures import write_folder, write_table
from PIL import Image

from vgg_nll.data.pictures.listing import list_pictures
from vgg_nll.data.pictures.table import list_csv
from vgg_nll.errors import DataError

TABLE = ("data=csv", "data.labels=labels.csv", "data.image_size=32", "trainer.batch_size=4", "data.num_workers=0")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four pictures in one folder."""
    for name in ("a", "b", "c", "d"):
        Image.new("RGB", (40, 40), (ord(name), 0, 0)).save(tmp_path / f"{name}.png")
    return tmp_path


@pytest.mark.parametrize("splits", [("train", "val", "test"), ("train", "val"), ("train",)])
def test_a_table_of_class_folders_is_what_the_folders_are(tmp_path: Path, splits: tuple[str, ...]) -> None:
    """Split by the table as by folders; without val, by content. The order of the rows and of the columns changes nothing."""
    write_folder(tmp_path, splits)
    write_table(tmp_path / "labels.csv")
    expected = list_pictures(root=tmp_path, val_fraction=0.3)
    head, *rows = list(csv.reader((tmp_path / "labels.csv").open()))
    digests = set()
    for order in (1, -1):
        lines = [",".join(cells[::order]) for cells in [head, *rows[::order]]]
        (tmp_path / "labels.csv").write_text("\n".join(lines))
        found = list_csv(root=tmp_path, labels="labels.csv", val_fraction=0.3)
        assert (found.class_names, list(found.samples)) == (expected.class_names, list(expected.samples))
        assert all(list(found.samples[split]) == list(expected.samples[split]) for split in expected.samples)
        digests.add(found.digest())
    assert len(digests) == 1
    (tmp_path / "labels.csv").write_text("\n".join(lines).replace("zero", "two", 1))
    assert list_csv(root=tmp_path, labels="labels.csv", val_fraction=0.3).digest() not in digests  # one label is another


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.png,x\nb.png,y\nc.png,x\nd.png,y\n",
        "\ufeffpath;label\r\na.png;x\r\nb.png;y\r\nc.png;x\r\nd.png;y\r\n",
        "Label\tnote\tPath\nx\t1,2\ta.png\ny\t\tb.png\n\nx\t\tc.png\ny\t\td.png",
        'path, label\n"./a.png", "x"\nb.png, y\nc.png, x \nd.png,y\na.png,x\n',
        "path,label\n{root}/a.png,x\n{root}/b.png,y\nc.png,x\nd.png,y\n",
    ],
    ids=["plain", "as spreadsheets write", "tabs, more columns, an empty line", "blanks, a line twice", "absolute paths"],
)
def test_ways_to_write_a_table(pictures: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    (pictures / "labels.csv").write_text(text.format(root=pictures), encoding="utf-8", newline="")
    found = list_csv(root=pictures, labels="labels.csv", val_fraction=0.3, test_fraction=0)
    assert found.class_names == ("x", "y") and found.by_content
    assert {(Path(s.path).name, s.label) for part in found.samples.values() for s in part} == {
        *(("a.png", 0), ("b.png", 1), ("c.png", 0), ("d.png", 1))
    }
    assert found.bad == []
    assert ("1 lines name a picture once more" in caplog.text) == (text.count("a.png") == 2)


def test_numbers_are_names(pictures: Path) -> None:
    (pictures / "labels.csv").write_text("path,label,split\na.png,10,train\nb.png,9,train\nc.png,9,val\n")
    found = list_csv(root=pictures, labels="labels.csv")
    assert found.class_names == ("10", "9") and [sample.label for sample in found.samples["val"]] == [1]


def test_one_label_in_two_spellings(pictures: Path, caplog: pytest.LogCaptureFixture) -> None:
    """é of one character and of two is one letter; a capital may make another class."""
    names = ["Café", unicodedata.normalize("NFD", "Café"), "x", "X"]
    rows = [f"{path},{name},train\n" for path, name in zip(("a.png", "b.png", "c.png", "d.png"), names, strict=True)]
    (pictures / "labels.csv").write_text("".join(["path,label,split\n", *rows, "e.png,x,val\n"]))
    shutil.copy(pictures / "a.png", pictures / "e.png")
    assert list_csv(root=pictures, labels="labels.csv").class_names == ("Café", "X", "x")
    assert "two labels look equal: 'X' (U+0058) and 'x' (U+0078); they count as two classes" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the first line must name the columns, path,label or path,label,split; it is ''"),
        ("a.png,x\nb.png,y\n", "the first line must name the columns, .* it is 'a.png,x'"),
        ("path,label\n../a.png,x\n", "line 2: ../a.png lies outside data.root=.*; data.root must be a folder that holds all"),
        ("path,label\n/etc/a.png,x\n", "line 2: /etc/a.png lies outside data.root="),
        ("path,label\na.png,x\nb.png,y\na.png,y\n", "lines 2 and 4: .*a.png is x and y; a picture has one label"),
        ("path,label,split\na.png,x,train\na.png,x,test\n", "lines 2 and 3: .*a.png is train and test; a picture has one"),
        ("path,label\na.png,x\nb.png, \n", "line 3: the label is empty"),
        ("path,label\n,x\n", "line 2: the path is empty"),
        ("path,label,split\na.png,x,valid\n", "line 2: split=valid: must be one of train, val, test"),
        ("path,label,split\na.png,x,\n", "line 2: split=empty: must be one of train, val, test"),
        ("path,label\na.png,x,1\n", "line 2: has 3 cells, and the first line 2; a cell with a separator in it needs quotes"),
        ("path,label\na.png\n", "line 2: has 1 cells, and the first line 2"),
        ('path,label\na.png,"x\nb.png,y\n', "line 3: cannot be read as CSV: unexpected end of data"),
        (
            "path,label\na.png,x\nb.png,x\n",
            "has one label of training pictures only, x; a network tells two or more classes apart",
        ),
        ("path,label,split\na.png,x,train\nb.png,y,val\n", "has one label of training pictures only, x; "),
        ("path,label,split\na.png,x,val\nb.png,y,val\n", "has no training picture"),
        ("path,label,split\na.png,x,train\nb.png,y,train\nc.png,z,val\n", "line 4: val has z, which is the label of no train"),
        ("path,label\nno.png,x\nb.png,y\n", r"no picture of x can be used \(.*no.png: there is no such file\); paths begin in"),
        ("path,label\na,x\nb.png,y\n", r"no picture of x can be used \(.*/a: there is no such file\); paths begin in"),
        (b"path,label\n\xff.png,x\n", "is not text in UTF-8 .*; save it as CSV in UTF-8"),
    ],
)
def test_tables_that_are_refused(pictures: Path, text: str | bytes, words: str) -> None:
    table = pictures / "labels.csv"
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=rf"^{re.escape(str(table))}[:,] {words}"):
        list_csv(root=pictures, labels="labels.csv")


def test_where_the_table_is_looked_for(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the root, then from here."""
    monkeypatch.chdir(tmp_path.parent)
    (tmp_path.parent / "here.csv").write_text("path,label,split\na.png,x,train\nb.png,y,train\nc.png,x,val\n")
    assert list_csv(root=pictures, labels="here.csv").class_names == ("x", "y")
    (pictures / "here.csv").write_text("path,label,split\na.png,1,train\nb.png,2,train\nc.png,1,val\n")
    assert list_csv(root=pictures, labels="here.csv").class_names == ("1", "2")
    (tmp_path.parent / "here.csv").unlink()
    with pytest.raises(DataError, match=r"^data.labels=no.csv: there is no such file, in data.root=.* or here$"):
        list_csv(root=pictures, labels="no.csv")


def test_files_that_the_table_names_and_files_that_it_does_not(config: Config, tmp_path: Path) -> None:
    """Those that are not there are damaged pictures; the others are counted, and left out."""
    write_folder(tmp_path / "pictures")
    table = tmp_path / "pictures/labels.csv"
    write_table(table)
    lines = [line for line in table.read_text().splitlines() if "val/two/3" not in line and "val/two/4" not in line]
    (tmp_path / "outside.png").write_bytes((tmp_path / "pictures/val/two/0.png").read_bytes())
    (tmp_path / "pictures/link.png").symlink_to(tmp_path / "outside.png")
    (tmp_path / "pictures/empty.png").touch()
    (tmp_path / "pictures/notes.txt").touch()
    extra = ["no.png,two,train", "link.png,two,train", "empty.png,two,val", "notes.txt,two,val"]
    table.write_text("\n".join([*lines, *extra]))
    data = make_data(config, *TABLE, f"data.root={tmp_path}/pictures", "data.max_bad_fraction=0.5")
    shown = "\n".join(data.survey())
    assert data.sizes == {"train": 24, "val": 22, "test": 24}
    assert re.search(r"left out: 2 other files, .*\n +2  is not named in labels.csv", shown)
    found = {
        Path(row.path).name: (row.split, row.class_name, row.reason, row.is_damaged) for row in data.bad_images.rows.values()
    }
    assert found["no.png"] == ("train", "two", "there is no such file", True)
    assert found["link.png"][2] == "is a link that leads out of data.root (data.follow_links=true follows it)"
    assert found["empty.png"] == ("val", "two", "cannot be read: empty, 0 bytes", True)
    assert found["notes.txt"][3] and found["3.png"] == ("", "", "is not named in labels.csv", False)
    with pytest.raises(DataError, match=r"data: 4 of 74 pictures cannot be used, .*: .*/no.png: there is no such file"):
        make_data(config, *TABLE, f"data.root={tmp_path}/pictures", "data.max_bad_fraction=0")
    follow = make_data(config, *TABLE, f"data.root={tmp_path}/pictures", "data.follow_links=true", "data.max_bad_fraction=0.5")
    assert follow.sizes["train"] == 25


def test_folds_pool_what_the_table_splits(config: Config, tmp_path: Path) -> None:
    write_folder(tmp_path)
    write_table(tmp_path / "labels.csv")
    tested: list[str] = []
    for fold in range(3):
        data = make_data(config, *TABLE, f"data.root={tmp_path}", "data.folds=3", f"data.fold={fold}", "data.balanced=true")
        tested += data.image_paths("test")
    assert sorted(tested) == sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))


@pytest.mark.slow
def test_a_run_on_a_table(
    command: Callable[..., int],
    script: Callable[..., int],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trained, resumed and evaluated from another folder, after the data has moved; and on class folders."""
    write_folder(tmp_path / "pictures")
    write_table(tmp_path / "pictures/labels.csv")
    small = ("model.width=0.0625", "device=cpu", "tracking=none", "trainer.steps=2")
    typed = ("data=csv", "data.root=pictures", "data.labels=pictures/labels.csv", *TABLE[2:], *small)
    assert command(*typed, "hydra.run.dir=run") == 0, capfd.readouterr().err
    rows = list(csv.DictReader((tmp_path / "run/predictions.csv").open()))
    assert [row["label"] for row in rows] == [row["path"].split("/")[-2] for row in rows] and len(rows) == 24
    (tmp_path / "pictures").rename(tmp_path / "moved")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    capfd.readouterr()
    assert script("evaluate", "../run", "--data-root", "../moved") == 0, capfd.readouterr().err
    assert "; 24 images of test\n" in capfd.readouterr().out
    assert script("evaluate", "../run", "--data-root", "../moved/val") == 0, capfd.readouterr().err
    assert "; 24 images of ../moved/val, all of it\n" in capfd.readouterr().out
    assert command("resume=../run", "data.root=../moved", "trainer.steps=4") == 0, capfd.readouterr().err
    (tmp_path / "moved/labels.csv").write_text((tmp_path / "moved/labels.csv").read_text().replace("one,train", "two,train", 1))
    assert command("resume=../run", "trainer.steps=6") == 1
    assert "data" in capfd.readouterr().err
    assert command("data=csv", "data.root=../moved", "data.labels=no.csv") == 1
    assert "data.labels=no.csv: there is no such file, in data.root=../moved or here" in capfd.readouterr().err
    assert command("data=csv") == 1
    assert capfd.readouterr().err == (
        "error: data.labels=???: is required: data.labels=<table with the columns path,label>\n"
        "error: data.root=???: is required: data.root=<folder that the paths of the table begin in>\n"
    )
