"""The split of a data set, and a subsample of its batches."""

import pytest
import torch

from vgg_nll.data.interface import stratified_split, subsample


def test_stratified_split_covers_everything_once() -> None:
    target = torch.tensor([0] * 7 + [1] * 13 + [2] * 3)
    parts = stratified_split(target, {"val": 0.2, "test": 0.3}, seed=0)
    assert torch.equal(torch.cat(list(parts.values())).sort().values, torch.arange(23))
    assert {name: len(part) for name, part in parts.items()} == {"train": 11, "val": 5, "test": 7}


@pytest.mark.parametrize(("images", "max_images"), [(10, 3), (10, 10), (10, 100), (7, 2), (1, 1)])
@pytest.mark.parametrize("batch_size", [1, 3, 10])
def test_subsample(images: int, max_images: int, batch_size: int) -> None:
    """Every k-th image, whatever the batches."""
    everything = torch.arange(images)
    parts = [(part, part + 100) for part in everything.split(batch_size)]
    kept = list(subsample(parts, images, max_images))
    found = torch.cat([part for part, _ in kept])
    assert found.tolist() == list(range(0, images, -(-images // max_images)))
    assert len(found) <= max_images
    assert torch.equal(torch.cat([labels for _, labels in kept]), found + 100)
