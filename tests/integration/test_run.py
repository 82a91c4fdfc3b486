"""Whole runs through `run.train`: what they leave in their folder, and what they read and choose."""

import csv
import io
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.configs import TINY, make_data
from helpers.pictures import FOLDER, write_folder
from helpers.runs import CHOICES, outcome, points, read_curves, read_events, train, train_config
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from vgg_nll.evaluation.registry import METRICS, View
from vgg_nll.model import VGG16, summary
from vgg_nll.progress import duration
from vgg_nll.run_folder.record import RunRecord
from vgg_nll.tracking import tags

Config = Callable[..., DictConfig]
SCALARS = {
    *("loss/train", "loss/val", "nll/argmax", "nll/argmax_prediction", "nll/all_logit"),
    *("accuracy/train", "accuracy/val", "accuracy/val_top5"),
    *("confidence/mean", "confidence/true_class", "confidence/margin", "confidence/margin_p50"),
    *("calibration/ece", "calibration/brier", "calibration/mce", "calibration/adaptive_ece"),
    *("calibration/classwise_ece", "calibration/overconfidence", "selection/aurc"),
    *("optimizer/learning_rate", "optimizer/gradient_norm"),
    *("speed/images_per_second", "speed/mfu", "speed/data_wait", "speed/epoch"),
}
INTERVALS = ("accuracy", "nll_argmax", "brier", "confidence", "overconfidence", "aurc", "auroc")
EPOCH = (*TINY, "loss=all_logit", "trainer.epochs=1", "trainer.log_every_steps=2")  # 6 steps
FILES = {
    *(".hydra", ".lock", "checkpoints", "metrics.json", "metrics.csv", "predictions.csv", "outputs.npz", "run.json", "DONE"),
}


