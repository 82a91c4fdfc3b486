"""Whole runs through `run.train`: what lands in the folder, repeatability, resume, and runs that fail."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.configs import TINY, make_model
from helpers.runs import read_events
from omegaconf import DictConfig, OmegaConf
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from vgg_nll import run
from vgg_nll.config import build
from vgg_nll.errors import TrainingError
from vgg_nll.losses import AllLogitNLL, ArgmaxNLL
from vgg_nll.model import VGG16, summary
from vgg_nll.training import diagnostics
from vgg_nll.training.state import TrainState

Config = Callable[..., DictConfig]
CHOICES = {"data": "synthetic", "model": "vgg16", "loss": "argmax"}
SCALARS = {
    "loss/train loss/val nll/argmax nll/argmax_prediction nll/all_logit accuracy/train accuracy/val accuracy/val_top5 "
    "confidence/mean confidence/true_class confidence/margin confidence/margin_p50 calibration/ece calibration/brier "
    "calibration/mce calibration/adaptive_ece calibration/classwise_ece calibration/overconfidence selection/aurc "
    "optimizer/learning_rate optimizer/gradient_norm speed/images_per_second speed/mfu speed/data_wait speed/epoch"
}
METRICS = [
    *("accuracy", "top5_accuracy", "loss", "nll_argmax", "nll_argmax_prediction", "nll_all_logit", "brier", "ece"),
    *("mce", "adaptive_ece", "classwise_ece", "overconfidence", "aurc", "auroc"),
    *("confidence", "confidence_correct", "confidence_incorrect", "true_class_probability", "margin"),
    *("margin_p05", "margin_p50", "margin_p95"),
]


def train(config: Config, folder: Path, *overrides: str) -> dict:
    folder.mkdir(parents=True, exist_ok=True)  # as Hydra does
    objective = run.train(config(*TINY, *overrides), folder, CHOICES)
    content = json.loads((folder / "metrics.json").read_text())
    assert content["val"]["accuracy"] == objective
    return content


def curves(folder: Path, but: str = "speed/") -> dict[str, list[tuple[int, float]]]:
    events = read_events(folder)
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith(but)]
    return {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in tags}


def test_a_run_leaves_everything(config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    overrides = ("loss=all_logit", "trainer.epochs=1", "trainer.log_every_steps=2")
    content = train(config, tmp_path, *overrides)
    assert {path.name for path in tmp_path.iterdir() if "tfevents" not in path.name} == {
        *(".hydra", "checkpoints", "metrics.json", "network.json", "DONE", "projector_config.pbtxt", "00006")
    }
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"last.pt", "best.pt"}  # one validation, one save
    assert set(content["test"]) == set(content["val"]) == set(METRICS)
    assert {"best_step", "seconds", "device", "precision", "versions", "git", "data", "model", "loss"} <= set(content)
    assert content["config"] == OmegaConf.to_container(config(*TINY, *overrides), resolve=True)
    assert content["threads"] == torch.get_num_threads()
    assert {"python", "torch", "torchvision", "hydra-core"} <= set(content["versions"])
    assert re.fullmatch("[0-9a-f]{40}(-dirty)?|", content["git"])
    events = read_events(tmp_path)
    scalars = set(events.Tags()["scalars"])
    assert set(" ".join(SCALARS).split()) <= scalars
    assert {f"confidence/{which}" for which in ("correct", "incorrect")} & scalars
    assert {f"test/{name}" for name in METRICS if content["test"][name] is not None} <= scalars
    flops = summary.flops_per_image(VGG16(2, head="compact", width=1 / 16), 32)
    for speed, share in zip(events.Scalars("speed/images_per_second"), events.Scalars("speed/mfu"), strict=True):
        assert share.value * content["peak_tflops"] * 1e12 == pytest.approx(speed.value * flops, rel=0.1)  # which is rounded
    assert [point.step for point in events.Scalars("loss/train")] == [2, 4, 6]
    assert [point.step for point in events.Scalars("loss/val")] == [6]
    assert [point.step for point in events.Scalars("speed/epoch")] == [2, 4, 6]
    assert len(events.Histograms("confidence/histogram")) == len(events.Images("calibration/reliability_diagram")) == 1
    assert {"config/text_summary", "provenance/text_summary", "model/text_summary"} <= set(events.Tags()["tensors"])
    network = json.loads((tmp_path / "network.json").read_text())
    assert (network["classes"], network["image_size"]) == (["pattern 0", "pattern 1"], 32)
    points = (tmp_path / "00006/penultimate_features/tensors.tsv").read_text().splitlines()
    assert len(points) == 8  # validation images
    assert sum(content["reliability"]["images"]) == 8
    measured = re.search(r"untrained loss: ([\d.]+) ", caplog.text)
    assert measured
    assert float(measured[1]) == pytest.approx(1.3863, rel=0.1)  # of one small batch; on the digits it is 2%, below
    for value in ("gives 1.3863", "tensorboard --logdir", "nll_all_logit", "trained in"):
        assert value in caplog.text
    assert "sees no labels" not in caplog.text


def test_same_seed_same_bits_other_seed_other_bits(config: Config, tmp_path: Path) -> None:
    options = ("model=vgg16_bn", "trainer.steps=3", "data.shift_pixels=2")
    results = [train(config, tmp_path / str(i), *options, f"seed={seed}") for i, seed in enumerate((0, 0, 1))]
    assert results[0]["test"] == results[1]["test"]
    assert results[0]["val"] == results[1]["val"]
    assert curves(tmp_path / "0") == curves(tmp_path / "1")
    assert curves(tmp_path / "0") != curves(tmp_path / "2")


def test_best_is_chosen_on_validation_and_test_is_read_once(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vgg_nll.data.resident import ResidentData

    reads, original = [], ResidentData.eval_batches
    monkeypatch.setattr(ResidentData, "eval_batches", lambda self, split: reads.append(split) or original(self, split))
    content = train(config, tmp_path, "trainer.epochs=3", "optimizer.lr=1e-3")
    assert reads == ["val"] * 3 + ["test", "val"]  # the last for the projector: at most 2,000 images
    accuracies = dict(curves(tmp_path)["accuracy/val"])
    best = max(accuracies.values())
    assert content["val"]["accuracy"] == pytest.approx(best)
    assert content["best_step"] == max(step for step, value in accuracies.items() if value == best)
    assert torch.load(tmp_path / "checkpoints/best.pt", weights_only=True)["step"] == content["best_step"]


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        (["trainer.epochs=5"], [12, 24, 30]),  # of 6 steps each; every second one, and the last
        (["trainer.epochs=4", "trainer.figures_every_epochs=0.1"], [6, 12, 18, 24]),  # no more often than validations
        (["trainer.epochs=6", "trainer.validate_every_epochs=1.5"], [18, 27, 36]),  # validated at 9, too: less than two epochs
        (["trainer.epochs=20", "trainer.early_stop_validations=2", "optimizer.lr=1e-9"], [12, 18]),  # stopped there
    ],
)
def test_pictures_have_a_cadence_of_their_own(config: Config, tmp_path: Path, overrides: list[str], steps: list[int]) -> None:
    train(config, tmp_path, *overrides)
    events = read_events(tmp_path)
    for tag in ("calibration/reliability_diagram", "mistakes/confusion_matrix", "selection/accuracy_coverage"):
        assert [image.step for image in events.Images(tag)] == steps
    assert [event.step for event in events.Tensors("precision_recall/pattern 1")] == steps
    every = [event.step for event in events.Histograms("confidence/histogram")]
    assert every == [event.step for event in events.Scalars("loss/val")]
    assert set(steps) <= set(every)


def test_a_run_is_one_row_of_hyperparameters(config: Config, tmp_path: Path) -> None:
    """The same columns whatever was trained; what has none of its own stands under `other`."""
    columns = []
    for name, given in (("a", ["loss=all_logit", "seed=3"]), ("b", ["model=vgg16_bn", "trainer.clip_norm=2"])):
        (tmp_path / name).mkdir()
        choices = CHOICES | {group: value for group, _, value in (item.partition("=") for item in given) if group in CHOICES}
        run.train(config(*TINY, "trainer.steps=1", *given), tmp_path / name, choices, [*given, "resume=a/folder"])
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


def test_every_step_is_seeded(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout draws from the global generator: it is seeded by (seed, step) before each step."""
    seeded = []
    monkeypatch.setattr("vgg_nll.training.trainer.rng.seed_step", lambda seed, step: seeded.append((seed, step)))
    train(config, tmp_path, "trainer.steps=3", "seed=7")
    assert seeded == [(7, 0), (7, 1), (7, 2)]


