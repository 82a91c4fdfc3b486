"""A run that was stopped and resumed gives the result of the undisturbed run, to the bit; also after damage to its files."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.configs import TINY
from helpers.runs import interrupt, outcome, points, read_curves, train
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor, nn

from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.errors import CheckpointError
from vgg_nll.run import train as run_train
from vgg_nll.tracking import tags
from vgg_nll.training.signals import Interrupted
from vgg_nll.training.trainer import Trainer

# 6 steps an epoch; every step logged; augmentation and accumulation; validations and checkpoints in mid-epoch, too.
SHORT = (*TINY, "data.shift_pixels=2", "trainer.accumulation_steps=2", "trainer.validate_every_epochs=0.5")
CASES = {
    "argmax, dropout": ("loss=argmax", "model.head=paper"),
    "mixup and cutmix": ("loss=all_logit", "augment=mixup", "augment.cutmix=1.0", "augment.trivial=true"),
    "average of weights": ("loss=argmax", "trainer.ema_decay=0.3"),
    "frozen features": ("augment=none", "data.shift_pixels=0", "model.freeze=features", "data.balanced=true"),
    "all_logit, batch norm": ("loss=all_logit", "model=vgg16_bn", "optimizer=sgd", "schedule=cosine"),
}
QUICK = ("mixup and cutmix",)
GPU = ("device=cuda", "trainer.deterministic=true", "trainer.precision=bfloat16", "model.width=1")
PAPER = ("data.image_size=224", "model.head=paper")
Damage = Callable[[Path], object]


@pytest.mark.parametrize(
    "overrides",
    [pytest.param(case, id=name, marks=[pytest.mark.slow] * (name not in QUICK)) for name, case in CASES.items()],
)
@pytest.mark.usefixtures("no_figures")
def test_stopped_runs_give_the_same(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    stop_and_resume(tmp_path, *overrides)


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_stopped_runs_give_the_same_in_bfloat16_on_two_threads(tmp_path: Path, set_threads: Callable[[int], None]) -> None:
    """The default on many machines."""
    set_threads(2)
    stop_and_resume(tmp_path, "model=vgg16_bn", "trainer.precision=bfloat16")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("model", ["vgg16", "vgg16_bn"])
@pytest.mark.parametrize("loss", ["argmax", "all_logit"])
@pytest.mark.parametrize("size", [(), PAPER], ids=["32", "224"])
def test_stopped_runs_give_the_same_on_a_gpu(tmp_path: Path, size: tuple[str, ...], loss: str, model: str) -> None:
    stop_and_resume(tmp_path, *GPU, *size, f"loss={loss}", f"model={model}")


def stop_and_resume(tmp_path: Path, *overrides: str) -> None:
    """Stops after a step, in a validation, and in the last one, in another epoch; resumes each time."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    arguments = (*SHORT, "trainer.steps=7", *overrides)
    best = train(whole, *arguments)["best_step"]  # rounding decides it, which differs from chip to chip
    for step, moment in ((1, "_step"), (3, "_validate"), (7, "_validate")):
        with pytest.MonkeyPatch.context() as patch:
            interrupt(patch, step, moment)
            words = rf"stopped by SIGTERM: after step {step} of 7, .*; resume=.* continues"
            with pytest.raises(Interrupted, match=words) as end:
                train(parts, *arguments)
        assert end.value.exit_code == 143
        stopped_in_validation = checkpoint_file.load(parts / "checkpoints/last.pt")["validated_step"] < step
        assert stopped_in_validation or moment == "_step"
        assert not (parts / "DONE").exists()
        assert not (parts / "FAILED").exists()
        arguments = (*SHORT, "trainer.steps=7", *overrides, f"resume={parts}")
    train(parts, *arguments)
    assert outcome(parts) == outcome(whole)
    assert [step for tag, step, _ in points(parts) if tag == "loss/train"] == list(range(1, 8))
    assert [step for tag, step, _ in points(parts) if tag == "test/loss"] == [best]


