"""Batches dealt out to ranks: together they are those of one process, bit by bit."""

from pathlib import Path

import pytest
import torch
from helpers.configs import Config
from helpers.pictures import FOLDER, write_folder

from vgg_nll.data.interface import Batch, ImageData
from vgg_nll.distributed.process_group import ALONE, Ranks
from vgg_nll.run import build

BATCH = ("trainer.batch_size=8", "trainer.eval_batch_size=3", "seed=3")


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
def test_training_batches(config: Config, tmp_path: Path, kind: str, size: int, augment: str) -> None:
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
def test_evaluation_batches(config: Config, tmp_path: Path, kind: str, every: int) -> None:
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


@pytest.mark.parametrize("images", [1, 2, 7, 8, 9])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_rows(images: int, size: int) -> None:
    parts = [range(images)[Ranks(rank, size).rows(images)] for rank in range(size)]
    assert [row for part in parts for row in part] == list(range(images))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
