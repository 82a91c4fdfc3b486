"""What every data set gives: the batches of a rank, the training images that are evaluated."""

from pathlib import Path

import pytest
import torch
from helpers.configs import Config, make_data
from helpers.pictures import FOLDER, write_folder

from vgg_nll.data.interface import TRAIN_EVAL, Batch, ImageData
from vgg_nll.distributed.process_group import ALONE, Ranks
from vgg_nll.run import build

BATCH = ("trainer.batch_size=8", "trainer.eval_batch_size=3", "seed=3")


@pytest.mark.slow
def test_training_images_that_are_evaluated(config: Config, tmp_path: Path) -> None:
    """The same images each time, from the training split, as validation would see them."""
    write_folder(tmp_path)
    folder = ("data=image_folder", f"data.root={tmp_path}", "data.num_workers=0", "data.image_size=32", "data.min_crop=0.3")
    resident = ("data=digits", "data.shift_pixels=2")
    for overrides, batch_size, number in ((resident, 32, 78), (folder, 4, 1)):
        data = make_data(config, *overrides, f"trainer.batch_size={batch_size}")
        first, second = (list(data.eval_batches(TRAIN_EVAL)) for _ in range(2))
        images, target = (torch.cat(part) for part in zip(*first, strict=True))
        assert len(target) == number
        assert torch.equal(images, torch.cat([batch for batch, _ in second]))
        everything = torch.cat([batch for batch, _ in data.eval_batches("train")])
        assert all((image == everything).flatten(1).all(1).any() for image in images)
        assert TRAIN_EVAL not in data.sizes


@pytest.mark.parametrize("kind", ["resident", "folder"])
def test_every_so_many_images_are_evaluated(config: Config, tmp_path: Path, kind: str) -> None:
    """Number 0, 4, 8, ... of the images, in full batches; ranks share those."""
    if kind == "folder":
        write_folder(tmp_path, splits=("train", "val"))
    folder = ("data=image_folder", f"data.root={tmp_path}", "data.num_workers=0", "data.image_size=32")
    data = make(config, ALONE, *(folder if kind == "folder" else ("data=synthetic",)))
    images = torch.cat([images for images, _ in data.eval_batches("train")])
    batches = list(data.eval_batches("train", stride=4))
    assert torch.equal(torch.cat([part for part, _ in batches]), images[::4])
    assert {len(part) for part, _ in batches[:-1]} == {3}
    assert_same(list(data.eval_batches("train", 1, 2, stride=4)), batches[1::2])


def make(config: Config, ranks: Ranks, *overrides: str) -> ImageData:
    return build.make_data(config(*overrides, *BATCH), torch.device("cpu"), ranks)


def assert_same(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected) > 0
    for pair in zip(found, expected, strict=True):
        for mine, theirs in zip(*pair, strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("kind", "size", "augment"),
    [
        pytest.param(kind, size, augment, marks=[pytest.mark.slow] * (kind == "folder" and (size, augment) != (3, "mixup")))
        for kind in ("resident", "folder")
        for size in (2, 3)
        for augment in ("none", "flip_crop", "trivial", "mixup", "cutmix")
    ],
)
def test_training_batches_of_ranks(config: Config, tmp_path: Path, kind: str, size: int, augment: str) -> None:
    """Dealt out in parts: together they are those of one process, to the bit."""
    overrides: tuple[str, ...] = ("data=synthetic", "data.num_images=60", "data.num_classes=3")
    if kind == "folder":
        write_folder(tmp_path)
        overrides = (*FOLDER, f"data.root={tmp_path}")
    overrides = (*overrides, f"augment={augment}")
    whole = list(make(config, ALONE, *overrides).train_batches(1, 1))
    parts = [list(make(config, Ranks(rank, size), *overrides).train_batches(1, 1)) for rank in range(size)]
    assert {len(images) for part in parts for images, _ in part} == ({4} if size == 2 else {2, 3})
    dealt = [tuple(map(torch.cat, zip(*batches, strict=True))) for batches in zip(*parts, strict=True)]
    assert_same(dealt, whole)


@pytest.mark.parametrize("kind", ["resident", pytest.param("folder", marks=pytest.mark.slow)])
@pytest.mark.parametrize("every", [1, 2, 3, 100])
def test_evaluation_batches_of_ranks(config: Config, tmp_path: Path, kind: str, every: int) -> None:
    overrides: tuple[str, ...] = ("data=synthetic", "data.num_images=60", "data.num_classes=3")
    if kind == "folder":
        write_folder(tmp_path)
        overrides = (*FOLDER, f"data.root={tmp_path}")
    data = make(config, ALONE, *overrides)
    whole = list(data.eval_batches("val"))
    for first in range(min(every, len(whole))):
        assert_same(list(data.eval_batches("val", first, every)), whole[first::every])
    if every > len(whole):
        assert list(data.eval_batches("val", len(whole), every)) == []
