"""Single images from one validation to the next."""

import pytest
import torch

from vgg_nll.evaluation.metrics import Images
from vgg_nll.training import trajectory


def images(correct: list[int], true_margin: list[float] | None = None) -> Images:
    zeros = torch.zeros(len(correct), dtype=torch.float64)
    margin = zeros if true_margin is None else torch.tensor(true_margin, dtype=torch.float64)
    return Images(zeros, zeros, torch.tensor(correct, dtype=torch.float64), margin, zeros, zeros)


def test_flips_are_of_the_last_two_validations() -> None:
    rows = trajectory.extended(trajectory.empty(), images([1, 1, 0, 0, 1]))
    assert trajectory.count_flips(rows) == {}
    rows = trajectory.extended(rows, images([1, 0, 1, 1, 1], [1, -2, 3, 4, 5]))
    assert trajectory.count_flips(rows) == {"flips/forgotten": 1 / 5, "flips/learnt": 2 / 5}
    assert rows[1].tolist() == [[1, -2, 3, 4, 5], [1, 0, 1, 1, 1]]
    rows = trajectory.extended(rows, images([1, 0, 1, 1, 1]))
    assert trajectory.count_flips(rows) == {"flips/forgotten": 0, "flips/learnt": 0}


@pytest.mark.parametrize(("number", "kept"), [(1, 1), (512, 512), (513, 257), (5000, 500)])
def test_of_many_images_an_evenly_spread_part_is_kept(number: int, kept: int) -> None:
    rows = trajectory.extended(trajectory.empty(), images([1] * number, [float(k) for k in range(number)]))
    assert rows.shape == (1, 2, kept)
    assert len(set(rows[0, 0].diff().tolist())) <= 1


def test_other_images_begin_another_one() -> None:
    """A run that is resumed with other data, and resume_strict=false."""
    rows = trajectory.extended(trajectory.empty(), images([1, 1, 0]))
    assert trajectory.extended(rows, images([0, 1])).shape == (1, 2, 2)
