"""A plateau, a jump and waiting for images give one warning each; a run that learns gives none."""

import random

from vgg_nll.training.diagnostics import Diagnostics


def warnings_of(losses: list[float], norms: list[float] | None = None, *, every: int = 10) -> list[str]:
    watch, norms = Diagnostics(2.3026, "raise data.num_workers"), norms or [1.0] * len(losses)
    return [
        warning
        for i, (loss, norm) in enumerate(zip(losses, norms, strict=True))
        for warning in watch.check_step((i + 1) * every, loss, norm, 5e-4)
    ]


def test_a_plateau_gives_one_warning_and_none_before_200_steps() -> None:
    (warning,) = warnings_of([2.31, 2.29, 2.3026] * 20)
    assert warning.startswith("step 200 (learning rate 0.0005): the loss, ")
    assert "has not left 2.3026" in warning
    assert all(cause in warning for cause in ("He-normal", "optimizer.lr", "schedule.warmup_epochs"))
    assert warnings_of([2.3026] * 19) == []


def test_a_run_that_learns_is_left_alone() -> None:
    draw = random.Random(0)
    losses = [2.3 * 0.97**i * draw.uniform(0.5, 2) for i in range(300)]  # down to 2e-4
    assert warnings_of(losses, [loss * draw.uniform(0.3, 3) for loss in losses]) == []
    assert warnings_of([2.3] * 10 + [2.2] + [2.3] * 100) == []  # it has been below 99% once


def test_jumps_give_one_warning_for_each_quantity() -> None:
    losses = [0.5] * 20 + [51.0] + [0.5] * 5 + [60.0]
    assert warnings_of(losses)[0].startswith("step 210 (learning rate 0.0005): the loss is 51, 102 times its median so far")
    assert len(warnings_of(losses)) == 1
    (warning,) = warnings_of([0.5] * 30, [2.0] * 29 + [300.0])
    assert "the gradient norm is 300, 150 times its median so far" in warning
    assert warnings_of([0.5] * 20 + [49.0]) == []


def test_few_values_and_small_losses_are_no_jump() -> None:
    assert warnings_of([0.5] * 9 + [500.0]) == []
    assert warnings_of([1e-6] * 30 + [0.2]) == []  # 200,000 times, but a hard image
    assert len(warnings_of([1e-6] * 30 + [0.3])) == 1  # more than 100 times a thousandth of the constant loss
    assert warnings_of([0.5] * 20, [0.0] * 19 + [1.0]) == []


def test_waiting_for_images_gives_one_warning() -> None:
    """At the third of three shares above a tenth; one slow window is none of the data's doing."""
    watch = Diagnostics(2.3, "raise data.num_workers (now 2)")
    shares = [0.5, 0.5, 0.05, 0.2, 0.3, 0.1, 0.2, 0.25, 0.4, 0.6, 0.7]
    found = [warning for step, share in enumerate(shares) for warning in watch.check_input(step, share)]
    assert found == ["step 8: training waits for images 40% of the time; raise data.num_workers (now 2)"]
