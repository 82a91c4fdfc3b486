"""What the training loop does when: curves, validations, figures, the best step, the end."""

import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.configs import LIGHT, TINY
from helpers.runs import read_curves, read_events, train

from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.data.interface import Batch
from vgg_nll.data.memory.data_set import InMemoryData
from vgg_nll.errors import TrainingError
from vgg_nll.evaluation.loop import Evaluation
from vgg_nll.training.evaluator import Evaluator
from vgg_nll.training.trainer import Trainer

STOPS_EARLY = (*TINY, "trainer.epochs=20", "trainer.early_stop_validations=2", "optimizer.lr=1e-9")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        (["trainer.epochs=5"], [12, 24, 30]),  # of 6 steps each; every second one, and the last
        (["trainer.epochs=3", "trainer.figures_every_epochs=0.1"], [6, 12, 18]),  # no more often than validations
        (["trainer.epochs=6", "trainer.validate_every_epochs=1.5"], [18, 27, 36]),  # validated at 9, too: less than two epochs
        (["trainer.epochs=20", "trainer.early_stop_validations=2", "optimizer.lr=1e-9"], [12, 18]),  # stopped there
    ],
)
def test_figures_have_a_cadence_of_their_own(tmp_path: Path, overrides: list[str], steps: list[int]) -> None:
    train(tmp_path, *TINY, *overrides)
    events = read_events(tmp_path)
    for tag in ("calibration/reliability_diagram", "mistakes/confusion_matrix", "selection/accuracy_coverage"):
        assert [image.step for image in events.Images(tag)] == steps
    assert [event.step for event in events.Tensors("precision_recall/pattern 1")] == steps
    every = [event.step for event in events.Tensors("confidence/margin_histogram")]
    assert every == [event.step for event in events.Scalars("loss/val")]
    assert set(steps) <= set(every)


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_training_curves_are_means_since_the_last_point(tmp_path: Path) -> None:
    for every in (1, 2):
        train(tmp_path / str(every), *TINY, "trainer.steps=4", f"trainer.log_every_steps={every}")
    for tag in ("loss/train", "accuracy/train"):
        single, double = ([value for _, value in read_curves(tmp_path / name)[tag]] for name in ("1", "2"))
        assert double == pytest.approx([(single[0] + single[1]) / 2, (single[2] + single[3]) / 2], rel=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("steps", "every", "expected"),
    [
        (20, 5, [5, 10, 15, 20]),  # validations after 6, 12 and 18 steps end no window
        (14, 5, [5, 10]),  # nor does the end of the run
        (3, 5, [3]),  # but a run that is shorter than a window has its point
    ],
)
def test_no_point_comes_from_a_short_window(tmp_path: Path, steps: int, every: int, expected: list[int]) -> None:
    train(tmp_path, *TINY, f"trainer.steps={steps}", f"trainer.log_every_steps={every}")
    curves = read_curves(tmp_path)
    for tag in ("loss/train", "accuracy/train", "optimizer/gradient_norm"):
        assert [step for step, _ in curves[tag]] == expected
    assert [step for step, _ in curves["loss/val"]] == [0, *range(6, steps, 6), steps]


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_early_stop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After two validations without a better accuracy; a resumed run then has nothing left to do."""
    caplog.set_level("INFO")
    train(tmp_path, *STOPS_EARLY)
    assert [step for step, _ in read_curves(tmp_path)["loss/val"]] == [0, 6, 12, 18]
    assert "stopped early, after 2 validations" in caplog.text
    train(tmp_path, *STOPS_EARLY, f"resume={tmp_path}")
    assert "stopped early before; a larger trainer.early_stop_validations continues" in caplog.text
    assert checkpoint_file.load(tmp_path / "checkpoints/last.pt")["step"] == 18


@pytest.mark.usefixtures("no_figures")
def test_early_stop_comes_with_the_last_validation_that_may_be_no_better(tmp_path: Path) -> None:
    """Of those after 3, 6 and 9 steps, the first is the best one."""
    train(tmp_path, *LIGHT, "trainer.steps=15", "trainer.early_stop_validations=2", "optimizer.lr=1e-30")
    assert checkpoint_file.load(tmp_path / "checkpoints/last.pt")["step"] == 9


def stop_after_the_first_step(patch: pytest.MonkeyPatch, act: Callable[[Trainer], object]) -> None:
    """After step 1 something happens, and a signal arrives."""
    step = Trainer._step

    def stopped(self: Trainer, *batch: Any) -> None:
        step(self, *batch)
        act(self)
        self.signals.stop = signal.SIGTERM

    patch.setattr(Trainer, "_step", stopped)


def test_no_state_is_saved_after_a_bad_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if nothing has looked since: on a GPU, not every step is checked."""
    stop_after_the_first_step(monkeypatch, lambda trainer: trainer.state.bad_step.zero_())
    with pytest.raises(TrainingError, match="no state was saved before"):
        train(tmp_path, *LIGHT)
    assert not list(tmp_path.rglob("*.pt"))


