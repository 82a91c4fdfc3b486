"""Normalisation and its inverse."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.configs import Config, make_data
from PIL import Image

from vgg_nll.data.pictures.reader import read_prepared
from vgg_nll.data.preprocessing import FITS, Preprocessing, resizing
from vgg_nll.errors import DataError


def test_pixels_come_back(config: Config) -> None:
    """Bytes to floats and back are the same bytes; what cannot be a pixel is black, or the nearest one."""
    data = make_data(config, "data=synthetic")
    bytes_ = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    floats = data.preprocessing.normalise(bytes_)
    assert torch.equal(data.preprocessing.pixels(floats), bytes_)
    assert data.preprocessing.pixels(torch.full((1, 3, 1, 1), 1e9)).unique().tolist() == [255]
    assert data.preprocessing.pixels(torch.full((1, 3, 1, 1), torch.nan)).unique().tolist() == [0]


def test_what_a_person_says_of_files_is_kept(tmp_path: Path) -> None:
    """A run of before says nothing: 65535 is white. One with data.white reads new pictures as it was trained."""
    Image.fromarray(np.full((40, 40), 2048, np.uint16)).save(tmp_path / "x.png")
    device = torch.device("cpu")
    before = Preprocessing(32, 32, [0.5] * 3, [0.5] * 3, device)
    assert set(before.to_dict()) == {"image_size", "resize", "mean", "std"}
    assert read_prepared(tmp_path / "x.png", before).unique().tolist() == [8]
    given = Preprocessing(32, 32, [0.5] * 3, [0.5] * 3, device, white=4095, max_megapixels=0.01)
    again = Preprocessing(**given.to_dict(), device=device)
    assert read_prepared(tmp_path / "x.png", again).unique().tolist() == [128]
    Image.new("RGB", (101, 101)).save(tmp_path / "y.png")
    with pytest.raises(DataError, match=r"y.png: .*data.max_megapixels=0.01 "):
        read_prepared(tmp_path / "y.png", again)
    for wrong in ({"white": 0}, {"white": 1.5}, {"white": True}, {"max_megapixels": -1}, {"max_megapixels": math.nan}):
        with pytest.raises(ValueError, match=f"^{next(iter(wrong))}="):
            Preprocessing(**before.to_dict() | wrong, device=device)


@pytest.mark.parametrize(("width", "height"), [(160, 40), (40, 160), (64, 64), (33, 7), (5, 1)])
def test_what_each_fit_keeps(width: int, height: int) -> None:
    """crop the middle alone; squash both ends; pad both ends, in shape, with black beside them."""
    picture = torch.full((3, height, width), 120, dtype=torch.uint8)
    first = picture[:, :, : max(1, width // 8)] if width >= height else picture[:, : max(1, height // 8)]
    first.fill_(240)
    crop, pad, squash = (resizing(32, 37, fit)(picture) for fit in FITS)
    assert crop.shape == pad.shape == squash.shape == (3, 32, 32)
    assert squash.max() > 200 and pad.max() > 200
    assert (crop.max() > 200) == (max(width, height) < 2 * min(width, height))
    inside = (pad[0] > 60).sum().item() / 32**2
    assert inside == pytest.approx(min(width, height) / max(width, height), abs=0.04)
    if width != height:
        edge = pad[:, 0] if width > height else pad[:, :, 0]
        assert edge.max() == 0 and pad[:, 16, 16].min() > 60
    assert torch.equal(resizing(32, 37, "pad")(picture[None])[0], pad)
