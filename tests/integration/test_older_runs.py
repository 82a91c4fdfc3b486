"""A run folder opens for ever: keys that came, went or got another name since, a group, a class; with all six commands."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import edit_config, edit_json, edit_record
from PIL import Image

import vgg_nll
from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.config import upgrade
from vgg_nll.errors import CheckpointError
from vgg_nll.run_folder import checked_json, paths
from vgg_nll.run_folder.record import RunRecord

Call = Callable[..., int]


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, `run` in the working folder, which holds a picture."""
    Image.frombytes("RGB", (32, 32), bytes(range(256)) * 12).save(tmp_path / "picture.png")
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the program newer than its runs: old name -> new name, or None; key -> what older runs did."""

    def change(changed: Mapping[str, str | None] = {}, since: Mapping[str, Any] = {}) -> None:
        monkeypatch.setattr(upgrade, "FORMAT", upgrade.FORMAT + 1)
        monkeypatch.setattr(upgrade, "CHANGED", {old: (upgrade.FORMAT, new) for old, new in changed.items()})
        monkeypatch.setattr(upgrade, "SINCE", {key: (upgrade.FORMAT, value) for key, value in since.items()})

    return change


def older(folder: Path) -> None:
    """Turns a run into one of before: three keys, a group and a class are as they were then."""
    config = RunRecord.open(folder).config
    edit_config(
        folder,
        **{
            "trainer.bucket_mb": ...,  # came since
            "model.freeze": ...,
            "checkpoint.keep": ...,
            "trainer.gone": 3,  # went since
            "trainer.batch": config["trainer"]["batch_size"],  # had another name
            "trainer.batch_size": ...,
            "transform": config["augment"],
            "augment": ...,
            "loss._target_": "vgg_nll.old.AllLogit",
        },
    )


SINCE = {"trainer.bucket_mb": 25, "model.freeze": "none", "checkpoint.keep": "all"}
CHANGED = {
    "trainer.gone": None,
    "trainer.batch": "trainer.batch_size",
    "transform": "augment",
    "vgg_nll.old.AllLogit": "vgg_nll.losses.AllLogitNLL",
}


def outputs(command: Call, script: Call, capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What all six commands give for `run`."""
    given: dict[str, Any] = {}
    calls: dict[str, Callable[[], int]] = {
        "predict": lambda: script("predict", "run", "picture.png", "--device", "cpu", "--csv"),
        "evaluate": lambda: script("evaluate", "run", "--device", "cpu"),
        "export": lambda: script("export", "run", "--format", "safetensors"),
        "compare": lambda: script("compare", "run"),
        "resume": lambda: command("resume=run", "trainer.epochs=3"),
    }
    weights = vgg_nll.load("run", device="cpu").model.state_dict()
    for name, call in calls.items():
        capfd.readouterr()
        code = call()
        printed = capfd.readouterr()
        assert code == 0, printed.err
        given[name] = printed.out
    given["evaluation"] = json.loads(Path("run/evaluation/synthetic_test/evaluation.json").read_text())["test"]
    given["step"] = checkpoint_file.load(Path("run") / paths.LAST)["step"]
    given["result"] = json.loads(Path("run/metrics.json").read_text())["test"]
    given["weights"] = {name: value.tolist() for name, value in weights.items()}
    return {name: value for name, value in given.items() if name != "resume"}  # whose lines hold seconds


@pytest.mark.slow
def test_all_commands_open_a_run_of_before(
    run: Path, newer: Callable[..., None], command: Call, script: Call, capfd: pytest.CaptureFixture[str], no_figures: None
) -> None:
    """They do what they did: keys get the values that stand for that; the record is then written in today's words."""
    as_it_was = Path(shutil.copytree(run, run.parent / "kept"))
    expected = outputs(command, script, capfd)
    shutil.rmtree(run)
    shutil.copytree(as_it_was, run)
    older(run)
    newer(CHANGED, SINCE)
    assert outputs(command, script, capfd) == expected
    resumed, before = RunRecord.open(run).config, RunRecord.open(as_it_was).config
    assert resumed == {**before, "trainer": {**before["trainer"], "epochs": 3}}
    assert checked_json.read(run / paths.RUN)["format"] == upgrade.FORMAT


@pytest.mark.parametrize(
    ("changed", "since"),
    [
        ({}, SINCE),
        ({key: value for key, value in CHANGED.items() if key != "trainer.gone"}, SINCE),
        (CHANGED | {"transform": None}, SINCE),
        ({key: value for key, value in CHANGED.items() if "old" not in key}, SINCE),
        (CHANGED, {"trainer.bucket_mb": 25, "model.freeze": "none"}),
    ],
    ids=["no table", "a key that went", "a group", "a class", "a key that came"],
)
def test_every_line_of_the_tables_counts(run: Path, newer: Callable[..., None], changed: Any, since: Any) -> None:
    older(run)
    newer(changed, since)
    with pytest.raises(CheckpointError, match=r"run\.json: [^\n]*$"):
        RunRecord.open(run).check(run)


