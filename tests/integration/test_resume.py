"""Whatever happens to a run: what it leaves is sound, and the run that continues is the undisturbed one, to the bit."""

import errno
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from helpers.configs import TINY, compose_config
from helpers.runs import outcome, points
from omegaconf import DictConfig
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import nn

from vgg_nll import run
from vgg_nll.config import build
from vgg_nll.errors import CheckpointError, TrainingError
from vgg_nll.training import checkpoint
from vgg_nll.training.signals import Interrupted
from vgg_nll.training.trainer import Trainer

Config = Callable[..., DictConfig]
# 6 steps an epoch; every step logged; augmentation and accumulation; validations and saves in mid-epoch too.
SHORT = (*TINY, "data.shift_pixels=2", "trainer.accumulation_steps=2", "trainer.validate_every_epochs=0.5")
# The same with a third of the bytes to save.
LIGHT = (
    *SHORT,
    "optimizer=sgd",
    "optimizer.momentum=0",
    "optimizer.nesterov=false",
    "optimizer.lr=0.01",
)


def train(cfg: DictConfig, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    run.train(cfg, folder, {"data": "synthetic"})


def interrupt(patch: pytest.MonkeyPatch, step: int, moment: str) -> None:
    """SIGTERM, as the trainer sees it: when `step` is done, or when the validation after it begins."""
    original = getattr(Trainer, moment)

    def act(self: Trainer, *args: object) -> object:
        result = original(self, *args) if moment == "_step" else None
        if self.state.step == step:
            self.signals.stop = signal.SIGTERM
        return result if moment == "_step" else original(self, *args)

    patch.setattr(Trainer, moment, act)


@pytest.fixture
def dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compact head with dropout in it, as the paper's has."""
    original = build.make_model

    def make(*args: object) -> nn.Module:
        model = original(*args)
        model.classifier.insert(0, nn.Dropout(0.5))
        return model

    monkeypatch.setattr(build, "make_model", make)


CASES = [("loss=argmax",), ("loss=all_logit", "model=vgg16_bn", "optimizer=sgd", "schedule=cosine")]


@pytest.mark.usefixtures("dropout")
@pytest.mark.parametrize("overrides", CASES, ids=lambda overrides: overrides[0])
def test_stopped_runs_come_to_the_same(config: Config, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    stop_and_go_on(config, tmp_path, *overrides)


GPU = ("device=cuda", "trainer.deterministic=true", "trainer.precision=bfloat16")
PAPER = ("data.image_size=224", "model.head=paper")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("model", ["vgg16", "vgg16_bn"])
@pytest.mark.parametrize("loss", ["argmax", "all_logit"])
@pytest.mark.parametrize("size", [(), PAPER], ids=["32", "224"])
def test_stopped_runs_come_to_the_same_on_a_gpu(
    config: Config, tmp_path: Path, size: tuple[str, ...], loss: str, model: str
) -> None:
    stop_and_go_on(config, tmp_path, *GPU, *size, "model.width=1", f"loss={loss}", f"model={model}")


def stop_and_go_on(config: Config, tmp_path: Path, *overrides: str) -> None:
    """Stopped after a step, in a validation, and in the last one, in another epoch; resumed each time."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    arguments = (*SHORT, "trainer.steps=7", *overrides)
    train(config(*arguments), whole)
    for step, moment in ((1, "_step"), (3, "_validate"), (7, "_validate")):
        with pytest.MonkeyPatch.context() as patch:
            interrupt(patch, step, moment)
            with pytest.raises(
                Interrupted, match=rf"stopped by SIGTERM: after step {step} of 7, .*; resume=.* continues"
            ) as end:
                train(config(*arguments), parts)
        assert end.value.exit_code == 143
        stopped_in_validation = checkpoint.load(parts / "checkpoints/last.pt")["validated_step"] < step
        assert stopped_in_validation or moment == "_step"
        assert not (parts / "DONE").exists()
        assert not (parts / "FAILED").exists()
        arguments = (*SHORT, "trainer.steps=7", *overrides, f"resume={parts}")
    train(config(*arguments), parts)
    assert outcome(parts) == outcome(whole)
    assert [step for tag, step, _ in points(parts) if tag == "loss/train"] == list(range(1, 8))
    assert [step for tag, step, _ in points(parts) if tag == "test/loss"] == [7]


def test_more_epochs(config: Config, tmp_path: Path) -> None:
    """5 steps, then resumed to 8: the same as 8 at once, where the schedule does not depend on the end."""
    options = (*LIGHT, "schedule=constant", "checkpoint.every_steps=2", "trainer.validate_every_epochs=1")
    train(config(*options, "trainer.steps=8"), tmp_path / "whole")
    train(config(*options, "trainer.steps=5", "trainer.validate_every_epochs=20"), tmp_path / "parts")
    (tmp_path / "parts/checkpoints/best.pt").unlink()
    train(config(*options, "trainer.steps=8", f"resume={tmp_path}/parts"), tmp_path / "parts")
    curves = [[point for point in points(tmp_path / name) if point[0] == "loss/train"] for name in ("whole", "parts")]
    assert curves[0] == curves[1]
    states = [checkpoint.load(tmp_path / name / "checkpoints/last.pt")["model"] for name in ("whole", "parts")]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


# --- files that are not what was written


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """What an undisturbed run of 6 steps comes to."""
    folder = tmp_path_factory.mktemp("whole")
    train(compose_config(*LIGHT, "trainer.steps=6"), folder)
    return outcome(folder)


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, 4, "_step")
        with pytest.raises(Interrupted):
            train(compose_config(*LIGHT, "trainer.steps=6"), folder)
    return folder


@pytest.fixture
def stopped(stopped_once: Path, tmp_path: Path) -> Path:
    """A run that was stopped after step 4 of 6, with step 3 (its best) in previous.pt and best.pt."""
    return Path(shutil.copytree(stopped_once, tmp_path / "run"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip(path: Path) -> None:
    """One bit, in the middle of the weights."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    torch.save({"state_dict": {"w": torch.zeros(3)}, "epoch": 3}, path)


def newer(path: Path) -> None:
    torch.save({"format_version": checkpoint.FORMAT_VERSION + 1}, path)


@pytest.mark.parametrize("damage", [truncate, flip, empty, foreign, newer, Path.unlink])
def test_a_bad_last_checkpoint_gives_way_to_the_one_before(
    config: Config, stopped: Path, whole: tuple, damage: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    damage(stopped / "checkpoints/last.pt")
    train(config(*LIGHT, "trainer.steps=6", f"resume={stopped}"), stopped)
    assert "last.pt" in caplog.text
    assert "the state saved before it takes its place" in caplog.text
    assert f"resumed {stopped} at step 3" in caplog.text
    assert outcome(stopped) == whole


def test_where_none_is_sound_nothing_is_changed(config: Config, stopped: Path) -> None:
    for name in ("last.pt", "previous.pt"):
        flip(stopped / "checkpoints" / name)
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match=r"resume=.*last.pt: damaged: .*previous.pt: damaged: .*"):
        train(config(*LIGHT, "trainer.steps=6", f"resume={stopped}"), stopped)
    assert before == {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}


@pytest.mark.parametrize("damage", [flip, foreign, Path.unlink])
def test_a_bad_best_checkpoint_is_replaced(
    config: Config, stopped: Path, damage: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    damage(stopped / "checkpoints/best.pt")
    train(config(*LIGHT, "trainer.steps=6", f"resume={stopped}"), stopped)
    assert "the best step is looked for anew" in caplog.text
    assert checkpoint.load(stopped / "checkpoints/best.pt")["step"] == 6


def test_a_best_checkpoint_that_the_end_cannot_read(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    test = Trainer.test

    def damaged(self: Trainer) -> dict[str, float]:
        self.saver.wait()
        flip(tmp_path / "run/checkpoints/best.pt")
        return test(self)

    monkeypatch.setattr(Trainer, "test", damaged)
    train(config(*LIGHT, "trainer.steps=2"), tmp_path / "run")
    assert "the weights of the last step take their place" in caplog.text
    assert checkpoint.load(tmp_path / "run/checkpoints/best.pt")["step"] == 2


def test_killed_between_last_and_best(config: Config, stopped: Path, whole: tuple) -> None:
    """last.pt is of the best step, best.pt still of another: it is made from last.pt."""
    checkpoints = stopped / "checkpoints"
    (checkpoints / "previous.pt").replace(checkpoints / "last.pt")
    checkpoint.save(checkpoints / "best.pt", {"model": {}, "step": 1})
    unfinished = checkpoints / ".best.pt.12345.tmp"
    unfinished.touch()
    train(config(*LIGHT, "trainer.steps=6", f"resume={stopped}"), stopped)
    assert outcome(stopped) == whole
    assert not unfinished.exists()


def test_a_signal_at_the_very_end(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is finished, and says so; the sweep that it may belong to ends."""
    finish = run._finish

    def signalled(trainer: Trainer, *args: object) -> None:
        finish(trainer, *args)
        trainer.signals.stop = signal.SIGTERM

    monkeypatch.setattr(run, "_finish", signalled)
    with pytest.raises(Interrupted, match=r"the run in .* is finished"):
        train(config(*LIGHT, "trainer.steps=1"), tmp_path / "run")
    assert (tmp_path / "run/DONE").exists()


# --- disks that refuse


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("unexpected pos 64 vs 0")])
def test_a_disk_that_refuses_for_a_while(
    config: Config,
    tmp_path: Path,
    whole: tuple,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Writes 2 to 4 fail, the best among them; the run continues, warns each time, and ends as if nothing had been."""
    calls, original = [], torch.save

    def save(*args: object) -> None:
        calls.append(1)
        if 2 <= len(calls) <= 4:
            raise error
        original(*args)

    monkeypatch.setattr(torch, "save", save)
    train(config(*LIGHT, "trainer.steps=6", "checkpoint.every_steps=2"), tmp_path / "run")
    assert caplog.text.count("was not saved, training continues") == 3
    assert outcome(tmp_path / "run") == whole
    assert not list((tmp_path / "run/checkpoints").glob(".*"))


def test_a_disk_that_never_takes_anything(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The run continues to its end, tests the best weights, which are in memory, and fails then."""
    caplog.set_level("INFO")
    monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EACCES, "Permission denied")))
    with pytest.raises(CheckpointError, match=r"no checkpoint could be written: .*Permission denied"):
        train(config(*LIGHT, "trainer.steps=2"), tmp_path / "run")
    assert "best of validation: step 2" in caplog.text
    assert "CheckpointError" in (tmp_path / "run/FAILED").read_text()
    assert not (tmp_path / "run/DONE").exists()


def test_a_disk_that_fills_up(
    config: Config, tmp_path: Path, whole: tuple, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first save works, no other does: the run ends with its numbers, but is not done; resumed, it is."""
    calls, original, folder = [], torch.save, tmp_path / "run"

    def save(*args: object) -> None:
        calls.append(1)
        if len(calls) > 2:  # last.pt and best.pt of step 3
            raise OSError(errno.ENOSPC, "No space left on device")
        original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save)
        train(config(*LIGHT, "trainer.steps=6"), folder)
    assert "not all weights are on the disk; resume=" in caplog.text
    assert not (folder / "DONE").exists()
    assert checkpoint.load(folder / "checkpoints/last.pt")["step"] == 3
    train(config(*LIGHT, "trainer.steps=6", f"resume={folder}"), folder)
    assert (folder / "DONE").exists()
    assert outcome(folder) == whole


def test_a_damaged_file_never_takes_the_place_of_a_sound_one(config: Config, stopped: Path) -> None:
    """Killed in the middle of the first save after going back to previous.pt: that one is still there."""
    flip(stopped / "checkpoints/last.pt")
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, 4, "_step")
        original = Path.replace

        def replace(self: Path, target: Path) -> Path:
            if target.name == "last.pt":
                raise KeyboardInterrupt  # stands for the kill
            return original(self, target)

        patch.setattr(Path, "replace", replace)
        with pytest.raises((KeyboardInterrupt, Interrupted)):
            train(config(*LIGHT, "trainer.steps=6", f"resume={stopped}"), stopped)
    assert checkpoint.load_newest(stopped)[0]["step"] == 3


# --- data, losses, memory


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize(
    ("spoiled", "words"),
    [
        ("train_batches", r"step 4: loss nan, gradient norm nan at .* the images of this step hold NaN or infinite numbers"),
        ("eval_batches", r"step 6: the loss on the validation images is nan; mend them"),
    ],
)
def test_images_that_are_not_finite(
    config: Config, stopped: Path, spoiled: str, value: float, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vgg_nll.data.resident import ResidentData

    original = getattr(ResidentData, spoiled)

    def batches(self: ResidentData, *args: object) -> Iterator[tuple]:
        for images, target in original(self, *args):
            images[0, 0, 0, 0] = value
            yield images, target

    monkeypatch.setattr(ResidentData, spoiled, batches)
    with pytest.raises(TrainingError, match=words):
        train(config(*LIGHT, "trainer.steps=6", f"resume={stopped}"), stopped)
    assert "TrainingError" in (stopped / "FAILED").read_text()
    assert checkpoint.load(stopped / "checkpoints/last.pt")["step"] == 4


@pytest.mark.parametrize(
    ("training", "words"),
    [
        (True, "trainer.batch_size=4 images of 32x32: lower it, or raise trainer.accumulation_steps"),
        (False, "trainer.eval_batch_size=8 images of 32x32: lower it; what was saved stays"),
    ],
)
def test_out_of_memory(
    config: Config, stopped: Path, whole: tuple, training: bool, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In step 5, or in the validation after step 6; the state of step 4 stays, and continues once there is memory."""
    from vgg_nll.model import VGG16

    forward = VGG16.forward

    def fail(self: VGG16, images: torch.Tensor) -> torch.Tensor:
        if self.training is training and len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, images)

    arguments = (*LIGHT, "trainer.steps=6", f"resume={stopped}")
    with monkeypatch.context() as patch:
        patch.setattr(VGG16, "forward", fail)
        with pytest.raises(TrainingError, match=f"out of memory at step {4 if training else 6}, with {words}"):
            train(config(*arguments), stopped)
    assert checkpoint.load(stopped / "checkpoints/last.pt")["step"] == 4
    train(config(*arguments), stopped)
    assert outcome(stopped) == whole


def test_another_error_is_no_lack_of_memory(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vgg_nll.training import trainer

    monkeypatch.setattr(trainer, "train_step", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("shape mismatch")))
    with pytest.raises(RuntimeError, match=r"^shape mismatch$"):
        train(config(*LIGHT, "trainer.steps=1"), tmp_path / "run")


# --- curves


@pytest.mark.parametrize("what", ["a broken link", "no event"])
def test_an_event_file_that_cannot_be_read(config: Config, stopped: Path, what: str, caplog: pytest.LogCaptureFixture) -> None:
    odd = stopped / "events.out.tfevents.2"
    if what == "no event":  # a record in order, whose content is none
        with odd.open("wb") as file:
            RecordWriter(file).write(b"\xff" * 20)
    else:
        odd.symlink_to("/nonexistent")
    train(config(*LIGHT, "trainer.steps=6", f"resume={stopped}"), stopped)
    assert (stopped / "DONE").exists()
    assert "no more curves from here on" in caplog.text


@pytest.mark.parametrize("method", ["__init__", "add_scalar", "add_figure", "close"])
def test_a_tracker_that_fails(
    config: Config, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from vgg_nll.tracking.tracker import SummaryWriter

    monkeypatch.setattr(SummaryWriter, method, lambda *_, **__: (_ for _ in ()).throw(OSError("disk gone")))
    train(config(*LIGHT, "trainer.steps=2"), tmp_path / "run")
    assert (tmp_path / "run/DONE").exists()
    assert caplog.text.count("no more curves from here on, training continues: tracking failed (disk gone)") == 1


def test_a_stuck_run_is_told(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr("vgg_nll.training.diagnostics.PLATEAU_STEPS", 3)
    monkeypatch.setattr("vgg_nll.model.vgg._initialise", lambda _: None)  # PyTorch's own, with which plain VGG-16 never learns
    train(config(*LIGHT, "model.width=1", "trainer.steps=5"), tmp_path / "run")  # a narrow network would leave its place
    assert caplog.text.count("has not left 0.6931") == 1
    assert "warning: step 3 (learning rate" in caplog.text
