"""scripts/predict.py: the network's own outputs on files, and files that are none."""

import csv
import io
import json
import math
import os
import pty
import re
import runpy
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.configs import ROOT
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

from vgg_nll.data.pictures import reader
from vgg_nll.data.pictures.walk import PICTURES, find_pictures
from vgg_nll.data.preprocessing import Preprocessing
from vgg_nll.errors import DataError
from vgg_nll.inference import evaluate, predict
from vgg_nll.inference.trained_model import _takes_and_gives, load

Script = Callable[..., int]


@pytest.fixture(scope="module")
def pictures(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's 8 test images as files."""
    folder = tmp_path_factory.mktemp("pictures")
    run = evaluate.open_run(finished, device="cpu")
    (batch,) = run.data.eval_batches("test")
    for i, image in enumerate(run.trained.preprocessing.pixels(batch[0])):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{i}.png")
    return folder


def softmax(finished: Path) -> torch.Tensor:
    """What the network says of the test images, as the trainer feeds them."""
    run = evaluate.open_run(finished, device="cpu")
    (batch,) = run.data.eval_batches("test")
    with torch.no_grad():
        return run.trained.model.eval()(batch[0]).double().softmax(1)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_files_give_what_the_data_set_gives(finished: Path, pictures: Path, batch_size: int) -> None:
    network = load(finished, device="cpu")
    paths = find_pictures([pictures])
    found = list(predict.predict_files(network, paths, top_k=2, temperature=1.0, batch_size=batch_size))
    assert [item.path for item in found] == [pictures / f"{i}.png" for i in range(8)]
    for item, row in zip(found, softmax(finished), strict=True):
        assert item.confidence == pytest.approx(row.sort(descending=True).values.tolist(), rel=1e-4)
        assert item.classes == tuple(network.class_names[k] for k in row.argsort(descending=True))
        assert item.margin == pytest.approx(torch.logit(row.max()).item(), rel=1e-4)


def test_temperature_softens(finished: Path, pictures: Path) -> None:
    network = load(finished, device="cpu")
    path = [pictures / "0.png"]
    (sharp,), (soft,) = (predict.predict_files(network, path, top_k=2, temperature=t, batch_size=1) for t in (1.0, 4.0))
    assert soft.classes == sharp.classes
    assert soft.margin == pytest.approx(sharp.margin / 4)  # two classes: the margin is their logits' difference


def test_table_json_and_csv(finished: Path, pictures: Path, script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    answers = []
    for form in ("--json", "--csv"):
        assert script("predict", finished, pictures, form, "--device", "cpu", "--top", "1") == 0
        answers.append(capsys.readouterr().out)
    objects, rows = json.loads(answers[0]), list(csv.DictReader(io.StringIO(answers[1])))
    assert [item["path"] for item in objects] == [row["path"] for row in rows] == [str(pictures / f"{i}.png") for i in range(8)]
    assert [item["confidence"][0] for item in objects] == [float(row["confidence"]) for row in rows]
    assert script("predict", finished, pictures / "3.png", "--device", "cpu") == 0
    first = objects[3]
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["picture", "class", "2.", "margin"]
    assert line.startswith(f"{pictures / '3.png'}  {first['classes'][0]} {first['confidence'][0]:.4f}  ")
    assert line.endswith(f"  {first['margin']:.2f}")
    assert head.index("margin") == line.index(f"{first['margin']:.2f}")  # below its name


@pytest.mark.parametrize(
    ("margin", "p", "text"),
    [(3.0, 0.9525741, "0.9526"), (11.83, 0.9999927, "1 - 7.3e-06"), (25.0, 1.0, "1 - 1.4e-11"), (9.0, 0.9998766, "0.9999")],
)
def test_no_output_is_rounded_to_1_or_0(capsys: pytest.CaptureFixture[str], margin: float, p: float, text: str) -> None:
    write_table = runpy.run_path(str(ROOT / "scripts/predict.py"))["write_table"]
    rest = 1 / (1 + math.exp(margin))
    write_table(iter([predict.Prediction(Path("a.png"), ("cat", "dog"), (p, rest), margin, "cat")]))
    _, line = capsys.readouterr().out.splitlines()
    smaller = f"{rest:.4f}" if rest >= 5e-5 else f"{rest:.1e}"
    assert re.split("  +", line) == ["a.png", f"cat {text}", f"dog {smaller}", f"{margin:.2f}"]


@pytest.mark.parametrize("unsure", [0, 4, 8])
def test_below_the_threshold_a_picture_is_unsure(
    finished: Path, pictures: Path, script: Script, capsys: pytest.CaptureFixture[str], unsure: int
) -> None:
    """In every form; the classes and their outputs stay. Without a threshold the table has no such column."""
    outputs = softmax(finished)
    confidence = [0.0, *sorted(outputs.amax(1).tolist()), 1.0]
    threshold = (confidence[unsure] + confidence[unsure + 1]) / 2 if unsure else 0.0
    names = load(finished, device="cpu").class_names
    expected = [names[int(p.argmax())] if float(p.max()) >= threshold else "unsure" for p in outputs]
    assert expected.count("unsure") == unsure
    line = ["predict", finished, pictures, "--device", "cpu", "--threshold", threshold]
    answers = []
    for form in (["--json"], ["--csv", "--top", "1"], []):
        assert script(*line, *form) == 0
        answers.append(capsys.readouterr().out)
    objects, rows, table = json.loads(answers[0]), list(csv.DictReader(io.StringIO(answers[1]))), answers[2].splitlines()
    assert [item["prediction"] for item in objects] == [row["prediction"] for row in rows] == expected
    assert (
        [item["classes"][0] for item in objects] == [row["class"] for row in rows] == [names[int(p.argmax())] for p in outputs]
    )
    assert re.split("  +", table[0]) == ["picture", *["prediction"] * (threshold > 0), "class", "2.", "margin"]
    if threshold > 0:
        assert [re.split("  +", row)[1] for row in table[1:]] == expected


def test_an_output_at_the_threshold_is_a_class(finished: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the program on docs/pictures.md."""
    network = load(finished, device="cpu")
    monkeypatch.setattr("vgg_nll.model.VGG16.forward", lambda self, images: torch.zeros(len(images), 2))
    options = {"top_k": 1, "temperature": 1.0, "batch_size": 1}
    for threshold, name in ((0.5, network.class_names[0]), (0.500001, "unsure")):
        (found,) = predict.predict_files(network, [pictures / "0.png"], threshold=threshold, **options)
        assert found.prediction == name


def test_pictures_of_the_run_are_marked(
    finished: Path, pictures: Path, script: Script, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a column of the table, if there are any; and a line counts those that the run was trained on."""
    known = {pictures / "1.png": "train", pictures / "4.png": "test", pictures / "5.png": "train"}
    monkeypatch.setattr("vgg_nll.inference.pictures.splits_of", lambda *_: known)
    assert script("predict", finished, pictures, "--device", "cpu") == 0
    printed = capsys.readouterr()
    head, *rows = printed.out.splitlines()
    assert head.endswith("  margin  split")
    assert [row[head.index("split") :] for row in rows] == ["", "train", "", "", "test", "train", "", ""]
    assert printed.err == "warning: the run was trained on 2 of these 8 pictures: it has seen their labels\n"
    monkeypatch.setattr("vgg_nll.inference.pictures.splits_of", lambda *_: (_ for _ in ()).throw(DataError("x: holds others")))
    assert script("predict", finished, pictures, "--device", "cpu") == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0].endswith("  margin")
    assert printed.err == "warning: which of these pictures the run was trained on is not known: x: holds others\n"


@pytest.mark.slow
def test_rows_and_their_progress_do_not_mix_on_a_terminal(finished: Path, pictures: Path, tmp_path: Path) -> None:
    """Both streams on one terminal: every row is there, whole, and nothing else is."""
    screen, terminal = pty.openpty()
    line = [sys.executable, str(ROOT / "scripts/predict.py"), str(finished), str(pictures), "--device", "cpu"]
    process = subprocess.Popen(line, stdout=terminal, stderr=terminal, cwd=tmp_path)
    os.close(terminal)
    text = b""
    while True:
        try:
            part = os.read(screen, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        text += part
    assert process.wait() == 0
    lines = text.decode().replace("\r\n", "\n").splitlines()
    assert lines[0].split() == ["picture", "class", "2.", "margin"]
    assert [row.split()[0] for row in lines[1:]] == [str(pictures / f"{i}.png") for i in range(8)]
    assert "\r" not in "".join(lines)


def test_unreadable_files_are_named_and_left_out(
    finished: Path, pictures: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(pictures, tmp_path / "some"))
    (folder / "2.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not looked at in a folder")
    (folder / "deep").mkdir()
    (folder / "deep/half.JPG").write_bytes((folder / "1.png").read_bytes()[:100])
    assert script("predict", finished, folder, "--json", "--device", "cpu", "--batch-size", "2") == 3
    output = capsys.readouterr()
    assert [Path(item["path"]).name for item in json.loads(output.out)] == [f"{i}.png" for i in (0, 1, 3, 4, 5, 6, 7)]
    lines = [line for line in output.err.splitlines() if line.startswith("warning")]
    assert [Path(line.split(": ")[1]).name for line in lines[:2]] == ["2.png", "half.JPG"]
    assert lines[2] == "warning: 2 of 9 files were left out"


def test_pictures_are_those_of_torchvision() -> None:
    assert PICTURES[: len(IMG_EXTENSIONS)] == IMG_EXTENSIONS


def test_links_are_followed_once(finished: Path, pictures: Path, tmp_path: Path) -> None:
    """As in training; a folder that holds itself ends; a folder with the name of a picture is none."""
    (tmp_path / "all").mkdir()
    (tmp_path / "all/linked").symlink_to(pictures)
    (tmp_path / "all/again").symlink_to(tmp_path / "all")
    (tmp_path / "all/x.png").mkdir()
    assert len(find_pictures([tmp_path / "all"])) == 8


def test_a_picture_too_narrow_is_named(finished: Path, tmp_path: Path) -> None:
    """Resized by its shorter side it would have millions of pixels."""
    Image.new("L", (1, 3000)).save(tmp_path / "line.png")
    (found,) = predict.predict_files(
        load(finished, device="cpu"), [tmp_path / "line.png"], top_k=1, temperature=1.0, batch_size=1
    )
    assert found == f"{tmp_path}/line.png: 1x3000 pixels are too narrow; crop or remove it"


def test_equal_outputs_go_to_the_first(finished: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = load(finished, device="cpu")
    network.class_names = tuple(f"class {k}" for k in range(40))
    monkeypatch.setattr("vgg_nll.model.VGG16.forward", lambda self, images: torch.zeros(len(images), 40))
    (found,) = predict.predict_files(network, [pictures / "0.png"], top_k=3, temperature=1.0, batch_size=1)
    assert found.classes == ("class 0", "class 1", "class 2")


@pytest.mark.slow
def test_a_name_that_is_no_text(finished: Path, pictures: Path, tmp_path: Path) -> None:
    """A file's name is bytes; the table holds the same ones. As a process, with a strict standard output."""
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    shutil.copy(pictures / "0.png", name)
    command = [sys.executable, str(ROOT / "scripts/predict.py"), str(finished), os.fsdecode(name), "--device", "cpu"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith(name + b"  ")


def test_nothing_readable(finished: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    assert script("predict", finished, tmp_path / "a.png", "--json", "--device", "cpu") == 3
    assert json.loads(capsys.readouterr().out) == []


def test_each_picture_is_read_once_beside_the_network(finished: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, reads, read = load(finished, device="cpu"), [], reader.read_prepared
    monkeypatch.setattr(
        predict, "read_prepared", lambda path, how: reads.append((path, threading.get_ident())) or read(path, how)
    )
    paths = find_pictures([pictures])
    list(predict.predict_files(network, paths, top_k=1, temperature=1.0, batch_size=3))
    assert [path for path, _ in reads] == paths
    assert threading.get_ident() not in {thread for _, thread in reads}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.png"], "nowhere.png: there is no such file or folder"),
        (["."], ".: holds no pictures (.jpg, "),
        (["a.png", "--temperature"], "has no temperature; python scripts/evaluate.py"),
        ([".", "--temperature", "1e-320"], "--temperature 1e-320: must be a number from 0.01 to 100"),
    ],
)
def test_bad_input(
    finished: Path,
    tmp_path: Path,
    script: Script,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "a.png":
        Path("a.png").touch()
    assert script("predict", finished, *arguments, "--device", "cpu") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert error.count("\n") == 1


def test_a_run_without_a_record(finished: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    (run / "run.json").unlink()
    assert script("predict", run, ".") == 1
    assert f"{run}: holds no run (there is no run.json)" in capsys.readouterr().err


def test_a_temperature_before_the_pictures(
    finished: Path, pictures: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next word is a path: without this line, the first of several pictures would be taken for the temperature."""
    assert script("predict", finished, "--temperature", pictures, "a.png", "--device", "cpu") == 2
    assert f"{pictures}: is a path, not a number; write --temperature after all paths" in capsys.readouterr().err
    assert script("predict", finished, "--device", "cpu") == 2
    assert "name pictures, or folders of them" in capsys.readouterr().err


def test_many_bad_files_are_few_lines(
    finished: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in range(30):
        (tmp_path / f"{k}.png").write_bytes(b"x")
    assert script("predict", finished, tmp_path, "--device", "cpu") == 3
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert printed.out == ""  # no header of nothing
    assert len(lines) == 11
    assert lines[-1] == "warning: 30 of 30 files were left out"


def test_a_path_beside_the_run(finished: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the run that was probably meant."""
    assert script("predict", finished / "checkpoints/best.pt", ".") == 1
    assert f"holds no run (there is no run.json); its run folder is {finished}" in capsys.readouterr().err
    shutil.copytree(finished, tmp_path / "sweep/seed=0")
    assert script("predict", tmp_path / "sweep", ".") == 1
    assert f"; it holds runs, the first is {tmp_path}/sweep/seed=0" in capsys.readouterr().err


def test_no_run(tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    assert script("predict", tmp_path / "none", "a.png") == 1
    assert "holds no run (there is no run.json)" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--top", "--batch-size"])
def test_impossible_numbers(script: Script, capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert script("predict", "run", "a.png", option, "0") == 2
    assert "must be an integer, at least 1" in capsys.readouterr().err


def test_classes_in_chinese_are_written_in_any_locale(
    finished: Path, pictures: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with PYTHONIOENCODING=cp1252, or on a Windows system, with `> out.csv`."""
    monkeypatch.setattr("vgg_nll.inference.trained_model._takes_and_gives", with_classes("猫", "犬"))
    with (tmp_path / "out.csv").open("w", encoding="cp1252") as file:
        monkeypatch.setattr(sys, "stdout", file)
        assert script("predict", finished, pictures, "--csv", "--device", "cpu") == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text(encoding="utf-8"))))
    assert {row["class"] for row in rows} == {"猫", "犬"} and len(rows) == 16


def with_classes(*names: str) -> Callable[..., tuple[tuple[str, ...], Preprocessing]]:
    """Returns what a run record says, with other names of the classes."""
    return lambda *given: (names, _takes_and_gives(*given)[1])
