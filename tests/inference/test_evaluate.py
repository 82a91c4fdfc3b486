"""scripts/evaluate.py: the run's own numbers again, and one line for what cannot be evaluated."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch
from helpers.configs import compose_config
from helpers.pictures import FOLDER, write_folder
from helpers.runs import edit_config, edit_json, edit_record, train, train_config
from matplotlib.figure import Figure
from PIL import Image

from vgg_nll.calibration import vector_scaling
from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.evaluation.outputs import read_outputs
from vgg_nll.evaluation.registry import METRICS, View
from vgg_nll.inference import evaluate as inference
from vgg_nll.run_folder import checked_json
from vgg_nll.run_folder.record import RunRecord


@pytest.fixture
def mine(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(finished, tmp_path / "mine"))


@pytest.fixture
def evaluate(script: Callable[..., int]) -> Callable[..., int]:
    """Arguments -> exit code of `python scripts/evaluate.py <arguments>`."""
    return lambda *arguments: script("evaluate", *arguments, "--device", "cpu")


def newest(run: Path) -> dict[str, Any]:
    """What the last evaluation has written."""
    path = max((run / "evaluation").glob("*/evaluation.json"), key=lambda path: path.stat().st_mtime_ns)
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def of_a_run(values: dict[str, float]) -> dict[str, float]:
    """Returns the figures that metrics.json has, too."""
    return {name: value for name, value in values.items() if name not in METRICS or View.FILES not in METRICS[name].views}


@pytest.mark.slow
def test_the_runs_own_numbers(
    mine: Path, evaluate: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In evaluation.json, in the figures' titles, and in the table."""
    titles: dict[str, str] = {}
    savefig = Figure.savefig

    def save(self: Figure, file: IO[bytes], **options: Any) -> None:
        titles[Path(file.name).name.split(".")[1]] = (
            self.get_suptitle() or self.axes[0].get_title() or self.axes[0].texts[0].get_text()
        )
        savefig(self, file, **options)

    monkeypatch.setattr(Figure, "savefig", save)
    assert evaluate(mine) == 0
    content = newest(mine)
    trained = json.loads((mine / "metrics.json").read_text())
    assert of_a_run(content["test"]) == trained["test"]
    assert content["test"].keys() - trained["test"].keys() == {name for name in METRICS if View.FILES in METRICS[name].views}
    assert (content["step"], content["split"], content["temperature"]) == (trained["best_step"], "test", 1.0)
    assert sum(row["images"] for row in content["classes"].values()) == 8
    names = {"reliability_diagram", "accuracy_coverage", "confusion_matrix", "most_confident", "precision_recall"}
    tables = {"evaluation.json", "predictions.csv", "most_confident_errors.csv", "confusions.csv", "outputs.npz"}
    tables |= {"thresholds.csv", "suspicious_labels.csv", "mistakes.html"}
    folder = mine / "evaluation/synthetic_test"
    assert {path.name for path in folder.iterdir()} == tables | {f"{name}.png" for name in names}
    assert (folder / "predictions.csv").read_bytes() == (mine / "predictions.csv").read_bytes()
    own, again = (read_outputs(path / "outputs.npz", RunRecord.open(mine).run_id) for path in (mine, folder))
    np.testing.assert_array_equal(again["test"].logits, own["test"].logits)
    assert own.keys() == {"val", "test"} and again.keys() == {"test"}
    test, start = trained["test"], f"test, step {trained['best_step']}"
    wrong = round(8 * (1 - test["accuracy"]))
    assert titles == {
        "reliability_diagram": f"{start}: ECE {test['ece']:.2%}, 8 images",
        "accuracy_coverage": f"{start}: AURC {test['aurc']:.5f}, 8 images",
        "confusion_matrix": f"{start}: accuracy {test['accuracy']:.2%} of 8 images",
        "most_confident": f"{start}: the {wrong} most confident of {wrong} errors",
        "precision_recall": titles["precision_recall"],
    }
    area = re.fullmatch(rf"{start}: mean average precision (0\.\d{{4}}), 8 images", titles["precision_recall"])
    assert area and 0.4 < float(area[1]) <= 1
    assert f"accuracy %{' ' * 9}" in capsys.readouterr().out


