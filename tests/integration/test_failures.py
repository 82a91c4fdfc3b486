"""Images and memory that end a run: the last good state stays, and the message names the fix."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.runs import outcome, train
from torch import Tensor

from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.data.interface import Batch
from vgg_nll.data.memory.data_set import InMemoryData
from vgg_nll.errors import TrainingError
from vgg_nll.model import VGG16
from vgg_nll.training import trainer


@pytest.mark.slow
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize(
    ("spoiled", "words"),
    [
        ("train_batches", r"step 4: loss nan, gradient norm nan at .* the images of this step hold NaN or infinite numbers"),
        (
            "eval_batches",
            r"step 6: the loss on the validation images is nan; fix them if they hold NaN or infinity",
        ),
    ],
)
def test_images_that_are_not_finite(
    light: tuple[str, ...], stopped: Path, spoiled: str, value: float, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(InMemoryData, spoiled)

    def batches(self: InMemoryData, *args: object) -> Iterator[Batch]:
        for images, target in original(self, *args):
            images[0, 0, 0, 0] = value
            yield images, target

    monkeypatch.setattr(InMemoryData, spoiled, batches)
    with pytest.raises(TrainingError, match=words):
        train(stopped, *light, f"resume={stopped}")
    assert "TrainingError" in (stopped / "FAILED").read_text()
    assert checkpoint_file.load(stopped / "checkpoints/last.pt")["step"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("saved", [True, False])
def test_what_is_left_of_a_run_that_diverges(light: tuple[str, ...], tmp_path: Path, saved: bool) -> None:
    """The message names a good state only if there is one."""
    if saved:
        train(tmp_path, *light, "trainer.steps=2")
    arguments = (*light, "trainer.steps=6", "optimizer.lr=1e30", "trainer.validate_every_epochs=10", "trainer.clip_norm=null")
    arguments += (f"resume={tmp_path}", "resume_strict=false") if saved else ()
    words = f"and {tmp_path}/checkpoints holds the last good state: " if saved else "and no state was saved before: "
    with pytest.raises(TrainingError, match=words):
        train(tmp_path, *arguments)
    assert (tmp_path / "checkpoints/last.pt").exists() is saved


@pytest.mark.slow
@pytest.mark.parametrize(
    ("training", "words"),
    [
        (True, "trainer.batch_size=4 images of 32x32: lower it, or raise trainer.accumulation_steps"),
        (False, "trainer.eval_batch_size=8 images of 32x32: lower it; the last checkpoint stays"),
    ],
)
def test_out_of_memory(
    light: tuple[str, ...],
    stopped: Path,
    undisturbed: tuple[object, ...],
    training: bool,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In step 5, or in the validation after step 6; the state of step 4 stays, and the run continues once there is memory."""
    forward = VGG16.forward

    def fail(self: VGG16, images: Tensor) -> Tensor:
        if self.training is training and len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(VGG16, "forward", fail)
        with pytest.raises(TrainingError, match=f"out of memory at step {4 if training else 6}, with {words}"):
            train(stopped, *light, f"resume={stopped}")
    assert checkpoint_file.load(stopped / "checkpoints/last.pt")["step"] == 4
    train(stopped, *light, f"resume={stopped}")
    assert outcome(stopped) == undisturbed


def test_another_error_is_not_taken_for_a_lack_of_memory(
    light: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(trainer, "train_step", fail)
    with pytest.raises(RuntimeError, match=r"^shape mismatch$"):
        train(tmp_path, *light)
