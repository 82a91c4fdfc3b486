"""Draws are functions of their arguments."""

import torch

from vgg_nll import rng


def test_same_arguments_same_draws_others_differ() -> None:
    def draw(*key: object) -> list[float]:
        return torch.rand(3, generator=rng.generator(*key)).tolist()  # type: ignore[arg-type]

    assert draw(0, "order", 1) == draw(0, "order", 1)
    distinct = [draw(0, "order", 1), draw(1, "order", 1), draw(0, "augment", 1), draw(0, "order", 2), draw(0, "order", 1, 1)]
    assert len({tuple(d) for d in distinct}) == 5
    assert rng.fold(1, "a", 23) != rng.fold(1, "a", 2, 3)


def test_seeded_restores_the_generator() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    with rng.seeded(0, "init"):
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    with rng.seeded(0, "init"):
        assert torch.equal(torch.rand(2), inside)


def test_seed_step_fixes_dropout() -> None:
    ones = torch.ones(100)
    rng.seed_step(0, 7)
    first = torch.nn.functional.dropout(ones)
    rng.seed_step(0, 8)
    other = torch.nn.functional.dropout(ones)
    rng.seed_step(0, 7)
    assert torch.equal(torch.nn.functional.dropout(ones), first)
    assert not torch.equal(first, other)
    rng.seed_step(0, 7, rank=1)
    assert not torch.equal(torch.nn.functional.dropout(ones), first)
