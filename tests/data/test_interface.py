"""The splits of a data set."""

import pytest
import torch
from helpers.configs import Config, make_data

from vgg_nll.data.splits import nested_subset, stratified_split
from vgg_nll.errors import DataError


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
