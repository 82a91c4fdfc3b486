"""What `augment=` adds: torchvision's operations, by draws that a resumed run makes again."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.configs import Config, make_data
from helpers.pictures import FOLDER, write_folder
from omegaconf import DictConfig
from torchvision.transforms import v2

from vgg_nll import rng
from vgg_nll.data.augmentation import Augmentation
from vgg_nll.losses import all_logit_nll, argmax_nll

CHOICES = ("trivial", "erasing", "mixup", "cutmix")
SHIFT = ("data=synthetic", "data.num_classes=3", "trainer.batch_size=16", "data.shift_pixels=2")
Composed = Callable[..., DictConfig]


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES)
def test_draws_are_functions_of_seed_epoch_and_place(config: Config, choice: str) -> None:
    one, two = (make_data(config, *SHIFT, f"augment={choice}") for _ in range(2))
    plain = make_data(config, *SHIFT)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    whole = list(one.train_batches(3))
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's draws change
    torch.manual_seed(2)
    for (images, target), (again, target_again) in zip(whole[20:], two.train_batches(3, 20), strict=True):
        assert torch.equal(images, again) and torch.equal(target, target_again)
    assert not torch.equal(whole[0][0], next(one.train_batches(4))[0])
    assert not torch.equal(whole[0][0], next(plain.train_batches(3))[0])
    assert whole[0][0].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(next(one.eval_batches("val"))[0], next(plain.eval_batches("val"))[0])


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["trivial", "erasing"])
@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_of_a_folder_too(config: Config, choice: str, workers: int, tmp_path: Path) -> None:
    write_folder(tmp_path)
    options = (*FOLDER, f"data.root={tmp_path}", f"augment={choice}")
    got = list(make_data(config, *options, f"data.num_workers={workers}").train_batches(1))
    again = list(make_data(config, *options, "data.num_workers=0").train_batches(1))
    plain = list(make_data(config, *FOLDER, f"data.root={tmp_path}", "data.num_workers=0").train_batches(1))
    assert all(torch.equal(a, b) for pair in zip(got, again, strict=True) for a, b in zip(*pair, strict=True))
    assert not torch.equal(torch.cat([images for images, _ in got]), torch.cat([images for images, _ in plain]))


@pytest.mark.slow
def test_none_takes_images_as_evaluation_does(config: Config, tmp_path: Path) -> None:
    write_folder(tmp_path)
    for options in ((*FOLDER, f"data.root={tmp_path}", "data.num_workers=0"), (*SHIFT, "data.cutout_pixels=8")):
        data = make_data(config, *options, "augment=none")
        assert not data.is_augmented and make_data(config, *options).is_augmented
        known = {image.numpy().tobytes() for images, _ in data.eval_batches("train") for image in images}
        for images, _ in data.train_batches(0):
            assert all(image.numpy().tobytes() in known for image in images)


def test_mixup_is_the_paper_s() -> None:
    """x = l x_i + (1 - l) x_j, and the same of the one-hot labels; l is one number a batch."""
    images, target = torch.rand(6, 3, 4, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    mixed, soft = Augmentation(mixup=1.0).mix(images, target, 4, 0, 0, 0)
    one_hot = torch.nn.functional.one_hot(target, 4).float()
    share = float(soft[1, 1])
    torch.testing.assert_close(soft, share * one_hot + (1 - share) * one_hot.roll(1, 0))
    torch.testing.assert_close(mixed, share * images + (1 - share) * images.roll(1, 0))
    assert 0 < share < 1


def test_cutmix_labels_by_area() -> None:
    images = torch.arange(6.0)[:, None, None, None].expand(6, 3, 16, 16).contiguous()
    target = torch.arange(6)
    mixed, soft = Augmentation(cutmix=1.0).mix(images, target, 6, 0, 0, 3)
    own = (mixed == images).float().mean(dim=(1, 2, 3))
    torch.testing.assert_close(soft.gather(1, target[:, None])[:, 0], own)
    assert ((mixed == images) | (mixed == images.roll(1, 0))).all() and 0 < own[0] < 1


def test_both_take_turns() -> None:
    images, target = torch.rand(4, 3, 8, 8), torch.arange(4)
    both = Augmentation(mixup=1.0, cutmix=1.0)
    kinds = []
    for step in range(60):
        mixed, _ = both.mix(images, target, 4, 0, 0, step)
        kinds.append(bool(((mixed == images) | (mixed == images.roll(1, 0))).all()))
    assert 15 < sum(kinds) < 45


def test_operations_are_torchvision_s() -> None:
    image = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8)
    got = Augmentation(trivial=True, erasing=1.0).image(image, torch.Generator().manual_seed(5))
    seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(5)))
    with rng.seeded(seed, "operations"):
        assert torch.equal(got, v2.RandomErasing(1.0)(v2.TrivialAugmentWide()(image)))
    assert Augmentation().image(image, torch.Generator()) is image


@pytest.mark.parametrize("loss", [argmax_nll, all_logit_nll])
def test_both_losses_take_soft_targets(loss: Callable[..., torch.Tensor]) -> None:
    """In float64, from the definitions."""
    logits = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    _, soft = Augmentation(mixup=1.0).mix(torch.rand(5, 3, 4, 4), torch.tensor([0, 1, 2, 3, 0]), 4, 0, 0, 1)
    p, q = logits.softmax(1), soft.double()
    expected = -(q * p.log()).sum(1)
    expected = expected - ((1 - q) * (1 - p).log()).sum(1) if loss is all_logit_nll else expected
    torch.testing.assert_close(loss(logits, soft), expected.mean(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("place", [(1, 0, 0), (0, 1, 0), (0, 0, 1)], ids=["seed", "epoch", "step"])
def test_every_batch_is_mixed_by_its_own_draw(place: tuple[int, int, int]) -> None:
    images, target = torch.rand(4, 3, 8, 8), torch.arange(4)
    mixer = Augmentation(mixup=1.0)
    assert not torch.equal(mixer.mix(images, target, 4, 0, 0, 0)[1], mixer.mix(images, target, 4, *place)[1])


@pytest.mark.parametrize("place", [(1, 0, 0), (0, 1, 0), (0, 0, 1)], ids=["seed", "epoch", "index"])
def test_every_image_is_changed_by_its_own_draw(place: tuple[int, int, int]) -> None:
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    changer = Augmentation(erasing=1.0)
    (seed, epoch, index) = place
    one, other = changer.images(image, 0, 0, torch.tensor([0])), changer.images(image, seed, epoch, torch.tensor([index]))
    assert not torch.equal(one, other)
    assert torch.equal(one, changer.images(image, 0, 0, torch.tensor([0])))
