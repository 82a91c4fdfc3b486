"""The training logger: every value of a curve against a patched clock, and the lines that a person reads."""

import csv
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.clock import Clock
from torch import nn

from vgg_nll.evaluation import loop
from vgg_nll.evaluation.features import Features
from vgg_nll.evaluation.loop import Evaluation
from vgg_nll.tracking import tags
from vgg_nll.tracking.summaries import Embedding, FigureSummary, Scalars, SessionEnd, Summary
from vgg_nll.training import history
from vgg_nll.training.logger import TrainingLogger
from vgg_nll.training.state import TrainState, Window


class Recorder:
    """A tracker that keeps what it is given."""

    def __init__(self) -> None:
        self.added: list[tuple[Summary, int]] = []

    def add(self, summary: Summary, step: int) -> None:
        self.added.append((summary, step))

    def close(self) -> None:
        pass

    def scalars(self) -> list[tuple[int, dict[str, float]]]:
        return [(step, dict(summary.values)) for summary, step in self.added if isinstance(summary, Scalars)]


def make_logger(tracker: Recorder, table: Path = Path("metrics.csv"), **changed: Any) -> TrainingLogger:
    options: dict[str, Any] = {
        "class_names": ["a", "b"],
        "pixels": lambda images: images.to(torch.uint8),
        "total_steps": 20,
        "steps_per_epoch": 4,
        "constant_loss": 0.69,
        "flops_per_image": 5e9,
        "peak_flops": 2e11,
        "input_hint": "raise data.num_workers (now 2)",
        "best_by": "accuracy",
    }
    return TrainingLogger(tracker, table, **options | changed)


def test_speed(clock: Clock) -> None:
    """Pauses are left out, waiting is counted, and so are only the images of this process; the next window starts at zero."""
    tracker = Recorder()
    logger = make_logger(tracker)
    clock.advance(50)  # what was before training counts for nothing
    with logger.training(10, window_images=6):
        clock.advance(1.0)
        with logger.waiting():
            clock.advance(0.5)
        with pytest.raises(KeyError), logger.pause():
            clock.advance(3.0)
            raise KeyError
        clock.advance(0.5)
        logger.train_point(14, Window(0.5, 0.25, 30), 1e-3, 2.5, 3 * 2**30)  # 24 images of this process in 2 s
        clock.advance(1.0)
        with logger.pause():
            clock.advance(7.0)
        clock.advance(3.0)
        logger.train_point(15, Window(0.4, 0.75, 20), 2e-3, 1.5, 2**29)  # 20 images in 4 s
    (first_step, first), (second_step, second) = tracker.scalars()
    assert (first_step, second_step) == (14, 15)
    assert first == pytest.approx(
        {
            "loss/train": 0.5,
            "accuracy/train": 0.25,
            "optimizer/learning_rate": 1e-3,
            "optimizer/gradient_norm": 2.5,
            "speed/images_per_second": 12.0,
            "speed/mfu": 12 * 5e9 / 2e11,
            "speed/data_wait": 0.25,
            "speed/peak_memory_gib": 3.0,
            "speed/epoch": 3.5,
        }
    )
    speed = {tag: value for tag, value in second.items() if tag.startswith("speed/")}
    assert speed == pytest.approx(
        {
            "speed/images_per_second": 5.0,
            "speed/mfu": 0.125,
            "speed/data_wait": 0.0,
            "speed/peak_memory_gib": 0.5,
            "speed/epoch": 3.75,
        }
    )


def test_no_network_is_faster_than_the_device(clock: Clock) -> None:
    """Other programs took the device while its peak was measured: training shows more, and counts from then on."""
    tracker = Recorder()
    logger = make_logger(tracker, flops_per_image=1e9, peak_flops=2e9)
    with logger.training(0, window_images=0):
        for step, seconds in ((1, 10.0), (2, 2.5), (3, 5.0)):
            clock.advance(seconds)
            logger.train_point(step, Window(0.5, 0.25, 10), 1e-3, 2.5, 0.0)  # 1, 4 and 2 GFLOP/s
    assert [values["speed/mfu"] for _, values in tracker.scalars()] == [0.5, 1.0, 0.5]
    assert logger.peak_flops == 4e9


