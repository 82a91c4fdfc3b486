"""When a run draws figures, adds points and stops early."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from helpers.configs import TINY
from helpers.runs import read_curves, read_events, train

from vgg_nll.checkpoints import file as checkpoint_file

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
    assert checkpoint_file.load(tmp_path / "checkpoints/last.pt")["step"] == 18


def test_bars_count_the_batches_of_their_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also that of the training images, which is of a part of them."""
    bars: dict[str, set[tuple[int, int]]] = {}

    def count(items: Iterable[object], total: int, what: str) -> Iterator[object]:
        batches = list(items)
        bars.setdefault(what, set()).add((total, len(batches)))
        yield from batches

    monkeypatch.setattr("vgg_nll.training.evaluator.track", count)
    train(tmp_path, *TINY, "trainer.steps=1", "trainer.eval_batch_size=1", "data.num_images=100", "tracking=none")
    assert {what: all(total == batches for total, batches in pairs) for what, pairs in bars.items()} == dict.fromkeys(
        ("val", "test", "training images"), True
    )
    assert max(bars["training images"]) > (1, 1)
