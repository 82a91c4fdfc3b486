"""The state: N steps equal k steps, a checkpoint, its loading and N - k steps, to the bit; and it loads strictly."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.configs import make_model
from omegaconf import DictConfig

from vgg_nll import rng
from vgg_nll.config import build
from vgg_nll.training import checkpoint
from vgg_nll.training.state import TrainState
from vgg_nll.training.step import train_step

CPU = torch.device("cpu")
Config = Callable[..., DictConfig]


def start(cfg: DictConfig) -> TrainState:
    data = build.make_data(cfg, CPU)
    model = make_model(cfg, data)
    return TrainState(model, build.make_optimizer(cfg, model), CPU)


def steps(cfg: DictConfig, state: TrainState, until: int) -> list[float]:
    """Trains `state` up to step `until`, as the trainer does; returns the gradient norms."""
    data, norms = build.make_data(cfg, CPU), []
    loss, learning_rate = build.make_loss(cfg, CPU), build.make_learning_rate(cfg, data, 20)
    while state.step < until:
        epoch, position = divmod(state.step, data.steps_per_epoch)
        images, target = next(data.train_batches(epoch, position))
        rng.seed_step(cfg.seed, state.step)
        norm = train_step(
            state,
            loss,
            images,
            target,
            learning_rate=learning_rate(state.step),
            clip_norm=1.0,
            accumulation_steps=2,
            dtype=torch.float32,
        )
        norms.append(norm.item())
    return norms


@pytest.mark.parametrize(
    "overrides",
    [
        ("loss=all_logit", "model=vgg16_bn"),
        ("loss=argmax", "optimizer=sgd"),
    ],
)
def test_a_saved_state_continues_to_the_bit(config: Config, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    cfg = config(
        "model.width=0.0625",
        "data=synthetic",
        "data.num_images=40",
        "data.num_classes=2",
        "trainer.batch_size=6",
        "data.shift_pixels=2",
        *overrides,
    )
    undisturbed, parted = start(cfg), start(cfg)
    norms = steps(cfg, undisturbed, 7)  # crosses from epoch 0 (4 batches) into epoch 1
    first = steps(cfg, parted, 3)
    checkpoint.save(tmp_path / "last.pt", parted.state_dict())
    resumed = start(
        config(
            "seed=5",
            "trainer.batch_size=6",
            "model.width=0.0625",
            "data=synthetic",
            "data.num_images=40",
            "data.num_classes=2",
            *overrides,
        )
    )
    resumed.load_state_dict(checkpoint.load(tmp_path / "last.pt"))
    assert first + steps(cfg, resumed, 7) == norms
    expected, got = undisturbed.state_dict(), resumed.state_dict()
    for name, tensor in expected["model"].items():
        assert torch.equal(tensor, got["model"][name])
    for index, moments in expected["optimizer"]["state"].items():
        for name, tensor in moments.items():
            assert torch.equal(tensor, got["optimizer"]["state"][index][name])
    assert (got["step"], got["window_images"]) == (7, 42)
    assert torch.equal(got["window_loss"], expected["window_loss"])


def test_another_model_is_refused_before_anything_changes(config: Config) -> None:
    state = start(config("model.width=0.0625", "data=synthetic", "data.num_classes=2"))
    before = state.model.classifier[0].weight.clone()
    for overrides, words in (
        (("data.num_classes=3",), r"classifier.0.weight is \[3, 32\] in the checkpoint, \[2, 32\] in the model"),
        (("data.num_classes=2", "model=vgg16_bn"), "of another model"),
    ):
        other = start(config("model.width=0.0625", "data=synthetic", *overrides)).state_dict()
        with pytest.raises(ValueError, match=words):
            state.load_state_dict(other)
    with pytest.raises(ValueError, match="the checkpoint lacks best_metrics, best_step"):
        state.load_state_dict({"model": {}, "step": 1})
    for name, value in (
        ("step", "8"),
        ("step", 8.0),
        ("step", -3),
        ("best_step", "x"),
        ("seconds", None),
        ("best_metrics", []),
        ("best_step", 3),
    ):
        with pytest.raises(ValueError, match=f"{name}=|best_metrics"):
            state.load_state_dict(state.state_dict() | {name: value})
    with pytest.raises(ValueError, match="of another kind"):
        state.load_state_dict(state.state_dict() | {"optimizer": {"state": {}, "param_groups": []}})
    moments = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": state.optimizer.state_dict()["param_groups"]}
    with pytest.raises(ValueError, match="the optimizer's exp_avg of parameter 0"):
        state.load_state_dict(state.state_dict() | {"optimizer": moments})
    assert torch.equal(state.model.classifier[0].weight, before)