def test_only_what_is_newer_than_a_record_is_filled_in(
    run: Path, newer: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that somebody removed on purpose stays removed; today's tables change nothing in a record of today."""
    before = RunRecord.open(run)
    edit_config(run, **{"loss.eps": ...})
    newer({"trainer.old": "trainer.new"}, {"trainer.new": 7, "augment2": {"a": 1}})
    monkeypatch.setattr(upgrade, "SINCE", {**upgrade.SINCE, "loss.eps": (1, 0.5)})  # came in the format of the record
    record = RunRecord.open(run)
    assert "eps" not in record.config["loss"]
    assert record.config["trainer"] == before.config["trainer"] | {"new": 7}
    assert record.config["augment2"] == {"a": 1}
    record.write(run)
    newer({"trainer.new": None}, {"loss.eps": 0.5})
    upgraded = RunRecord.open(run).config
    assert "new" not in upgraded["trainer"] and upgraded["loss"]["eps"] == 0.5


def test_names_change_in_the_order_of_formats(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order of the lines; two names may be swapped; what is there does not hide what is renamed."""
    edit_config(run, a=1, x={"k": 1}, y={"k": 2}, old={"n": 1}, new={})
    first, second = upgrade.FORMAT + 1, upgrade.FORMAT + 2
    monkeypatch.setattr(upgrade, "FORMAT", second)
    of_first = {"a": "b", "x": "y", "y": "x", "old": "new", "gone.below": None}
    monkeypatch.setattr(upgrade, "CHANGED", {"b": (second, "c")} | {old: (first, new) for old, new in of_first.items()})
    monkeypatch.setattr(upgrade, "SINCE", {"data.nothing.here": (first, 1), "data.there": (first, 1)})
    config = RunRecord.open(run).config
    assert (config["c"], config["x"], config["y"], config["new"]) == (1, {"k": 2}, {"k": 1}, {"n": 1})
    assert not {"a", "b", "old"} & config.keys()
    assert "nothing" not in config["data"] and config["data"]["there"] == 1


def test_choices_and_overrides_are_renamed(run: Path, newer: Callable[..., None]) -> None:
    content, run_id = checked_json.read_with_id(run / paths.RUN)
    typed = ["transform=mixup", "transform.mixup=1", "+transformer=2", "loss=nll", "~loss.nll"]
    content |= {"choices": {"transform": "mixup", "loss": "nll"}, "overrides": typed}
    checked_json.write(run / paths.RUN, content, run_id)
    newer({"transform": "augment", "loss=nll": "loss=argmax"})
    record = RunRecord.open(run)
    assert record.choices == {"augment": "mixup", "loss": "argmax"}
    assert record.overrides == ["augment=mixup", "augment.mixup=1", "+transformer=2", "loss=argmax", "~loss.nll"]


def test_a_network_whose_loss_is_gone_predicts(
    run: Path, tmp_path: Path, script: Call, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network needs neither the loss nor the optimizer nor the data: these may be of a package that is not there any more."""
    monkeypatch.chdir(tmp_path)
    weights = vgg_nll.load(run, device="cpu").model.state_dict()
    gone = {f"{part}._target_": "mine.Gone" for part in ("loss", "optimizer", "data", "data.source", "schedule.decay")}
    edit_config(run, **gone, **{"trainer.unknown": 1, "loss.mine": [1, 2], "of_mine": {"x": 1}, "augment": ...})
    assert script("predict", "run", "picture.png", "--device", "cpu") == 0
    assert script("export", "run", "--format", "safetensors") == 0
    again = vgg_nll.load(run, device="cpu").model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in again.items())
    capfd.readouterr()
    assert script("evaluate", "run", "--device", "cpu") == 1
    error = capfd.readouterr().err
    assert error.startswith("error: run/run.json: ") and error.count("\n") == 1


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "newer": (
        lambda run: edit_json(run / "run.json", format=99),
        rf"run\.json: was written by a newer vgg-nll \(format 99; this one reads up to {upgrade.FORMAT}\): update this one$",
    ),
    "no format": (
        lambda run: edit_json(run / "run.json", format=None),
        r"run\.json: is of a run from before records had a format, .*; its weights can: model\.weights=.*run starts a new run",
    ),
    "no number": (lambda run: edit_json(run / "run.json", format="1"), r"run\.json: is damaged: it has no valid format$"),
    "zero": (lambda run: edit_json(run / "run.json", format=0), r"run\.json: is damaged: it has no valid format$"),
    "checksum": (
        lambda run: (run / "run.json").write_text((run / "run.json").read_text().replace('"seed": 0', '"seed": 1')),
        r"run\.json: is damaged: its checksum does not fit$",
    ),
    "no face": (
        lambda run: edit_config(run, **{"model._target_": "vgg_nll.model.vgg.VGG16"}),
        r"run\.json: model\._target_=vgg_nll\.model\.vgg\.VGG16: no file in configs/ names this here",
    ),
    "no preprocessing": (
        lambda run: edit_json(run / "run.json", preprocessing={"mean": 1}),
        r"run\.json: is damaged: it does not",
    ),
    "no numbers": (
        lambda run: edit_record(run, preprocessing={"mean": ["x", 1, 1]}),
        r"run\.json: is damaged: it does not hold what a run writes$",
    ),
    "a missing value": (lambda run: edit_config(run, **{"model.weights": "???"}), r"run\.json: model\.weights: must be text"),
    "no mean": (
        lambda run: (edit_config(run, **{"data.mean": "auto"}), edit_json(run / "run.json", preprocessing={"image_size": 32})),
        r"run\.json: is damaged: it does not hold what a run writes$",
    ),
    "precision": (
        lambda run: edit_config(run, **{"trainer.precision": "float8"}),
        r"run\.json: trainer\.precision=float8: must be one of",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_record_is_one_line(run: Path, name: str) -> None:
    spoil, words = BAD[name]
    spoil(run)
    with pytest.raises(CheckpointError, match=words) as refused:
        vgg_nll.load(run, device="cpu")
    assert "\n" not in str(refused.value)
