"""Frozen layers stay as they are, features are computed once, and the average of the weights takes their place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.configs import TINY, make_data, make_model
from helpers.runs import train
from omegaconf import DictConfig
from torch import nn

from vgg_nll import rng
from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.data.splits import train_order
from vgg_nll.errors import ConfigError
from vgg_nll.inference import trained_model
from vgg_nll.model import VGG16
from vgg_nll.run import build
from vgg_nll.tracking import tags
from vgg_nll.training.frozen_features import frozen_batches
from vgg_nll.training.optim import make_average, param_groups
from vgg_nll.training.state import TrainState
from vgg_nll.training.step import StepOptions, train_step

Config = Callable[..., DictConfig]
CPU = torch.device("cpu")


def one_step(state: TrainState, images: torch.Tensor, target: torch.Tensor, **options: Any) -> None:
    loss = nn.CrossEntropyLoss()
    train_step(state, loss, images, target, StepOptions(torch.float32, **options), learning_rate=0.1)


@pytest.mark.parametrize("prefix", ["features", "features.0", "classifier"])
def test_frozen_layers_stay(prefix: str) -> None:
    """Weights, and the mean and variance of batch norm; the others move."""
    model = VGG16(3, batch_norm=True, head="compact", width=1 / 16)
    model.freeze(prefix)
    state = TrainState(model, torch.optim.SGD(param_groups(model), lr=0.1, fused=True), CPU)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one_step(state, torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith(f"{prefix}."), name
    model.freeze("")
    assert all(p.requires_grad for p in model.parameters())
    assert all(module.training for module in model.train().modules())


def test_features_2_is_not_features_20() -> None:
    model = VGG16(3, head="compact", width=1 / 16)
    model.freeze("features.2")
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"features.2.weight", "features.2.bias"}


def test_what_cannot_be_frozen(config: Config) -> None:
    with pytest.raises(ConfigError, match=r"^model.freeze=backbone: there is no such layer; there are features, avgpool, c"):
        make_model(config(*TINY, "model.freeze=backbone"))


def test_the_backbone_has_its_own_rate() -> None:
    model = VGG16(3, head="compact", width=1 / 16)
    groups = param_groups(model, 0.1)
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(map(id, model.parameters()))
    state = TrainState(model, torch.optim.SGD(groups, lr=1.0, fused=True), CPU)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    one_step(state, torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]))
    for name, p in model.named_parameters():
        rate = 0.01 if name.startswith("features") else 0.1
        torch.testing.assert_close(p.detach(), before[name] - rate * p.grad)


def test_features_are_those_of_the_images(config: Config) -> None:
    cfg = config(*TINY, "model.freeze=features", "augment=none")
    data = build.make_data(cfg, CPU)
    model = make_model(cfg, data)
    batches = frozen_batches(model, data, torch.float32, 4, 5)
    assert batches is not None
    with torch.no_grad():
        for epoch, start in ((0, 0), (1, 2)):
            expected = list(data.train_batches(epoch, start))
            got = list(batches(epoch, start))
            assert len(got) == len(expected)
            for (pooled, target), (images, labels) in zip(got, expected, strict=True):
                assert torch.equal(target, labels)
                torch.testing.assert_close(model.head(pooled), model.eval()(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "overrides",
    [("model.freeze=features", "data.shift_pixels=1"), ("model.freeze=features", "augment=mixup"), ("augment=none",),
     ("model.freeze=features.0", "augment=none")],
)  # fmt: skip
def test_features_that_change_are_not_kept(config: Config, overrides: tuple[str, ...]) -> None:
    cfg = config(*TINY, *overrides)
    data = build.make_data(cfg, CPU)
    assert frozen_batches(make_model(cfg, data), data, torch.float32, 4, 5) is None


@pytest.mark.slow
def test_a_run_on_frozen_features(tmp_path: Path) -> None:
    """The features stay those it began with, and the head learns as it does from images."""
    train(tmp_path / "first", *TINY, "trainer.steps=3", "tracking=none")
    options = [*TINY, "data.num_images=80", f"model.weights={tmp_path}/first", "model.freeze=features", "trainer.steps=8"]
    kept = train(tmp_path / "kept", *options, "augment=none")
    images = train(tmp_path / "images", *options, "augment=none", "augment.erasing=1e-9")
    for name in tags.VALIDATION.keys() - {"ece_noise_floor"}:  # labels that are drawn jump
        assert kept["val"][name] == pytest.approx(images["val"][name], rel=1e-4, abs=1e-5, nan_ok=True), name
    before, after = (checkpoint_file.load(tmp_path / run / "checkpoints/best.pt")["model"] for run in ("first", "kept"))
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("features"))


def test_the_average_is_that_of_the_formula() -> None:
    """In float64, from the weights after each step; batch norm's statistics are the network's own."""
    model = VGG16(3, batch_norm=True, head="compact", width=1 / 16)
    average = make_average(model, 0.5)
    state = TrainState(model, torch.optim.SGD(param_groups(model), lr=0.1, fused=True), CPU, average)
    assert state.evaluated is average and average is not None
    expected = {name: p.detach().double() for name, p in model.named_parameters()}
    for step in range(12):
        one_step(state, torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]), ema_decay=0.5)
        d = min(0.5, (1 + step) / (10 + step))
        expected = {name: d * expected[name] + (1 - d) * p.detach().double() for name, p in model.named_parameters()}
    for name, p in average.named_parameters():
        torch.testing.assert_close(p.double(), expected[name], rtol=1e-5, atol=1e-7)
        assert not torch.equal(p, dict(model.named_parameters())[name])
    for mine, theirs in zip(average.buffers(), model.buffers(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_average_is_evaluated_and_saved_as_the_best(tmp_path: Path) -> None:
    train(tmp_path, *TINY, "trainer.steps=12", "trainer.ema_decay=0.9", "tracking=none", "trainer.validate_every_epochs=9")
    last, best = (checkpoint_file.load(tmp_path / f"checkpoints/{name}.pt") for name in ("last", "best"))
    assert best["step"] == last["step"] == 12
    for name, value in best["model"].items():
        assert torch.equal(value, last["average"][name])
    assert not torch.equal(best["model"]["features.0.weight"], last["model"]["features.0.weight"])
    for name in ("last", "best"):
        loaded = trained_model.load(tmp_path, name, device="cpu").model
        assert torch.equal(loaded.state_dict()["features.0.weight"], best["model"]["features.0.weight"])


def test_an_average_may_begin_later(config: Config) -> None:
    cfg = config(*TINY)
    first = make_model(cfg)
    state = TrainState(first, build.make_optimizer(cfg, first), CPU)
    second = make_model(config(*TINY, "seed=1"))
    other = TrainState(second, build.make_optimizer(cfg, second), CPU, make_average(second, 0.9))
    other.load_state_dict(state.state_dict())
    assert torch.equal(other.evaluated.state_dict()["features.0.weight"], first.state_dict()["features.0.weight"])


def test_balanced_draws(config: Config) -> None:
    """Classes 0 and 1 in shares of 9 to 1 are drawn equally often, the same in every process."""
    data = make_data(config, *TINY, "data.num_images=1000", "data.balanced=true")
    target = torch.cat([target for _, target in data.eval_batches("train")])
    order = data.train_order(3)
    assert torch.equal(order, data.train_order(3)) and not torch.equal(order, data.train_order(4))
    assert len(order) == len(target)
    uneven = torch.tensor([0] * 900 + [1] * 100)
    drawn = uneven[train_order(uneven, 0, 0, True)]
    assert abs(int(drawn.sum()) - 500) < 4 * (1000 * 0.25) ** 0.5
    plain = train_order(uneven, 0, 0, False)
    assert torch.equal(plain, torch.randperm(1000, generator=rng.generator(0, "order", 0)))
