"""Sources: disjoint, stratified splits, and one line for what is missing or wrong."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.configs import Config, make_data
from helpers.pictures import write_cifar
from sklearn.datasets import load_digits
from torchvision import datasets

from vgg_nll.data.memory import sources
from vgg_nll.errors import DataError


def test_digits_are_split_once_disjoint_and_stratified(config: Config) -> None:
    splits, names = sources.digits()
    assert names == tuple("0123456789")
    sizes = {name: len(split.target) for name, split in splits.items()}
    assert sum(sizes.values()) == 1797
    assert sizes["val"] == pytest.approx(179.7, abs=1)
    assert sizes["test"] == pytest.approx(359.4, abs=1)
    for split in splits.values():
        shares = split.target.bincount() / len(split.target)
        assert (shares - 0.1).abs().max() < 0.012
    # every scan is somewhere, once
    whole = sorted(row.tobytes() for row in load_digits().images.astype(np.uint8))
    flat = torch.cat([split.images for split in splits.values()])
    assert flat.shape == (1797, 3, 32, 32)
    assert len({image.numpy().tobytes() for image in flat}) == len(set(whole))
    again, _ = sources.digits()
    assert torch.equal(again["test"].images, splits["test"].images)
    other, _ = sources.digits(split_seed=1)
    assert not torch.equal(other["test"].images, splits["test"].images)


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "size"), [(2, 32), (7, 40), (100, 32)])
def test_synthetic_has_any_size(config: Config, classes: int, size: int) -> None:
    data = make_data(config, "data=synthetic", f"data.num_classes={classes}", f"data.image_size={size}", "data.num_images=600")
    images, target = next(data.train_batches(0))
    assert images.shape == (32, 3, size, size)
    assert (len(data.class_names), data.preprocessing.image_size) == (classes, size)
    assert sum(data.sizes.values()) == 600
    assert target.max() < classes


@pytest.mark.parametrize(("name", "classes", "sizes"), [("CIFAR10", 10, (90, 10, 20)), ("CIFAR100", 100, (180, 20, 200))])
def test_cifar(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, classes: int, sizes: tuple[int, ...]
) -> None:
    dataset = getattr(datasets, name)
    write_cifar(tmp_path, dataset, monkeypatch)
    data = make_data(config, f"data={name.lower()}", f"data.root={tmp_path}", "trainer.batch_size=8")
    assert tuple(data.sizes.values()) == sizes
    assert data.class_names == tuple(f"class {i}" for i in range(classes))
    stored = pickle.loads((tmp_path / dataset.base_folder / ("test" if classes == 100 else "test_batch")).read_bytes())
    images, target = next(data.eval_batches("test"))
    cfg = config(f"data={name.lower()}").data
    first = images[0] * torch.tensor(list(cfg.std))[:, None, None] + torch.tensor(list(cfg.mean))[:, None, None]
    torch.testing.assert_close(first.flatten() * 255, torch.from_numpy(stored["data"][0]).float(), atol=1e-2, rtol=0)
    assert target[:5].tolist() == [0, 1, 2, 3, 4]


def test_cifar_labels_outside_are_refused(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, datasets.CIFAR10, monkeypatch, bad_label=10)
    with pytest.raises(DataError, match=r"test split: label 10 of image 3 is outside \[0, 10\); 1 of 20 labels are"):
        make_data(config, "data=cifar10", f"data.root={tmp_path}", "trainer.batch_size=8")


def test_missing_cifar_says_what_to_put_where(config: Config, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.root=.*cifar-10-python.tar.gz"):
        make_data(config, "data=cifar10", f"data.root={tmp_path}", "data.download=false")
