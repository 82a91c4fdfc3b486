"""Splits, folds, subsets and the training images that are evaluated: each image where it belongs, classes in proportion."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.configs import make_data
from helpers.pictures import write_cifar, write_folder
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig
from torchvision import datasets

from vgg_nll.data.interface import TRAIN_EVAL, ImageData, number_of_images
from vgg_nll.data.splits import fold_split, nested_subset, stratified_split, train_eval_indices
from vgg_nll.errors import DataError

Config = Callable[..., DictConfig]


@pytest.mark.slow
@given(st.lists(st.integers(0, 4), min_size=12, max_size=60), st.integers(2, 12))
def test_every_image_is_tested_once(labels: list[int], folds: int) -> None:
    target = torch.tensor(labels)
    tested = []
    for fold in range(folds):
        index = fold_split(target, folds, fold, 0.2)
        assert sorted(torch.cat(list(index.values())).tolist()) == list(range(len(target)))
        assert len(index["test"]) in (len(target) // folds, -(-len(target) // folds))
        for label in target.unique():
            members, here = int((target == label).sum()), int((target[index["test"]] == label).sum())
            assert here in (members // folds, -(-members // folds))
        tested += index["test"].tolist()
    assert sorted(tested) == list(range(len(target)))


def test_more_folds_than_images() -> None:
    with pytest.raises(DataError, match=r"data\.folds=5: is more than the 4 images"):
        fold_split(torch.arange(4), 5, 0, 0.2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", "synthetic", "cifar10", "cifar100", "image_folder"])
def test_every_source(name: str, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folds of a data set hold each of its images once, and validation keeps its share."""
    more = ["trainer.batch_size=2"]
    if name == "image_folder":
        write_folder(tmp_path)
        more += [f"data.root={tmp_path}", "data.image_size=32", "data.num_workers=0"]
    elif name.startswith("cifar"):
        write_cifar(tmp_path, getattr(datasets, name.upper()), monkeypatch)
        more += [f"data.root={tmp_path}"]
    whole = make_data(config, f"data={name}", *more)
    parts = [make_data(config, f"data={name}", "data.folds=3", f"data.fold={fold}", *more) for fold in range(3)]
    everything = sum(whole.sizes.values())
    assert all(sum(part.sizes.values()) == everything for part in parts)
    assert sum(part.sizes["test"] for part in parts) == everything
    assert len({part.digest for part in parts}) == 3
    share = whole.sizes["val"] / (whole.sizes["train"] + whole.sizes["val"])
    for part in parts:
        assert part.sizes["val"] == pytest.approx(share * (part.sizes["train"] + part.sizes["val"]), abs=1)
    tested = [image for part in parts for image in images(part, ["test"])]
    assert sorted(tested) == sorted(images(whole, list(whole.sizes)))


def images(data: ImageData, splits: list[str]) -> list[tuple[int, float]]:
    """(class, sum of pixels) of every image."""
    found = []
    for split in splits:
        for batch, target in data.eval_batches(split):
            found += [(int(label), round(float(image.double().sum()), 2)) for image, label in zip(batch, target, strict=True)]
    return found


def test_stratified_split_covers_everything_once() -> None:
    target = torch.tensor([0] * 7 + [1] * 13 + [2] * 3)
    parts = stratified_split(target, {"val": 0.2, "test": 0.3}, seed=0)
    assert torch.equal(torch.cat(list(parts.values())).sort().values, torch.arange(23))
    assert {name: len(part) for name, part in parts.items()} == {"train": 11, "val": 5, "test": 7}


def test_subsets_are_nested_and_stratified() -> None:
    target = torch.tensor([0] * 300 + [1] * 90 + [2] * 10)[torch.randperm(400, generator=torch.Generator().manual_seed(0))]
    before: set[int] = set()
    for number in (3, 10, 40, 123, 400):
        part = nested_subset(target, number, seed=0)
        assert len(part) == number and part.tolist() == sorted(set(part.tolist()))
        assert before <= set(part.tolist())
        before = set(part.tolist())
        counts = target[part].bincount(minlength=3)
        assert (counts - number * torch.tensor([300, 90, 10]) / 400).abs().max() <= 1
    with pytest.raises(DataError, match=r"data.train_images=401: is more than the 400 training images"):
        nested_subset(target, 401, seed=0)


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_a_learning_curve_keeps_its_test_images(config: Config, name: str) -> None:
    whole, part = (make_data(config, f"data={name}", f"data.train_images={n}") for n in ("null", 100))
    assert part.sizes == whole.sizes | {"train": 100}
    assert part.steps_per_epoch == 3
    assert torch.equal(next(part.eval_batches("test"))[0], next(whole.eval_batches("test"))[0])


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