def test_lines(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """The figures of the last step, and a warning at the third point at which training waited for images."""
    caplog.set_level(logging.INFO)
    logger = make_logger(Recorder())
    with logger.training(17, window_images=0):
        for step in (18, 19, 20):
            with logger.waiting():
                clock.advance(0.5)
            clock.advance(1.5)
            logger.train_point(step, Window(0.5, 0.25, 24), 1e-3, 2.5, 0.0)
            logger.advance()
    assert [record.message for record in caplog.records] == [
        "step 20/20  train loss 0.5000  accuracy 25.0%  12 images/s",
        "warning: step 20: training waits for images 25% of the time; raise data.num_workers (now 2)",
    ]


class Fixed(nn.Module):
    """A network that gives these logits, whatever it sees."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits


def evaluated(loss: float = 1.5) -> Evaluation:
    """Three images of two classes, the last one wrong."""
    batch = (torch.zeros(3, 3, 4, 4), torch.tensor([0, 1, 1]))
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    return loop.evaluate(Fixed(logits), lambda logits, target: torch.tensor(loss), [batch], torch.float32)


def validated(evaluation: Evaluation, of_train: Evaluation) -> TrainState:
    """A state after its validation at step 6: of three images one was forgotten, one was learnt."""
    trajectory = torch.tensor([[[0.5, 0.5, -1.0], [1.0, 1.0, 0.0]], [[0.5, -0.5, 2.0], [1.0, 0.0, 1.0]]])
    model = nn.Linear(1, 1)
    state = TrainState(model, torch.optim.SGD(model.parameters()), torch.device("cpu"), step=6, trajectory=trajectory)
    state.history.append(history.row(6, 1.5, evaluation.values, of_train.values, trajectory))
    return state


@pytest.mark.parametrize("is_best", [False, True])
def test_a_validation(caplog: pytest.LogCaptureFixture, tmp_path: Path, is_best: bool) -> None:
    caplog.set_level(logging.INFO)
    tracker, evaluation, of_train = Recorder(), evaluated(), evaluated(1.0)
    state = validated(evaluation, of_train)
    table = tmp_path / "metrics.csv"
    make_logger(tracker, table).validation_point(state, evaluation, is_best=is_best, with_figures=False)
    p = [1 / (1 + torch.exp(torch.tensor(-gap, dtype=torch.float64)).item()) for gap in (2, 1, 1)]
    # The second and the third image share a bin: one of the two is right.
    ece = (1 - p[0] + abs(1 - (p[1] + p[2]))) / 3
    assert [record.message for record in caplog.records] == [
        f"epoch 1.5  val loss 1.5000  accuracy 66.7%{' (best)' * is_best}  confidence {sum(p) / 3:.1%}  ECE {ece:.1%}"
    ]
    (step, values), (_, others) = tracker.scalars()
    assert step == 6
    assert values == {tag: evaluation.values[name] for name, tag in tags.VALIDATION.items()}
    flips = {"flips/forgotten": 1 / 3, "flips/learnt": 1 / 3}
    gap = {tag: of_train.values[name] for name, tag in tags.TRAIN_EVAL.items()}
    best = {f"best/{name}": evaluation.values[name] for name in tags.BEST_METRICS} | {"best/step": 6}
    assert others == pytest.approx(gap | flips | (best if is_best else {}))
    assert gap["loss/train_eval"] == 1.0 != values["loss/val"]
    with table.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == {name: str(value) for name, value in state.history[0].items()}


@pytest.mark.parametrize("with_figures", [False, True])
def test_figures_come_if_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, with_figures: bool) -> None:
    tracker, marks, titles = Recorder(), [SessionEnd(True)], []

    def drawn(evaluation: Evaluation, class_names: list[str], pixels: object, title: str) -> list[Summary]:
        titles.append((class_names, title))
        return list(marks)

    monkeypatch.setattr("vgg_nll.training.logger.evaluation_summaries.pictures_and_curves", drawn)
    state = validated(evaluated(), evaluated())
    logger = make_logger(tracker, tmp_path / "metrics.csv")
    logger.validation_point(state, evaluated(), is_best=False, with_figures=with_figures)
    figures = [summary for summary, _ in tracker.added if isinstance(summary, FigureSummary)]
    assert [figure.tag for figure in figures] == ["flips/true_class_probability"] * with_figures
    assert titles == [(["a", "b"], "validation, step 6")] * with_figures
    assert [summary for summary, _ in tracker.added if isinstance(summary, SessionEnd)] == marks * with_figures


def test_the_test_split_has_every_metric() -> None:
    tracker, evaluation = Recorder(), evaluated()
    make_logger(tracker).test_point(9, evaluation)
    assert tracker.scalars() == [(9, {f"test/{name}": value for name, value in evaluation.values.items()})]


def test_the_end_closes_the_session_and_names_the_points() -> None:
    """The features are extracted when the tracker asks for them, not before."""
    tracker, calls = Recorder(), []
    logits = torch.tensor([[0.0, 30.0], [1.0, 0.0], [2.0, 0.0]])
    features = Features(torch.eye(3), torch.zeros(3, 3, 2, 2, dtype=torch.uint8), torch.tensor([1, 0, 1]), logits)

    def extract() -> Features:
        calls.append(1)
        return features

    make_logger(tracker).end(9, extract)
    assert [step for _, step in tracker.added] == [9, 9]
    session, embedding = (summary for summary, _ in tracker.added)
    assert isinstance(session, SessionEnd) and isinstance(embedding, Embedding)
    assert calls == []
    data = embedding.make()
    assert data.points is features.points and data.pictures is features.pictures
    assert data.columns == ("label", "prediction", "confidence", "right or wrong")
    assert data.rows == [["b", "b", "1 - 9e-14", "right"], ["a", "a", "73.1%", "right"], ["b", "a", "88.1%", "wrong"]]
