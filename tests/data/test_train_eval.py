"""The fixed part of the training images that is evaluated beside validation."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.configs import Config, make_data
from helpers.pictures import write_folder

from vgg_nll.data.interface import TRAIN_EVAL, number_of_images
from vgg_nll.data.splits import train_eval_indices


@pytest.mark.parametrize(("number", "part"), [(1, 1), (15, 1), (16, 1), (32, 2), (1257, 78), (16_000, 1000), (50_000, 1000)])
def test_a_sixteenth_with_the_shares_of_the_classes(number: int, part: int) -> None:
    target = torch.arange(number) % 3 * torch.arange(number).fmod(2)  # classes of different sizes
    data = SimpleNamespace(sizes={"train": number})
    assert number_of_images(data, "train") == number
    indices = train_eval_indices(target, number_of_images(data, TRAIN_EVAL))
    assert len(indices) == part
    assert indices.tolist() == sorted(set(indices.tolist()))
    wanted = target.bincount(minlength=3) * part / number
    assert ((target[indices].bincount(minlength=3) - wanted).abs() <= 1).all()


@pytest.mark.slow
def test_in_memory_and_as_files(config: Config, tmp_path: Path) -> None:
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
