"""Which image is in which split, and in which order: functions of the labels and of seeds alone."""

import torch
from torch import Tensor

from vgg_nll import rng
from vgg_nll.errors import DataError


def stratified_split(target: Tensor, shares: dict[str, float], seed: int) -> dict[str, Tensor]:
    """Returns disjoint, sorted index sets that cover all images; each class is split by `shares`, the rest is "train".

    Shares are fractions of all images. Counts are rounded per class, with the remainder carried over: totals are exact to one
    image, and no class is off by more than one.
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in ("train", *shares)}
    owed = dict.fromkeys(shares, 0.0)
    draw = torch.Generator().manual_seed(seed)
    for label in target.unique():
        members = (target == label).nonzero().squeeze(1)
        members = members[torch.randperm(len(members), generator=draw)]
        taken = 0
        for name, share in shares.items():
            owed[name] += share * len(members)
            count = round(owed[name])
            owed[name] -= count
            parts[name].append(members[taken : taken + count])
            taken += count
        parts["train"].append(members[taken:])
    return {name: torch.cat(pieces).sort().values for name, pieces in parts.items()}


def fold_split(target: Tensor, folds: int, fold: int, val_fraction: float) -> dict[str, Tensor]:
    """Returns disjoint, sorted index sets: fold number `fold` of `folds` is "test", the rest "train" and "val".

    Each class is dealt out evenly, so every image is in the test set of one fold; sizes of folds differ by one at most.

    Args:
        target: [N] classes of all images; val_fraction: of the rest.

    Raises DataError if there are fewer images than folds.
    """
    if len(target) < folds:
        raise DataError(f"data.folds={folds}: is more than the {len(target)} images")
    draw = torch.Generator().manual_seed(0)
    number = torch.empty(len(target), dtype=torch.int64)
    dealt = 0
    for label in target.unique():
        members = (target == label).nonzero().squeeze(1)
        members = members[torch.randperm(len(members), generator=draw)]
        number[members] = (dealt + torch.arange(len(members))) % folds
        dealt += len(members)
    rest = (number != fold).nonzero().squeeze(1)
    inner = stratified_split(target[rest], {"val": val_fraction}, seed=0)
    return {"train": rest[inner["train"]], "val": rest[inner["val"]], "test": (number == fold).nonzero().squeeze(1)}


def train_eval_indices(target: Tensor, images: int) -> Tensor:
    """Returns sorted indices of a fixed part of the training images, with the classes' shares.

    Args:
        target: [N], the classes of the training images; images: of the part.
    """
    by_class = target.argsort(stable=True)
    places = (torch.arange(images) + 0.5) * len(target) / images
    return by_class[places.long()].sort().values


def nested_subset(target: Tensor, images: int, seed: int) -> Tensor:
    """Returns sorted indices of `images` of the N training images, with the classes' shares.

    A smaller number gives a subset of a larger one, so a learning curve adds images only: image r of the n of its class, in a
    drawn order, has the rank (r + 1/2) / n, and the lowest ranks are taken.

    Args:
        target: [N] classes; seed: of the order.

    Raises DataError if there are not so many images.
    """
    if images > len(target):
        raise DataError(f"data.train_images={images}: is more than the {len(target):,} training images")
    order = torch.randperm(len(target), generator=torch.Generator().manual_seed(seed))
    rank = torch.empty(len(target), dtype=torch.float64)
    for label in target.unique():
        members = order[target[order] == label]
        rank[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return rank.argsort(stable=True)[:images].sort().values


def train_order(target: Tensor, seed: int, epoch: int, balanced: bool) -> Tensor:
    """Returns the order of an epoch: a permutation [N], or, if balanced, N draws in which every class is as frequent.

    Args:
        target: [N] classes of the training images.
    """
    draw = rng.generator(seed, "order", epoch)
    if not balanced:
        return torch.randperm(len(target), generator=draw)
    weight = 1 / target.bincount().double()[target]
    return torch.multinomial(weight.cpu(), len(target), replacement=True, generator=draw)