def test_other_splits_and_checkpoints(mine: Path, evaluate: Callable[..., int]) -> None:
    assert evaluate(mine, "--split", "val", "--checkpoint", "last") == 0
    content = newest(mine)
    assert content["step"] == 12
    assert content["val"].keys() > json.loads((mine / "metrics.json").read_text())["val"].keys()


@pytest.mark.slow
def test_temperature(mine: Path, evaluate: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    """The same predictions; on the images that it was fitted to, the loss can only fall."""
    assert evaluate(mine, "--split", "val", "--temperature") == 0
    content = newest(mine)
    printed = capsys.readouterr()
    assert f"temperature {content['temperature']:.4f} (95% interval" in printed.out
    assert "), fitted to 8 validation images and saved in temperature.json" in printed.out
    assert "warning: the temperature may make confidence worse: " in printed.err
    assert content["val at T"]["accuracy"] == content["val"]["accuracy"]
    assert content["val at T"]["refinement_nll"] == pytest.approx(
        content["val"]["refinement_nll"], rel=1e-2
    )  # T changes the rest
    assert content["val at T"]["nll_argmax"] < content["val"]["nll_argmax"]
    evaluation = inference.evaluate(inference.open_run(mine, device="cpu"), "val", content["temperature"])
    sums = evaluation.sums
    assert len(evaluation.most_confident_errors.target) == int(sums.images - sums.correct) > 0
    assert evaluation.values["nll_argmax"] == pytest.approx(content["val at T"]["nll_argmax"])


@pytest.mark.slow
def test_a_temperature_is_saved_and_used(mine: Path, evaluate: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    """By the checkpoint that it was fitted to; another number can be given."""
    assert evaluate(mine, "--temperature") == 0
    saved = json.loads((mine / "temperature.json").read_text())
    assert evaluate(mine, "--temperature", "saved") == 0
    content = newest(mine)
    assert content["temperature"] == saved["temperature"]
    assert evaluate(mine, "--temperature", "100") == 0  # every output nearly the same
    content = newest(mine)
    assert content["test at T"]["confidence"] == pytest.approx(0.5, abs=0.02)
    edit_json(mine / "temperature.json", step=1)
    capsys.readouterr()
    assert evaluate(mine, "--temperature", "saved") == 1
    assert "is of step 1, and the checkpoint of step" in capsys.readouterr().err


@pytest.mark.slow
def test_vector_scaling_is_a_column_and_no_more(
    mine: Path, evaluate: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Fitted to the validation images; the files hold what the network says, and the line what has changed."""
    assert evaluate(mine, "--svs") == 0
    folder = mine / "evaluation" / "synthetic_test"
    with np.load(mine / "outputs.npz") as kept:
        names = ("val_logits", "val_labels", "test_logits", "test_labels")
        logits, labels, test_logits, test_labels = (torch.from_numpy(kept[name]) for name in names)
    scaled = vector_scaling.fit(logits, labels).apply(test_logits)
    content = newest(mine)
    nll = float(torch.nn.functional.cross_entropy(scaled, test_labels))
    assert content["test after SVS"]["nll_argmax"] == pytest.approx(nll, rel=1e-4)
    assert content["test"]["nll_argmax"] != pytest.approx(nll, rel=1e-4)
    changed = int((scaled.argmax(1) != test_logits.argmax(1)).sum())
    printed = capsys.readouterr().out
    assert f"SVS, fitted to 8 validation images, changes {changed} of 8 predictions\n" in printed
    assert re.search(r"test \(n = 8\)  +test after SVS \(n = 8\)", printed)
    with np.load(folder / "outputs.npz") as written:
        np.testing.assert_allclose(written["test_logits"], test_logits, rtol=1e-4, atol=1e-4)


def test_nothing_is_fitted_for_a_split_that_is_not_there(
    mine: Path, evaluate: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of pictures may have no test split; the word itself is checked at once."""
    assert evaluate(mine, "--split", "tset", "--temperature") == 2
    opened = inference.open_run(mine, device="cpu")
    del opened.data.sizes["test"]
    with monkeypatch.context() as patch:
        patch.setattr(inference, "open_run", lambda *_: opened)
        assert evaluate(mine, "--temperature") == 1
    assert "error: --split test: this data set has train, val\n" in capsys.readouterr().err
    assert not (mine / "temperature.json").exists()


@pytest.mark.slow
def test_a_smaller_batch_and_less_memory(
    mine: Path, evaluate: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit is said, with what would; the numbers do not depend on it."""
    assert evaluate(mine) == 0
    first = newest(mine)
    assert evaluate(mine, "--batch-size", "3") == 0
    second = newest(mine)
    assert second["test"]["nll_argmax"] == pytest.approx(first["test"]["nll_argmax"], rel=1e-5)
    assert evaluate(mine, "--batch-size", "0") == 2
    full = torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr("vgg_nll.model.VGG16.forward", lambda *_: (_ for _ in ()).throw(full))
    capsys.readouterr()
    assert evaluate(mine) == 1
    assert (
        capsys.readouterr().err
        == "error: out of memory: fewer images at once take less (--batch-size; in training, trainer.batch_size)\n"
    )


@pytest.mark.slow
def test_data_that_has_moved(
    evaluate: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "old")
    cfg = compose_config(*FOLDER, f"data.root={tmp_path}/old", "data.num_workers=0", "trainer.steps=1", "device=cpu")
    (tmp_path / "run").mkdir()
    train_config(cfg, tmp_path / "run")
    (tmp_path / "old").rename(tmp_path / "new")
    assert evaluate(tmp_path / "run") == 1
    assert "there is no such folder" in capsys.readouterr().err
    assert evaluate(tmp_path / "run", "--data-root", tmp_path / "new") == 0


def other_runs(folder: Path, name: str) -> None:
    """Puts a file of another run into the place of this one's, with a sound checksum."""
    path = folder / name
    if path.suffix == ".json":
        content = checked_json.read(path)
        checked_json.write(path, content, checked_json.new_run_id())
    else:
        checkpoint_file.save(path, checkpoint_file.load(path) | {"run": checked_json.new_run_id()})


def put_nan(folder: Path) -> None:
    content = checkpoint_file.load(folder / "checkpoints/best.pt")
    next(iter(content["model"].values()))[0] = torch.nan
    checkpoint_file.save(folder / "checkpoints/best.pt", content)


@pytest.mark.parametrize(
    ("spoil", "arguments", "words"),
    [
        (lambda folder: None, ["--checkpoint", "previous"], "checkpoints/previous.pt: there is no such checkpoint"),
        (lambda folder: None, ["--temperature", "saved"], "has no temperature; python scripts/evaluate.py"),
        (lambda folder: None, ["--temperature", "0"], "--temperature 0: must be a number from 0.01 to 100"),
        (lambda folder: None, ["--temperature", "hot"], "--temperature hot: must be a number from 0.01 to 100"),
        (lambda folder: (folder / "temperature.json").write_text("{}"), ["--temperature", "saved"], "is damaged"),
        (lambda folder: (folder / "evaluation").write_text(""), [], "evaluation/synthetic_test: Not a directory"),
        (lambda folder: (folder / "run.json").write_bytes(b"\xff"), [], "run.json: is damaged"),
        (lambda folder: (folder / "run.json").write_text("{"), [], "run.json: is damaged"),
        (
            lambda folder: edit_record(folder, data={"classes": ["cat", "dog"]}),
            [],
            "was trained on other classes than its",
        ),
        (lambda folder: edit_record(folder, preprocessing={"std": [0, 1, 1]}), [], "run.json: is damaged (mean="),
        (lambda folder: edit_record(folder, preprocessing={"image_size": 10**9}), [], "run.json: is damaged (image_size"),
        (
            lambda folder: edit_record(folder, preprocessing={"mean": [1, 1]}),
            [],
            "run.json: is damaged: it does not hold what a run writes",
        ),
        (lambda folder: other_runs(folder, "checkpoints/best.pt"), [], "best.pt: is of another run"),
        (lambda folder: put_nan(folder), [], "features.0.weight holds NaN or infinity"),
        (lambda folder: (folder / "run.json").unlink(), [], "holds no run"),
        (lambda folder: (folder / "run.json").write_text("[1]"), [], "it holds no names with values"),
        (lambda folder: (folder / "run.json").write_text('{"seed": 0}'), [], "run.json: is damaged"),
        (lambda folder: edit_config(folder, data=...), [], "run.json: data: is missing"),
        (lambda folder: (folder / "checkpoints/best.pt").unlink(), [], "there is no such checkpoint"),
        (lambda folder: (folder / "checkpoints/best.pt").write_bytes(b"x"), [], "damaged"),
        (
            lambda folder: checkpoint_file.save(
                folder / "checkpoints/best.pt",
                {"model": {}, "run": checkpoint_file.load(folder / "checkpoints/last.pt")["run"]},
            ),
            [],
            "does not fit its config",
        ),
        (
            lambda folder: edit_config(folder, **{"loss._target_": "os.system"}),
            [],
            "loss._target_=os.system: no file in configs/ names this here",
        ),
    ],
)
def test_bad_input(
    finished: Path,
    tmp_path: Path,
    evaluate: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], object],
    arguments: list[str],
    words: str,
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    (folder / "checkpoints/previous.pt").unlink(missing_ok=True)
    spoil(folder)
    assert evaluate(folder, *arguments) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (folder / "evaluation").is_dir()


@pytest.fixture
def pictures_run(tmp_path: Path) -> Path:
    """A run on pictures of three classes."""
    for name in ("cat", "dog", "Cafe\u0301"):
        fill(tmp_path / "mine" / name, 12)
    small = (
        *FOLDER,
        f"data.root={tmp_path}/mine",
        "trainer.steps=2",
        "trainer.batch_size=4",
        "tracking=none",
        "data.num_workers=0",
    )
    train(tmp_path / "run", *small, "data.test_fraction=0.2", "data.val_fraction=0.2")
    return tmp_path / "run"


def fill(folder: Path, number: int, hue: int = 3) -> None:
    folder.mkdir(parents=True)
    for k in range(number):
        Image.new("RGB", (40, 40), (17 * k % 256, hue * k % 256, 90)).save(folder / f"{k}.png")


@pytest.mark.slow
def test_another_folder_is_tested_whole(
    pictures_run: Path,
    tmp_path: Path,
    evaluate: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever its order: classes go by name; one that is missing is said; nothing of the run is overwritten."""
    for place in ("new", "with/test"):
        fill(tmp_path / place / "dog", 5, 7)
        fill(tmp_path / place / "Caf\u00e9", 4, 7)
    for root in ("new", "with"):
        caplog.clear()
        assert evaluate(pictures_run, "--data-root", tmp_path / root) == 0
        assert f"; 9 images of {tmp_path / root}, all of it\n" in capsys.readouterr().out
        assert "has no pictures of cat: it says nothing of them" in caplog.text
        rows = list(csv.DictReader((pictures_run / f"evaluation/{root}_test/predictions.csv").open(encoding="utf-8")))
        assert [row["label"] for row in rows] == ["Cafe\u0301"] * 4 + ["dog"] * 5
    assert evaluate(pictures_run, "--data-root", tmp_path / "new", "--temperature") == 1
    assert "--temperature: is fitted to the run's own validation images" in capsys.readouterr().err
    assert evaluate(pictures_run, "--data-root", tmp_path / "new", "--svs") == 1
    assert "--svs: is fitted to the run's own validation images; leave out --data-root\n" in capsys.readouterr().err
    fill(tmp_path / "new/lion", 1)
    assert evaluate(pictures_run, "--data-root", tmp_path / "new") == 1
    assert "new: the network does not know lion; rename or remove what is no class: it knows" in capsys.readouterr().err


@pytest.mark.slow
def test_data_that_has_moved_is_split_as_it_was(
    pictures_run: Path, tmp_path: Path, evaluate: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").rename(tmp_path / "moved")
    before = json.loads((pictures_run / "metrics.json").read_text())["test"]
    assert evaluate(pictures_run, "--data-root", tmp_path / "moved") == 0
    assert of_a_run(newest(pictures_run)["test"]) == before
    assert " images of test\n" in capsys.readouterr().out


def test_a_data_set_that_is_no_folder(mine: Path, evaluate: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(mine, "--data-root", "x") == 1
    assert "error: --data-root: the data of this run (synthetic) is not read from a folder\n" in capsys.readouterr().err