def test_a_run_folder_that_was_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after_the_first_step(monkeypatch, lambda trainer: trainer.saver.folder.rename(tmp_path / "other"))
    with pytest.raises(TrainingError, match=r"^step 1: .*/run was removed or renamed; nothing can be saved there$"):
        train(tmp_path / "run", *LIGHT)


@pytest.mark.usefixtures("no_figures")
def test_best_is_chosen_on_validation_and_test_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads, original = [], InMemoryData.eval_batches

    def eval_batches(self: InMemoryData, split: str, *part: int) -> Iterator[Batch]:
        reads.append(split)
        return original(self, split, *part)

    monkeypatch.setattr(InMemoryData, "eval_batches", eval_batches)
    content = train(tmp_path, *TINY, "trainer.epochs=3", "optimizer.lr=1e-3")
    # A row of each class; before the first step, after every epoch, and for the projector: at most 2,000 images.
    assert reads == ["train_eval"] + ["val", "train_eval"] * 4 + ["val", "test"]
    curves = read_curves(tmp_path)
    accuracies = {step: value for step, value in curves["accuracy/val"] if step > 0}  # the untrained network is not chosen
    best = max(accuracies.values())
    assert curves["best/step"][-1] == (content["best_step"], content["best_step"])
    assert curves["best/accuracy"][-1] == pytest.approx((content["best_step"], best))
    assert curves["test/accuracy"][0] == pytest.approx((content["best_step"], content["test"]["accuracy"]))
    assert content["val"]["accuracy"] == pytest.approx(best)
    nll = dict(curves["nll/argmax"])
    assert content["best_step"] == min((step for step, value in accuracies.items() if value == best), key=nll.__getitem__)
    assert checkpoint_file.load(tmp_path / "checkpoints/best.pt")["step"] == content["best_step"]


def test_a_best_checkpoint_that_the_end_cannot_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    evaluate_best = Trainer.evaluate_best

    def damaged(self: Trainer) -> object:
        self.saver.wait()
        best = tmp_path / "run/checkpoints/best.pt"
        best.write_bytes(best.read_bytes()[:-1000])
        return evaluate_best(self)

    monkeypatch.setattr(Trainer, "evaluate_best", damaged)
    train(tmp_path / "run", *LIGHT, "trainer.steps=2")
    assert "the weights of the last step take their place" in caplog.text
    assert checkpoint_file.load(tmp_path / "run/checkpoints/best.pt")["step"] == 2


def test_the_projector_gets_an_evenly_spread_part_of_many_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vgg_nll.training.trainer.MAX_POINTS", 3)
    train(tmp_path, *TINY, "trainer.steps=1")
    (points,) = tmp_path.glob("*/penultimate_features/tensors.tsv")
    assert len(points.read_text().splitlines()) == 3  # of 8: every third one


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(("best", "expected"), [("accuracy", 12), ("nll", 18), ("refinement", 12), ("balanced_accuracy", 12)])
def test_of_equal_accuracies_the_lower_nll_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best: str, expected: int
) -> None:
    """Accuracy 0.5, 0.9, 0.9 at the steps 6, 12, 18, and the NLL 0.8, 0.41, 0.87; the later one is not best for being sure."""
    values = iter([(0.1, 2.3, 2.0), (0.5, 0.8, 0.7), (0.9, 0.41, 0.3), (0.9, 0.3 if best == "nll" else 0.87, 0.4)])
    evaluate = Evaluator.evaluate

    def scripted(self: Evaluator, split: str, **options: Any) -> Evaluation:
        found = evaluate(self, split, **options)
        if split != "val" or options:  # with options, the best network's
            return found
        accuracy, nll, refinement = next(values)
        changed = {"accuracy": accuracy, "balanced_accuracy": accuracy, "nll_argmax": nll, "refinement": refinement}
        return replace(found, values={**found.values, **changed})

    monkeypatch.setattr(Evaluator, "evaluate", scripted)
    assert train(tmp_path, *TINY, "trainer.epochs=3", f"trainer.best={best}")["best_step"] == expected
