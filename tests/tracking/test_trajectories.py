"""The heat map of single images holds their numbers."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from vgg_nll.tracking.trajectories import heat_map


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (40, 512)])
def test_rows_are_in_order_of_the_last_validation(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).normal(0, 4, shape)
    figure = heat_map(values, "validation, step 7")
    FigureCanvasAgg(figure).draw()
    (drawn,) = figure.axes[0].images
    table = np.asarray(drawn.get_array())
    assert table.shape == (shape[1], shape[0])  # image x validation
    assert (np.diff(table[:, -1]) <= 0).all()  # the least probable ones at the bottom
    assert np.allclose(np.sort(table, axis=0), np.sort(values.clip(-7, 7).T, axis=0))
    assert figure.axes[0].get_title() == "validation, step 7"


def test_what_is_not_finite_has_a_colour() -> None:
    figure = heat_map(np.array([[np.inf, -np.inf, np.nan]]))
    (drawn,) = figure.axes[0].images
    assert np.asarray(drawn.get_array()).ravel().tolist() == [7.0, 0.0, -7.0]
    labels = [text.get_text() for text in figure.axes[1].get_yticklabels()]
    assert labels == ["0.1%", "10%", "50%", "90%", "99.9%"]
