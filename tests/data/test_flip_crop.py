"""Augmentation: each image by its own draw, within its bounds."""

import math

import pytest
import torch
from scipy import stats
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from vgg_nll.data.memory.shift_flip import cutout, random_horizontal_flip, random_shift
from vgg_nll.data.pictures.crop import CropAndFlip, random_box

ROUNDING = 0 if "AVX" in torch.backends.cpu.get_cpu_capability() else 1  # without AVX torchvision resizes floats


def test_each_image_shifts_by_its_own_draw() -> None:
    images = torch.zeros(64, 3, 9, 9, dtype=torch.uint8)
    images[:, :, 4, 4] = 255
    shifted = random_shift(images, 2, torch.Generator().manual_seed(0))
    places = shifted[:, 0].nonzero()  # [64, (image, row, column)]
    assert len(places) == 64
    assert (shifted.sum((1, 2, 3)) == 3 * 255).all()
    moves = {tuple((place[1:] - 4).tolist()) for place in places}
    assert moves <= {(y, x) for y in range(-2, 3) for x in range(-2, 3)}
    assert len(moves) > 15
    edge = torch.full((8, 3, 4, 4), 9, dtype=torch.uint8)
    assert set(random_shift(edge, 1, torch.Generator().manual_seed(0)).unique().tolist()) == {0, 9}  # black comes in


@pytest.mark.parametrize("size", [1, 4, 5])
def test_each_image_is_cut_by_its_own_draw(size: int) -> None:
    images = torch.full((400, 3, 12, 10), 7, dtype=torch.uint8)
    cut = cutout(images, size, torch.Generator().manual_seed(0))
    assert set(cut.unique().tolist()) == {0, 7} and (cut == cut[:, :1]).all()
    black = cut[:, 0] == 0
    assert black.flatten(1).any(1).all()
    rows, columns = black.any(2), black.any(1)  # of each image
    assert torch.equal(black, rows[:, :, None] & columns[:, None, :])  # a rectangle ...
    for marks in (rows, columns):
        assert ((marks[:, 1:] != marks[:, :-1]).sum(1) <= 2).all() and marks.sum(1).max() == size  # ... in one piece
    for marks in (rows, columns):  # cut off at either edge, if the size allows it
        cut_off = marks.sum(1) < size
        assert (marks[:, 0] & cut_off).any() == (size > 1) and (marks[:, -1] & cut_off).any() == (size > 2)
    assert len({tuple(place) for place in black.float().flatten(1).argmax(1, keepdim=True).tolist()}) > 40
    assert cutout(images, 0, torch.Generator()) is images


def test_each_image_flips_by_its_own_draw() -> None:
    images = torch.arange(4, dtype=torch.uint8).expand(200, 3, 4, 4)
    flipped = random_horizontal_flip(images, torch.Generator().manual_seed(0))
    mirrored = flipped[:, 0, 0, 0] == 3
    assert torch.equal(flipped[mirrored], images[mirrored].flip(3))
    assert torch.equal(flipped[~mirrored], images[~mirrored])
    assert 70 < mirrored.sum() < 130


@pytest.mark.parametrize("size", [(400, 500), (300, 200), (90, 300), (4, 5)])  # the third fits one draw in four
@pytest.mark.parametrize("min_area", [0.08, 0.35])
def test_boxes_are_drawn_as_torchvision_draws_them(size: tuple[int, int], min_area: float) -> None:
    """Share of the area, width : height, and place, 2,000 of each."""
    torch.manual_seed(0)
    theirs = v2.RandomResizedCrop(8, scale=(min_area, 1.0))
    picture = torch.empty(3, *size)
    expected = [tuple(theirs.make_params([picture]).values()) for _ in range(2000)]
    draw = torch.Generator().manual_seed(0)
    boxes = [random_box(*size, min_area, draw) for _ in range(2000)]
    for top, left, height, width in boxes:
        assert 0 <= top <= size[0] - height and 0 <= left <= size[1] - width
    for quantity in (
        lambda top, left, height, width: height * width,
        lambda top, left, height, width: math.log(width / height),
        lambda top, left, height, width: top,
        lambda top, left, height, width: left,
    ):
        same = stats.ks_2samp([quantity(*box) for box in boxes], [quantity(*box) for box in expected])
        assert same.pvalue > 1e-3


@pytest.mark.parametrize("size", [(10, 100), (100, 10), (1, 3)])
def test_if_no_box_fits_the_middle_is_taken(size: tuple[int, int]) -> None:
    theirs = v2.RandomResizedCrop(8, scale=(1.0, 1.0), ratio=(3 / 4, 4 / 3))
    expected = theirs.make_params([torch.empty(3, *size)])
    box = random_box(*size, 1.0, torch.Generator().manual_seed(0))
    assert dict(zip(("top", "left", "height", "width"), box, strict=True)) == expected


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(50, 70), (9, 11)])  # larger and smaller than the result
def test_a_crop_is_resized_as_torchvision_does(size: tuple[int, int], memory_format: torch.memory_format) -> None:
    picture = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8).contiguous(memory_format=memory_format)[0]
    mirrored = 0
    for seed in range(20):
        draw = torch.Generator().manual_seed(seed)
        expected = functional.resized_crop(picture, *random_box(*size, 0.35, draw), [24, 24], antialias=True)
        got, plain = (CropAndFlip(24, 0.35, flip)(picture, torch.Generator().manual_seed(seed)) for flip in (True, False))
        assert (plain.int() - expected.int()).abs().max() <= ROUNDING
        assert torch.equal(got, plain) or torch.equal(got, plain.flip(2))
        mirrored += not torch.equal(got, plain)
    assert 3 < mirrored < 17
