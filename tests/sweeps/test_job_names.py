"""Words of a sweep -> jobs, their identities and their names."""

from pathlib import Path

import pytest

from vgg_nll.config import schema
from vgg_nll.config.compose import composed
from vgg_nll.config.sweep_overrides import MAX_JOBS, Interval, parse
from vgg_nll.errors import ConfigError
from vgg_nll.sweeps.job_names import MAX_NAME_BYTES, identity, name_job


def test_combinations_are_in_the_order_of_typing() -> None:
    words = parse(["device=cpu", "loss=argmax,all_logit", "seed=range(2)"])
    assert words.swept == ["loss", "seed"]
    assert list(words.combinations()) == [
        ("device=cpu", f"loss={loss}", f"seed={seed}") for loss in ("argmax", "all_logit") for seed in (0, 1)
    ]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["seed=0,0,1"], [("seed=0",), ("seed=1",)]),  # a value twice is one job
        (["seed=0,1", "seed=2"], [("seed=2",)]),  # the last word for a key counts
        (["loss=glob(arg*)"], [("loss=argmax",), ("loss=argmax_prediction",)]),
        (["optimizer.betas=[0.9,0.99],[0.8,0.9]"], [("optimizer.betas=[0.9,0.99]",), ("optimizer.betas=[0.8,0.9]",)]),
        (["data.root='a/b','c,d'"], [("data.root='a/b'",), ("data.root='c,d'",)]),
        (["+loss.weight=1,2"], [("+loss.weight=1",), ("+loss.weight=2",)]),
        (["~schedule"], [("~schedule",)]),
        ([], [()]),
    ],
)
def test_words(typed: list[str], expected: list[tuple[str, ...]]) -> None:
    assert list(parse(typed).combinations()) == expected


def test_intervals_are_left_to_a_search() -> None:
    words = parse(["optimizer.lr=tag(log,interval(1e-4,1e-2))", "trainer.epochs=int(interval(1,5))"])
    assert words.open == {
        "optimizer.lr": Interval("optimizer.lr=tag(log,interval(1e-4,1e-2))", "optimizer.lr", 1e-4, 1e-2, True),
        "trainer.epochs": Interval("trainer.epochs=int(interval(1,5))", "trainer.epochs", 1, 5, False),
    }


@pytest.mark.parametrize("typed", [["seed=range(1000000000)"], ["seed=range(101)", "split_seed=range(100)"]])
def test_too_many_jobs(typed: list[str]) -> None:
    with pytest.raises(ConfigError, match=f"more than {MAX_JOBS:,} jobs"):
        parse(typed)


def leaves(*overrides: str) -> dict[str, object]:
    return schema.leaves(composed(overrides))


@pytest.mark.parametrize(
    ("overrides", "is_same"),
    [
        (("optimizer.lr=5e-4",), True),  # the default
        (("optimizer.lr=0.0005", "trainer.epochs=6.0"), True),
        (("device=cuda", "tracking=none", "checkpoint.keep=best", "trainer.log_every_steps=3"), True),
        (("name=other",), True),
        (("optimizer.lr=1e-2",), False),
        (("seed=1",), False),
        (("loss=all_logit",), False),
        (("trainer.batch_size=16",), False),
    ],
)
def test_jobs_with_one_result_are_one(overrides: tuple[str, ...], is_same: bool) -> None:
    assert (identity(leaves(*overrides), ()) == identity(leaves(), ())) == is_same


def test_what_is_swept_sets_jobs_apart() -> None:
    assert identity(leaves("device=cpu"), ["device"]) != identity(leaves("device=cuda"), ["device"])


NAMED = ("loss=argmax", "optimizer.lr=0.1", "seed=0")


@pytest.mark.parametrize(
    ("overrides", "swept", "taken", "expected"),
    [
        (NAMED, ["loss", "seed"], (), "loss=argmax,seed=0"),
        (NAMED, ["loss"], (), "loss=argmax"),
        (NAMED, ["loss"], ("loss=argmax",), "loss=argmax,seed=0"),
        (NAMED, ["loss"], ("loss=argmax", "loss=argmax,seed=0"), "loss=argmax,optimizer.lr=0.1,seed=0"),
        (NAMED, (), (), "seed=0"),
        ((), (), (), "job"),
        ((), (), ("job",), "job-abcdef"),
        (("data.root='/a/b'",), ["data.root"], (), "data.root=_a_b-abcdef"),
        (("name=mean",), ["name"], (), "name=mean"),
        (("+loss.x=1",), ["loss.x"], (), "loss.x=1"),
        ((f"name={'x' * 300}",), ["name"], (), f"name={'x' * (MAX_NAME_BYTES - 13)}-abcdef"),
        (("name=ä/\n",), ["name"], (), "name=ä__-abcdef"),
    ],
)
def test_names(overrides: tuple[str, ...], swept: list[str], taken: tuple[str, ...], expected: str) -> None:
    name = name_job(overrides, swept, "abcdef123", taken)
    assert name == expected
    assert Path(name).name == name and len(name.encode()) <= MAX_NAME_BYTES
