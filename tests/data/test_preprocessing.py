"""Normalisation and its inverse."""

import torch
from helpers.configs import Config, make_data


def test_pixels_come_back(config: Config) -> None:
    """Bytes to floats and back are the same bytes; what cannot be a pixel is black, or the nearest one."""
    data = make_data(config, "data=synthetic")
    bytes_ = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    floats = data.preprocessing.normalise(bytes_)
    assert torch.equal(data.preprocessing.pixels(floats), bytes_)
    assert data.preprocessing.pixels(torch.full((1, 3, 1, 1), 1e9)).unique().tolist() == [255]
    assert data.preprocessing.pixels(torch.full((1, 3, 1, 1), torch.nan)).unique().tolist() == [0]