@pytest.mark.slow
def test_dropout_is_a_function_of_seed_and_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The masks of steps 4 to 6 are the same in a run from the start and in one resumed there; any two steps differ."""
    masks: list[Tensor] = []
    original = nn.Dropout.forward

    def forward(self: nn.Dropout, x: Tensor) -> Tensor:
        if not self.training:
            return original(self, x)
        masks.append(original(self, torch.ones_like(x)))
        return x * masks[-1]

    monkeypatch.setattr(nn.Dropout, "forward", forward)

    def masks_of(folder: str, *overrides: str) -> list[Tensor]:
        masks.clear()
        train(tmp_path / folder, *TINY, "model.head=paper", "tracking=none", "schedule=constant", *overrides)
        return list(masks)

    whole = masks_of("whole", "trainer.steps=6")
    layers = len(whole) // 6
    assert layers == 2
    first = masks_of("parts", "trainer.steps=3")
    torch.rand(1000)  # what else draws from the global generator has no influence
    second = masks_of("parts", "trainer.steps=6", f"resume={tmp_path}/parts")
    assert all(torch.equal(mask, again) for mask, again in zip(whole, first + second, strict=True))
    assert len({mask.numpy().tobytes() for mask in whole}) == len(whole)
    other = masks_of("other", "trainer.steps=6", "seed=1")
    assert not any(torch.equal(mask, another) for mask, another in zip(whole, other, strict=True))


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_more_steps(tmp_path: Path) -> None:
    """5 steps, then resumed to 8: the same as 8 at once, if the schedule does not depend on the end."""
    options = (*SHORT, "schedule=constant", "checkpoint.every_steps=2")
    train(tmp_path / "whole", *options, "trainer.validate_every_epochs=1", "trainer.steps=8")
    train(tmp_path / "parts", *options, "trainer.validate_every_epochs=20", "trainer.steps=5")
    (tmp_path / "parts/checkpoints/best.pt").unlink()
    again = (f"resume={tmp_path}/parts", "trainer.validate_every_epochs=1", "trainer.steps=8")
    train(tmp_path / "parts", *options, *again)
    curves = [[point for point in points(tmp_path / name) if point[0] == "loss/train"] for name in ("whole", "parts")]
    assert len(curves[0]) == 8
    assert curves[0] == curves[1]
    states = [checkpoint_file.load(tmp_path / name / "checkpoints/last.pt")["model"] for name in ("whole", "parts")]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_another_learning_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The curve follows the new peak from the next step on; the optimizer keeps its moments."""
    options = (*TINY, "schedule=linear", "schedule.warmup_epochs=0", "trainer.validate_every_epochs=100")
    with monkeypatch.context() as patch:
        interrupt(patch, 4, "_step")
        with pytest.raises(Interrupted):
            train(tmp_path, *options, "trainer.steps=8", "optimizer.lr=1e-3")
    saved = checkpoint_file.load(tmp_path / "checkpoints/last.pt")["optimizer"]["state"]
    loaded: dict[int, dict[str, Any]] = {}
    fit = Trainer.fit

    def look(self: Trainer) -> None:
        for i, moments in self.state.optimizer.state_dict()["state"].items():
            loaded[i] = {name: value.clone() for name, value in moments.items()}
        fit(self)

    monkeypatch.setattr(Trainer, "fit", look)
    train(tmp_path, *options, "trainer.steps=8", "optimizer.lr=3e-3", f"resume={tmp_path}")
    peaks = [1e-3] * 4 + [3e-3] * 4  # of each step
    curve = read_curves(tmp_path)["optimizer/learning_rate"]
    assert [step for step, _ in curve] == list(range(1, 9))
    assert [rate for _, rate in curve] == pytest.approx([peak * (1 - step / 8) for step, peak in enumerate(peaks)], rel=1e-6)
    assert saved
    assert loaded.keys() == saved.keys()
    for i, moments in saved.items():
        assert set(moments) == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(value, loaded[i][name]) for name, value in moments.items())
    assert int(checkpoint_file.load(tmp_path / "checkpoints/last.pt")["optimizer"]["state"][0]["step"]) == 8