@pytest.fixture(scope="module")
def epoch(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a run of one epoch, and its log. Tests read the folder, and do not change it."""
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        for module in ("vgg_nll.run.train", "vgg_nll.run.announce", "vgg_nll.training.logger"):
            patch.setattr(f"{module}.log.info", lines.append)
            patch.setattr(f"{module}.log.warning", lines.append)
        folder = tmp_path_factory.mktemp("epoch")
        train(folder, *EPOCH)
    return folder, "\n".join(lines)


def test_files_of_a_run(epoch: tuple[Path, str], config: Config) -> None:
    folder, _ = epoch
    tensorboard = {"projector_config.pbtxt", "00006"}
    assert {path.name for path in folder.iterdir() if "tfevents" not in path.name} == FILES | tensorboard
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {
        "last.pt",
        "best.pt",
    }  # one validation, one checkpoint
    content = json.loads((folder / "metrics.json").read_text())
    of_runs = {name for name, metric in METRICS.items() if View.FILES not in metric.views}
    intervals = {f"{name}_interval" for name in INTERVALS}
    assert content["test"].keys() == content["val"].keys() == of_runs | intervals
    for values in (content["val"], content["test"]):
        low, high = values["accuracy_interval"]
        assert low <= values["accuracy"] <= high
        assert values["refinement_nll"] + values["calibration_nll"] == pytest.approx(values["nll_argmax"])
    assert {"best_step", "seconds", "device", "precision", "versions", "git"} <= set(content)
    assert content["threads"] == torch.get_num_threads()
    assert {"python", "torch", "torchvision", "hydra-core"} <= set(content["versions"])
    assert re.fullmatch("[0-9a-f]{40}(-dirty)?|", content["git"])
    assert sum(content["reliability"]["images"]) == 8
    record = RunRecord.open(folder)
    assert record.config == OmegaConf.to_container(config(*EPOCH), resolve=True)
    assert record.choices == CHOICES
    assert record.data is not None and record.preprocessing is not None
    assert (record.data.classes, record.preprocessing["image_size"]) == (["pattern 0", "pattern 1"], 32)


def test_curves_of_a_run(epoch: tuple[Path, str]) -> None:
    folder, _ = epoch
    content, events = json.loads((folder / "metrics.json").read_text()), read_events(folder)
    scalars = set(events.Tags()["scalars"])
    assert scalars >= SCALARS
    assert {f"confidence/{which}" for which in ("correct", "incorrect")} & scalars
    assert {f"test/{name}" for name in METRICS if content["test"].get(name) is not None} <= scalars
    flops = summary.flops_per_image(VGG16(2, head="compact", width=1 / 16), 32)
    for speed, share in zip(events.Scalars("speed/images_per_second"), events.Scalars("speed/mfu"), strict=True):
        assert share.value * content["peak_tflops"] * 1e12 == pytest.approx(speed.value * flops, rel=0.1)  # which is rounded
    assert [point.step for point in events.Scalars("loss/train")] == [2, 4, 6]
    assert [point.step for point in events.Scalars("loss/val")] == [0, 6]  # the untrained network, too
    assert [point.step for point in events.Scalars("loss/train_eval")] == [0, 6]
    assert [point.step for point in events.Scalars("gradient/all_logit/leading_wrong")] == [1, 6]
    assert [point.step for point in events.Scalars("layers/weight_norm_last")] == [1, 6]
    assert [point.step for point in events.Scalars("flips/learnt")] == [6]
    assert [point.step for point in events.Scalars("best/accuracy")] == [6]
    assert [(point.step, point.value) for point in events.Scalars("speed/epoch")] == [
        (step, pytest.approx(step / 6)) for step in (2, 4, 6)
    ]
    assert [point.step for point in events.Tensors("confidence/margin_histogram")] == [0, 6]
    assert [image.step for image in events.Images("calibration/reliability_diagram")] == [6]
    assert [image.step for image in events.Images("flips/true_class_probability")] == [6]
    assert {"config/text_summary", "provenance/text_summary", "model/text_summary"} <= set(events.Tags()["tensors"])
    validation_images = (folder / "00006/penultimate_features/tensors.tsv").read_text().splitlines()
    assert len(validation_images) == 8


def test_tables_of_a_run(epoch: tuple[Path, str]) -> None:
    """A row per validation, with the numbers of TensorBoard; a row per test image, with those of metrics.json."""
    folder, _ = epoch
    content, curves = json.loads((folder / "metrics.json").read_text()), read_curves(folder)
    untrained, last = rows_of(folder / "metrics.csv")
    assert (untrained["step"], last["step"], last["epoch"]) == ("0", "6", "1.0")
    final = {name: content["val"][name] for name in tags.VALIDATION if content["val"][name] is not None}
    drawn = {"ece_noise_floor": pytest.approx(final["ece_noise_floor"], rel=0.2)}  # for a curve, it is computed from the bins
    assert {name: float(last[name]) for name in tags.VALIDATION if last[name]} == final | drawn
    for name, tag in {"loss": "loss/val", "train_eval_accuracy": "accuracy/train_eval"}.items():
        assert [float(row[name]) for row in (untrained, last)] == pytest.approx([value for _, value in curves[tag]])
    images = rows_of(folder / "predictions.csv")
    assert len(images) == 8
    assert sum(int(row["correct"]) for row in images) / 8 == content["test"]["accuracy"]
    assert all((row["label"] == row["prediction"]) == (row["correct"] == "1") for row in images)
    margins = [float(row["margin"]) for row in images]
    assert sum(margins) / 8 == pytest.approx(content["test"]["margin"])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_log_of_a_run(epoch: tuple[Path, str]) -> None:
    _, log = epoch
    measured = re.search(r"untrained loss: ([\d.]+) ", log)
    assert measured
    assert float(measured[1]) == pytest.approx(2 * math.log(2), rel=0.1)  # of one small batch; on the digits it is 2%
    for value in ("gives 1.3863", "tensorboard --logdir", "nll_all_logit", "trained in"):
        assert value in log
    assert "ignores the labels" not in log


@pytest.mark.slow
@pytest.mark.parametrize(("side", "teraflops", "shown"), [(96, 1e-7, True), (96, 1.0, False), (64, 1e-7, False)])
def test_a_long_run_of_large_images_gets_a_hint(
    side: int, teraflops: float, shown: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before the first step; the bound is all operations at the speed of a matrix product: 8 images, and twice 9 evaluated."""
    caplog.set_level("INFO")
    monkeypatch.setattr("vgg_nll.hardware.peak_flops", lambda *_: teraflops * 1e12)
    train(tmp_path, *TINY, "tracking=none", f"data.image_size={side}", "trainer.steps=2", "trainer.batch_size=4")
    lines = [message for message in caplog.messages if message.startswith(("time: ", "hint: "))]
    seconds = (8 + 2 * 9 / 3) * summary.flops_per_image(VGG16(2, head="compact", width=1 / 16), side) / (teraflops * 1e12)
    expected = f"time: {duration(seconds)} or more on this CPU"
    assert lines == [expected, "hint: data.image_size=64 takes 1/2 of that"][: 2 * shown + (seconds > 60 and not shown)]
    if shown:
        assert caplog.messages.index(expected) < next(i for i, text in enumerate(caplog.messages) if "untrained" in text)


@pytest.mark.slow
def test_without_tracking_all_but_the_curves_is_there(epoch: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = epoch
    train(tmp_path, *EPOCH, "tracking=none")
    assert {path.name for path in tmp_path.iterdir()} == FILES
    assert points(tmp_path) == []
    val, test, best_step, _, states = outcome(tmp_path)
    assert (val, test, best_step, states) == tuple(part for i, part in enumerate(outcome(folder)) if i != 3)


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_a_run_is_one_row_of_hyperparameters(config: Config, tmp_path: Path) -> None:
    """The same columns whatever was trained; an override without a column of its own is listed under `other`."""
    columns = []
    for name, given in (("a", ["loss=all_logit", "seed=3"]), ("b", ["model=vgg16_bn", "trainer.clip_norm=2"])):
        (tmp_path / name).mkdir()
        choices = CHOICES | {group: value for group, _, value in (item.partition("=") for item in given) if group in CHOICES}
        train_config(config(*TINY, "trainer.steps=1", *given), tmp_path / name, choices, [*given, "resume=a/folder"])
        plugin = read_events(tmp_path / name).PluginTagToContent("hparams")
        assert set(plugin) == {f"_hparams_/{part}" for part in ("experiment", "session_start_info", "session_end_info")}
        content = plugin["_hparams_/session_start_info"]
        columns.append(HParamsPluginData.FromString(content).session_start_info.hparams)
    first, second = columns
    assert set(first) == set(second)
    assert (first["loss"].string_value, second["loss"].string_value) == ("all_logit", "argmax")
    assert (first["seed"].number_value, first["batch_size"].number_value, first["steps"].number_value) == (3, 4, 1)
    assert (first["other"].string_value, second["other"].string_value) == ("", "trainer.clip_norm=2")
    assert second["parameters"].number_value > first["parameters"].number_value  # batch norm has some


def test_no_test_split(tmp_path: Path) -> None:
    write_folder(tmp_path / "pictures", ("train", "val"))
    root = (f"data.root={tmp_path}/pictures", "data.num_workers=0")
    content = train(tmp_path / "run", *FOLDER, *root, "model.width=0.0625", "tracking=none", "trainer.steps=1")
    assert "test" not in content
    assert math.isfinite(content["val"]["loss"])


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "threads"), [("float32", 1), ("bfloat16", 2)])
def test_same_seed_same_bits_other_seed_other_bits(
    tmp_path: Path, set_threads: Callable[[int], None], precision: str, threads: int
) -> None:
    """In float32 on one thread, and in bfloat16 on two, which is the default on many machines."""
    set_threads(threads)
    options = ("model=vgg16_bn", "trainer.steps=3", "data.shift_pixels=2", f"trainer.precision={precision}")
    for i, seed in enumerate((0, 0, 1)):
        train(tmp_path / str(i), *TINY, *options, "tracking=none", "model.width=0.25", f"seed={seed}")
    assert outcome(tmp_path / "0") == outcome(tmp_path / "1")
    assert outcome(tmp_path / "0") != outcome(tmp_path / "2")