def test_training_curves_are_means_since_the_last_point(config: Config, tmp_path: Path) -> None:
    for every in (1, 2):
        train(config, tmp_path / str(every), "trainer.steps=4", f"trainer.log_every_steps={every}")
    for tag in ("loss/train", "accuracy/train"):
        single, double = ([value for _, value in curves(tmp_path / name)[tag]] for name in ("1", "2"))
        assert double == pytest.approx([(single[0] + single[1]) / 2, (single[2] + single[3]) / 2], rel=1e-6)


def test_early_stop(config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    train(config, tmp_path, "trainer.epochs=20", "trainer.early_stop_validations=2", "optimizer.lr=1e-9")
    assert [step for step, _ in curves(tmp_path)["loss/val"]] == [6, 12, 18]
    assert "stopped early, after 2 validations" in caplog.text
    # resumed, it has nothing left to do
    train(config, tmp_path, "trainer.epochs=20", "trainer.early_stop_validations=2", "optimizer.lr=1e-9", f"resume={tmp_path}")
    assert torch.load(tmp_path / "checkpoints/last.pt", weights_only=True)["step"] == 18


def test_a_loss_that_is_not_finite_stops_before_the_update(config: Config, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"step \d+: loss (nan|inf), gradient norm .* at learning rate \S+e\+\d+; .*optimizer.lr"
    ):
        train(
            config,
            tmp_path,
            "optimizer=sgd",
            "optimizer.lr=1e30",
            "trainer.clip_norm=null",
            "schedule.warmup_epochs=0",
            "checkpoint.every_steps=1",
        )
    assert "TrainingError: step" in (tmp_path / "FAILED").read_text()
    assert not (tmp_path / "DONE").exists()
    weights = torch.load(tmp_path / "checkpoints/last.pt", weights_only=True)["model"]
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_the_loss_without_labels_warns(config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    train(config, tmp_path, "loss=argmax_prediction", "trainer.steps=1")
    assert "this loss sees no labels" in caplog.text
    assert diagnostics.ignores_labels(ArgmaxNLL(select="prediction"), 10, torch.device("cpu"))
    for loss in (ArgmaxNLL(), AllLogitNLL(), torch.nn.CrossEntropyLoss()):
        assert not diagnostics.ignores_labels(loss, 2, torch.device("cpu"))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("loss", "constant"), [("argmax", 2.3026), ("all_logit", 3.2508)])
def test_the_untrained_loss_is_the_constant_one(config: Config, seed: int, loss: str, constant: float) -> None:
    """Within 2% on the default data and the network in its full width, as printed at the start of a run."""
    cfg, device = config(f"loss={loss}", f"seed={seed}"), torch.device("cpu")
    data = build.make_data(cfg, device)
    state = TrainState(make_model(cfg, data), torch.optim.SGD([torch.zeros(1)]), device)
    function = build.make_loss(cfg, device)
    assert diagnostics.constant_loss(function, 10, device) == pytest.approx(constant, abs=1e-4)
    assert diagnostics.untrained_loss(function, data, state, torch.float32) == pytest.approx(constant, rel=0.02)


def test_evaluation_by_any_batch_size(config: Config, tmp_path: Path) -> None:
    results = []
    for size in (1, 7, 8):
        results.append(train(config, tmp_path / str(size), "trainer.steps=2", f"trainer.eval_batch_size={size}")["val"])
    for name in METRICS:
        values = [result[name] for result in results]
        assert values[0] is values[1] is values[2] is None or values == pytest.approx([values[0]] * 3, abs=1e-5)


def test_no_test_split(config: Config, tmp_path: Path) -> None:
    from helpers.pictures import FOLDER, write_folder

    write_folder(tmp_path / "pictures", ("train", "val"))
    (tmp_path / "run").mkdir()
    cfg = config(*FOLDER, f"data.root={tmp_path}/pictures", "data.num_workers=0", "trainer.steps=1")
    run.train(cfg, tmp_path / "run", CHOICES)
    content = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "test" not in content
    assert math.isfinite(content["val"]["loss"])