def test_a_signal_at_the_very_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is finished, and says so; if it is a job of a sweep, the sweep ends."""
    finish = run_train._finish

    def signalled(trainer: Trainer, *args: Any) -> None:
        finish(trainer, *args)
        trainer.signals.stop = signal.SIGTERM

    monkeypatch.setattr(run_train, "_finish", signalled)
    with pytest.raises(Interrupted, match=r"the run in .* is finished"):
        train(tmp_path, *TINY, "tracking=none", "trainer.steps=1")
    assert (tmp_path / "DONE").exists()


class Killed(BaseException):
    """Ends a run as `kill -9` does, as far as one process can do that to itself: nothing more is saved."""


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_killed_between_a_validation_and_its_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a stop in that validation: its points were written by two processes, and stand there once."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    arguments = (*SHORT, "trainer.steps=7")
    train(whole, *arguments)
    with monkeypatch.context() as patch:
        interrupt(patch, 3, "_validate")
        with pytest.raises(Interrupted):
            train(parts, *arguments)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save", lambda *_, **__: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            train(parts, *arguments, f"resume={parts}")
    assert (tags.VALIDATION["accuracy"], 3) in [(tag, step) for tag, step, _ in points(parts)]
    train(parts, *arguments, f"resume={parts}")
    assert outcome(parts) == outcome(whole)


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_curves_are_on_the_disk_before_the_state_that_stands_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill behind that state would lose them for good: a resumed run does not repeat these steps."""
    original, seen, write = checkpoint_file.save, [], RecordWriter.write

    def slow(self: RecordWriter, data: bytes) -> None:
        time.sleep(0.005)
        write(self, data)

    monkeypatch.setattr(RecordWriter, "write", slow)

    def save(path: Path, content: dict[str, Any], *args: Any) -> None:
        written = {step for tag, step, _ in points(tmp_path) if tag == "loss/train"}
        assert written >= set(range(1, content["step"] + 1))
        seen.append(content["step"])
        original(path, content, *args)

    monkeypatch.setattr(checkpoint_file, "save", save)
    train(tmp_path, *SHORT, "trainer.steps=7", "checkpoint.every_steps=2", "trainer.validate_every_epochs=10")
    assert {2, 4, 6} <= set(seen)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip(path: Path) -> None:
    """Flips one bit, in the middle of the weights."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    torch.save({"state_dict": {"w": torch.zeros(3)}, "epoch": 3}, path)


def newer(path: Path) -> None:
    torch.save({"format_version": checkpoint_file.FORMAT_VERSION + 1}, path)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [truncate, flip, empty, foreign, newer, Path.unlink])
def test_a_bad_last_checkpoint_gives_way_to_the_one_before(
    light: tuple[str, ...],
    stopped: Path,
    undisturbed: tuple[object, ...],
    damage: Damage,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    last = stopped / "checkpoints/last.pt"
    damage(last)
    content = last.read_bytes() if last.exists() else None
    train(stopped, *light, f"resume={stopped}")
    kept = stopped / "checkpoints/damaged.pt"  # for a look at it
    assert (kept.read_bytes() if kept.exists() else None) == content
    assert "last.pt" in caplog.text
    assert "the state saved before it takes its place" in caplog.text
    assert f"resumed {stopped} at step 3" in caplog.text
    assert outcome(stopped) == undisturbed


def test_if_none_is_sound_nothing_is_changed(light: tuple[str, ...], stopped: Path) -> None:
    for name in ("last.pt", "previous.pt"):
        flip(stopped / "checkpoints" / name)
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match=r"resume=.*last.pt: damaged: .*previous.pt: damaged: .*"):
        train(stopped, *light, f"resume={stopped}")
    assert before == {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flip, foreign, Path.unlink])
def test_a_bad_best_checkpoint_is_replaced(
    light: tuple[str, ...], stopped: Path, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    damage(stopped / "checkpoints/best.pt")
    train(stopped, *light, f"resume={stopped}")
    assert "the best step is chosen again" in caplog.text
    assert checkpoint_file.load(stopped / "checkpoints/best.pt")["step"] == 6


def test_killed_between_last_and_best(light: tuple[str, ...], stopped: Path, undisturbed: tuple[object, ...]) -> None:
    """last.pt is of the best step, best.pt still of another: it is made from last.pt."""
    checkpoints = stopped / "checkpoints"
    (checkpoints / "previous.pt").replace(checkpoints / "last.pt")
    checkpoint_file.save(checkpoints / "best.pt", {"model": {}, "step": 1})
    unfinished = checkpoints / ".best.pt.12345.tmp"
    unfinished.touch()
    train(stopped, *light, f"resume={stopped}")
    assert outcome(stopped) == undisturbed
    assert not unfinished.exists()


def test_a_damaged_file_never_takes_the_place_of_a_sound_one(light: tuple[str, ...], stopped: Path) -> None:
    """Killed while it writes the first checkpoint after going back to previous.pt: that one is still there."""
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
            train(stopped, *light, f"resume={stopped}")
    assert checkpoint_file.load_newest(stopped)[0]["step"] == 3
