"""Weights of classes: those of scikit-learn, and a mean whose parts add up."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.configs import Config
from PIL import Image
from sklearn.utils.class_weight import compute_class_weight

from vgg_nll.errors import ConfigError
from vgg_nll.losses import AllLogitNLL, ArgmaxNLL
from vgg_nll.losses.class_weights import ClassWeighted, balanced_weights
from vgg_nll.run import build
from vgg_nll.training.diagnostics import constant_loss

CPU = torch.device("cpu")
TARGET = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)


def test_auto_is_scikit_learns_balanced() -> None:
    expected = compute_class_weight("balanced", classes=np.arange(3), y=TARGET.numpy())
    np.testing.assert_allclose(balanced_weights(TARGET.bincount().float()).numpy(), expected, rtol=1e-6)
    assert balanced_weights(torch.tensor([4.0, 0.0])).tolist() == [0.5, 0.0]


@pytest.mark.parametrize("kind", [ArgmaxNLL, AllLogitNLL, torch.nn.CrossEntropyLoss])
def test_parts_add_up(kind: type[torch.nn.Module]) -> None:
    weight, logits = torch.tensor([1.0, 2.0, 5.0]), torch.randn(100, 3)
    plain = kind(reduction="none")
    loss = ClassWeighted(plain, weight)
    whole = loss(logits, TARGET)
    torch.testing.assert_close(whole, (weight[TARGET] * plain(logits, TARGET)).mean())
    one_hot = torch.nn.functional.one_hot(TARGET, 3).float()  # as mixup gives it, where nothing is mixed
    torch.testing.assert_close(loss(logits, one_hot), whole)
    for size in (1, 7, 64):
        parts = [loss(z, t) * len(t) for z, t in zip(logits.split(size), TARGET.split(size), strict=True)]
        torch.testing.assert_close(torch.stack(parts).sum() / 100, whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["argmax", "all_logit", "cross_entropy", "sigmoid"])
@pytest.mark.parametrize("weight", ["auto", "[1,2]"])
def test_a_config_weighs(config: Config, name: str, weight: str) -> None:
    cfg = config("data=synthetic", "data.num_classes=2", "data.num_images=101", f"loss={name}", f"loss.weight={weight}")
    data = build.make_data(cfg, CPU)
    counts = data.class_counts
    expected = counts.sum() / (2 * counts) if weight == "auto" else torch.tensor([1.0, 2.0])
    logits, target = torch.randn(9, 2), torch.arange(9) % 2
    plain = build.make_loss(config(f"loss={name}"), data, CPU)
    single = torch.stack([plain(z[None], t[None]) for z, t in zip(logits, target, strict=True)])
    torch.testing.assert_close(build.make_loss(cfg, data, CPU)(logits, target), (expected[target] * single).mean())


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ("loss.weight=[1,2,3]",),
            r"\[1, 2, 3\]: needs a number for each of 10 classes; \[\"0=20\"\] weighs one by",
        ),
        (('loss.weight=["0=2","ten=3"]',), r"loss.weight=\['0=2', 'ten=3'\]: there is no class ten; "),
        (('loss.weight=["0=2",3]',), r"needs a number for each of 10 classes"),
    ],
)
def test_weights_that_do_not_fit(config: Config, overrides: tuple[str, ...], words: str) -> None:
    cfg = config(*overrides)
    with pytest.raises(ConfigError, match=words):
        build.make_loss(cfg, build.make_data(cfg, CPU), CPU)


def test_weights_by_the_names_of_classes(config: Config, tmp_path: Path) -> None:
    """Whatever the order; the others count 1; one letter in two forms of Unicode is one letter. The table shows them."""
    for name in ("zebra", "Cafe\u0301", "猫"):
        (tmp_path / name).mkdir()
        for k in range(20):
            Image.new("RGB", (32, 32), (k, 7 * k, 99)).save(tmp_path / name / f"{k}.png")
    folder = ("data=image_folder", f"data.root={tmp_path}", "data.image_size=32", "data.num_workers=0")
    cfg = config(*folder, 'loss.weight=["zebra=20","Caf\u00e9=0.5"]', "trainer.batch_size=4")
    data = build.make_data(cfg, CPU)
    weights = build.make_class_weights(cfg, data)
    assert weights.tolist() == [0.5, 20, 1] and data.class_names == ("Cafe\u0301", "zebra", "猫")
    table = [line.split() for line in data.survey(weights.tolist())[:4]]
    assert table[0][-1] == "weight"
    assert {row[0]: row[-1] for row in table[1:]} == {"Cafe\u0301": "0.5", "zebra": "20", "猫": "1"}


@pytest.mark.parametrize("name", ["argmax", "all_logit"])
def test_the_constant_loss_is_that_of_the_classes_shares(config: Config, name: str) -> None:
    """900 images of one class and 100 of another: with balanced weights, as without, ln 2 (twice that for method 2)."""
    counts = torch.tensor([900.0, 100.0])
    plain = build.make_loss(config(f"loss={name}"), build.make_data(config(), CPU), CPU)
    kind: type[ArgmaxNLL | AllLogitNLL] = ArgmaxNLL if name == "argmax" else AllLogitNLL
    weighted = ClassWeighted(kind(reduction="none"), balanced_weights(counts))
    expected = math.log(2) * (2 if name == "all_logit" else 1)
    assert constant_loss(plain, counts, CPU) == pytest.approx(expected, rel=1e-5)
    assert constant_loss(weighted, counts, CPU) == pytest.approx(expected, rel=1e-5)
