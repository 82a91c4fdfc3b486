"""The learning-rate factor step by step."""

import pytest

from vgg_nll.training.schedule import Schedule, cosine_decay, due, linear_decay, no_decay, step_decay


def test_warm_up_then_decay() -> None:
    schedule = Schedule(linear_decay, total_steps=14, warmup_steps=4)
    assert [schedule(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert [schedule(step) for step in (4, 9, 13, 14)] == pytest.approx([1.0, 0.5, 0.1, 0.0])


@pytest.mark.parametrize(("progress", "factor"), [(0, 1.0), (0.25, 0.8535534), (0.5, 0.5), (1, 0.0)])
def test_cosine(progress: float, factor: float) -> None:
    assert cosine_decay(progress) == pytest.approx(factor)


def test_other_decays() -> None:
    assert [step_decay(p, milestones=(0.5, 0.75), factor=0.1) for p in (0, 0.49, 0.5, 0.75, 1)] == pytest.approx(
        [1, 1, 0.1, 0.01, 0.01]
    )
    assert no_decay(0.7) == 1
    assert linear_decay(1, final_factor=0.2) == pytest.approx(0.2)
    assert cosine_decay(1, final_factor=0.2) == pytest.approx(0.2)


def test_all_warm_up() -> None:
    schedule = Schedule(linear_decay, total_steps=4, warmup_steps=4)
    assert [schedule(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_due() -> None:
    assert [step for step in range(12) if due(step, 5, 11)] == [5, 10, 11]
    assert not due(0, 1, 5)