@pytest.mark.slow
def test_a_compiled_network_trains_like_the_plain_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from torch._dynamo.utils import counters

    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    options = ("trainer.steps=6", "model.dropout=0", "optimizer.lr=1e-3")
    for name, setting in (("plain", "false"), ("compiled", "true")):
        counters.clear()
        train(tmp_path / name, *TINY, *options, f"trainer.compile={setting}")
        assert (counters["stats"]["unique_graphs"] > 0) is (name == "compiled")
    assert "nothing can be compiled here" not in caplog.text
    plain, compiled = (read_curves(tmp_path / name)["loss/train"] for name in ("plain", "compiled"))
    assert len(plain) == 6
    assert plain[0][1] != pytest.approx(plain[-1][1], rel=1e-3)  # there is something to follow
    assert [step for step, _ in compiled] == [step for step, _ in plain]
    assert [loss for _, loss in compiled] == pytest.approx([loss for _, loss in plain], rel=1e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_the_first_images_are_shown(config: Config, tmp_path: Path) -> None:
    """16 training images as the network gets them, and a row of each class: as pixels, enlarged threefold, 2 apart."""
    train(tmp_path, *TINY, "trainer.steps=1", "data.shift_pixels=3")
    events, data = read_events(tmp_path), make_data(config, *TINY, "data.shift_pixels=3")
    cells = {}
    for tag, columns in (("images/augmented", 4), ("images/classes", 8)):
        (shown,) = events.Images(tag)
        picture = np.asarray(Image.open(io.BytesIO(shown.encoded_image_string)))
        corners = [(2 + 98 * (k // columns), 2 + 98 * (k % columns)) for k in range(16)]
        cells[tag] = [picture[top : top + 96 : 3, left : left + 96 : 3] for top, left in corners]
    expected = torch.cat([images for images, _ in data.train_batches(0)])[:16]
    pixels = data.preprocessing.pixels(expected).permute(0, 2, 3, 1).numpy()
    assert all(np.array_equal(cell, image) for cell, image in zip(cells["images/augmented"], pixels, strict=True))
    ((image, label),) = [(images[0], int(target[0])) for images, target in data.eval_batches("train_eval")]  # the only one
    first = data.preprocessing.pixels(image[None])[0].permute(1, 2, 0).numpy()
    assert np.array_equal(cells["images/classes"][8 * label], first)
    assert not cells["images/classes"][8 * label + 1].any()
