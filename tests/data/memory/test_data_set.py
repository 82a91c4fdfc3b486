"""Data in memory: order and augmentation are functions of (seed, epoch, batch)."""

import pytest
import torch
from helpers.configs import Config, make_data

from vgg_nll.data.memory import sources
from vgg_nll.distributed.process_group import Ranks
from vgg_nll.errors import DataError
from vgg_nll.run import build

CPU = torch.device("cpu")


def test_digits_normalisation_is_of_the_training_images(config: Config) -> None:
    cfg, (splits, _) = config().data, sources.digits()
    pixels = splits["train"].images.double() / 255
    assert list(cfg.mean) == pytest.approx([pixels.mean().item()] * 3, abs=1e-3)
    assert list(cfg.std) == pytest.approx([pixels.std().item()] * 3, abs=1e-3)


@pytest.mark.slow
def test_batches_are_functions_of_seed_epoch_and_position(config: Config) -> None:
    one, two = make_data(config, "data.shift_pixels=2"), make_data(config, "data.shift_pixels=2")
    other_seed = make_data(config, "data.shift_pixels=2", "seed=1")
    list(two.train_batches(5))  # what ran before does not matter
    whole = list(one.train_batches(3))
    resumed = list(two.train_batches(3, start=30))
    assert len(whole) == one.steps_per_epoch == 1258 // 32
    assert len(resumed) == len(whole) - 30
    for (images, target), (images_again, target_again) in zip(whole[30:], resumed, strict=True):
        assert torch.equal(images, images_again)
        assert torch.equal(target, target_again)
    assert not torch.equal(whole[0][0], next(one.train_batches(4))[0])
    assert not torch.equal(whole[0][0], next(other_seed.train_batches(3))[0])


def test_evaluation_sees_every_image_once_as_it_is(config: Config) -> None:
    data, (splits, _) = make_data(config, "trainer.eval_batch_size=50"), sources.digits()
    images = torch.cat([images for images, _ in data.eval_batches("val")])
    target = torch.cat([target for _, target in data.eval_batches("val")])
    assert torch.equal(target, splits["val"].target)
    mean, std = config().data.mean[0], config().data.std[0]
    torch.testing.assert_close(images * std + mean, splits["val"].images / 255, atol=1e-6, rtol=0)
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_cutout_is_part_of_training_alone(config: Config) -> None:
    data, plain = make_data(config, "data.cutout_pixels=8"), make_data(config)
    assert not torch.equal(next(data.train_batches(0))[0], next(plain.train_batches(0))[0])
    assert torch.equal(next(data.train_batches(0))[0], next(data.train_batches(0))[0])
    assert torch.equal(next(data.eval_batches("val"))[0], next(plain.eval_batches("val"))[0])


def test_order_changes_with_the_epoch(config: Config) -> None:
    still = make_data(config, "data.shift_pixels=0")
    assert not torch.equal(next(still.train_batches(0))[1], next(still.train_batches(1))[1])


def test_a_batch_larger_than_the_set_is_refused(config: Config) -> None:
    with pytest.raises(DataError, match=r"trainer.batch_size=2000 is more than the 1258 training images"):
        make_data(config, "trainer.batch_size=2000")


def test_an_empty_split_is_refused(config: Config) -> None:
    with pytest.raises(DataError, match=r"the val split is empty; raise data.val_fraction"):
        make_data(config, "data.val_fraction=0.0002")


def test_each_rank_evaluates_its_batches(config: Config) -> None:
    data = make_data(config, "trainer.eval_batch_size=50")
    every = [target.tolist() for _, target in data.eval_batches("val")]
    assert [target.tolist() for _, target in data.eval_batches("val", 1, 3)] == every[1::3]


@pytest.mark.parametrize("setting", ["shift_pixels=1", "horizontal_flip=true", "cutout_pixels=1"])
def test_what_changes_training_images(config: Config, setting: str) -> None:
    still = ("data.shift_pixels=0", "data.horizontal_flip=false", "data.cutout_pixels=0")
    assert not make_data(config, *still).is_augmented
    assert make_data(config, *still, f"data.{setting}").is_augmented
    assert not make_data(config, *still, f"data.{setting}", "augment=none").is_augmented


def test_ranks_share_each_batch(config: Config) -> None:
    """With the draws that the whole batch has."""
    cfg = config("data.shift_pixels=2", "trainer.batch_size=9")
    images, target = next(build.make_data(cfg, CPU).train_batches(1))
    parts = [next(build.make_data(cfg, CPU, Ranks(rank, 2)).train_batches(1)) for rank in (0, 1)]
    assert [len(part) for part, _ in parts] == [5, 4]
    assert torch.equal(torch.cat([part for part, _ in parts]), images)
    assert torch.equal(torch.cat([labels for _, labels in parts]), target)
