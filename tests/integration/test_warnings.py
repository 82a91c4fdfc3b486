"""What a run warns of: plateaus, waits for data, losses that ignore labels or are not finite."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.configs import TINY, make_model
from helpers.runs import train
from omegaconf import DictConfig
from torch import Tensor

from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.data.interface import Batch
from vgg_nll.data.memory.data_set import InMemoryData
from vgg_nll.errors import TrainingError
from vgg_nll.losses import AllLogitNLL, ArgmaxNLL
from vgg_nll.model import VGG16
from vgg_nll.run import build
from vgg_nll.training import diagnostics
from vgg_nll.training.state import TrainState

QUICK = (*TINY, "tracking=none")


@pytest.mark.parametrize(("step_seconds", "warnings"), [(8.0, 1), (10.0, 0)])
def test_waiting_for_images_warns_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, step_seconds: float, warnings: int
) -> None:
    """If each batch takes 1 s to come, and each step so many seconds: a wait above a tenth of the time is told.

    Step 1 waits for nothing: the untrained loss was that of its batch.
    """
    caplog.set_level("INFO")
    now, train_batches, forward = [0.0], InMemoryData.train_batches, VGG16.forward

    def slow_batches(self: InMemoryData, epoch: int, start: int = 0) -> Iterator[Batch]:
        for batch in train_batches(self, epoch, start):
            now[0] += 1.0
            yield batch

    def slow_forward(self: VGG16, images: Tensor) -> Tensor:
        now[0] += step_seconds if self.training else 0.0
        return forward(self, images)

    monkeypatch.setattr(InMemoryData, "train_batches", slow_batches)
    monkeypatch.setattr(VGG16, "forward", slow_forward)
    monkeypatch.setattr("vgg_nll.training.logger.time", SimpleNamespace(perf_counter=lambda: now[0]))
    train(tmp_path, *QUICK, "trainer.steps=6")
    assert caplog.text.count("training waits for images") == warnings
    told = "warning: step 4: training waits for images 11% of the time; raise trainer.batch_size"
    assert caplog.text.count(told) == warnings


@pytest.mark.slow
def test_a_plateau_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr("vgg_nll.training.diagnostics.PLATEAU_STEPS", 3)
    monkeypatch.setattr("vgg_nll.model.vgg._initialise", lambda _: None)  # PyTorch's own, with which plain VGG-16 never learns
    train(tmp_path, *QUICK, "model.width=1", "optimizer.lr=1e-4", "trainer.steps=5")  # a narrow network would leave the plateau
    assert caplog.text.count("has not left 0.6931") == 1
    assert "warning: step 3 (learning rate" in caplog.text


def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path: Path) -> None:
    words = r"step \d+: loss (nan|inf), gradient norm .* at learning rate \S+e\+\d+; .*optimizer.lr"
    extreme = ("optimizer=sgd", "optimizer.lr=1e30", "trainer.clip_norm=null", "schedule.warmup_epochs=0")
    with pytest.raises(TrainingError, match=words):
        train(tmp_path, *QUICK, *extreme, "checkpoint.every_steps=1")
    assert "TrainingError: step" in (tmp_path / "FAILED").read_text()
    assert not (tmp_path / "DONE").exists()
    weights = checkpoint_file.load(tmp_path / "checkpoints/last.pt")["model"]
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_the_loss_without_labels_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    train(tmp_path, *QUICK, "loss=argmax_prediction", "trainer.steps=1")
    assert "this loss ignores the labels" in caplog.text
    assert diagnostics.ignores_labels(ArgmaxNLL(select="prediction"), 10, torch.device("cpu"))
    for loss in (ArgmaxNLL(), AllLogitNLL(), torch.nn.CrossEntropyLoss()):
        assert not diagnostics.ignores_labels(loss, 2, torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("loss", "constant"), [("argmax", 2.3026), ("all_logit", 3.2508)])
def test_the_untrained_loss_is_the_constant_one(
    config: Callable[..., DictConfig], seed: int, loss: str, constant: float
) -> None:
    """Within 2% on the default data and the network in its full width, as printed at the start of a run."""
    cfg, device = config(f"loss={loss}", f"seed={seed}"), torch.device("cpu")
    data = build.make_data(cfg, device)
    state = TrainState(make_model(cfg, data), torch.optim.SGD([torch.zeros(1)]), device)
    function = build.make_loss(cfg, data, device)
    assert diagnostics.constant_loss(function, data.class_counts, device) == pytest.approx(constant, abs=1e-4)
    measured = diagnostics.untrained_loss(function, next(data.train_batches(0)), state, torch.float32)
    assert measured == pytest.approx(constant, rel=0.02)
