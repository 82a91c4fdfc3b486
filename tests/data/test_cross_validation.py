"""k-fold: every image is tested once, classes are spread evenly, and every source can do it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.configs import make_data
from helpers.pictures import write_cifar, write_folder
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig
from torchvision import datasets

from vgg_nll.data.interface import ImageData
from vgg_nll.data.splits import fold_split
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
