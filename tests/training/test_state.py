"""The state: N steps equal k steps, a checkpoint, its loading and N - k steps, to the bit; and it loads strictly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.configs import make_model
from omegaconf import DictConfig

from vgg_nll import rng
from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.checkpoints.weights import is_finite
from vgg_nll.run import build
from vgg_nll.training.state import TrainState
from vgg_nll.training.step import StepOptions, train_step

CPU = torch.device("cpu")
Config = Callable[..., DictConfig]


def start(cfg: DictConfig) -> TrainState:
    data = build.make_data(cfg, CPU)
    model = make_model(cfg, data)
    return TrainState(model, build.make_optimizer(cfg, model), CPU)


def steps(cfg: DictConfig, state: TrainState, until: int) -> list[float]:
    """Trains `state` up to step `until`, as the trainer does; returns the gradient norms."""
    data, norms = build.make_data(cfg, CPU), []
    loss, learning_rate = build.make_loss(cfg, data, CPU), build.make_learning_rate(cfg, data, 20)
    while state.step < until:
        epoch, position = divmod(state.step, data.steps_per_epoch)
        images, target = next(data.train_batches(epoch, position))
        rng.seed_step(cfg.seed, state.step)
        options = StepOptions(torch.float32, clip_norm=1.0, accumulation_steps=2)
        norm = train_step(state, loss, images, target, options, learning_rate=learning_rate(state.step))
        norms.append(norm.item())
    return norms


@pytest.mark.slow
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
    checkpoint_file.save(tmp_path / "last.pt", parted.state_dict())
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
    resumed.load_state_dict(checkpoint_file.load(tmp_path / "last.pt"))
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
    with pytest.raises(ValueError, match="the checkpoint lacks average, best_metrics, best_step"):
        state.load_state_dict({"model": {}, "step": 1})
    for name, value in (
        ("step", "8"),
        ("step", 8.0),
        ("step", -3),
        ("best_step", "x"),
        ("seconds", None),
        ("seconds", 10**400),
        ("best_metrics", []),
        ("best_step", 3),
        ("history", None),
        ("history", [{"step": 1, "epoch": 1.0}]),
        ("history", [{"step": 1, "epoch": 10**400, "loss": 0.5}]),
        ("history", [{"step": 1, "epoch": 1.0, "loss": "0.5"}]),
        ("history", [{"step": 1, "epoch": 1.0, "loss": 0.5}, {"step": 2, "loss": 0.5, "epoch": 2.0}]),
    ):
        with pytest.raises(ValueError, match=f"{name}|best_metrics lack"):
            state.load_state_dict(state.state_dict() | {name: value})
    with pytest.raises(ValueError, match="of another kind"):
        state.load_state_dict(state.state_dict() | {"optimizer": {"state": {}, "param_groups": []}})
    assert torch.equal(state.model.classifier[0].weight, before)


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [(), ("optimizer=sgd",)])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda moment: moment.sum(), r"has the shape \[\], not"),  # a fused kernel would read beyond its one number
        (lambda moment: moment.flatten(), "has the shape"),
        (lambda moment: moment.to_sparse(), "has the shape"),
        (lambda moment: 3, r"has the shape \[\]"),
        (lambda moment: moment.double(), "is torch.float64, not torch.float32"),
        (lambda moment: moment * torch.nan, "not finite"),
        (None, "the optimizer keeps"),
    ],
)
def test_moments_that_the_optimizer_would_not_leave(
    config: Config, overrides: tuple[str, ...], spoil: Callable[[torch.Tensor], Any] | None, words: str
) -> None:
    """Of another shape, layout, type, or none at all: refused before the fused kernels see them."""
    cfg = config(
        "model.width=0.0625", "data=synthetic", "data.num_images=40", "data.num_classes=2", "trainer.batch_size=6", *overrides
    )
    state = start(cfg)
    steps(cfg, state, 1)
    saved = state.state_dict()
    moments = saved["optimizer"]["state"]
    before = {name: tensor.clone() for name, tensor in saved["model"].items()}
    names = [name for name, moment in moments[0].items() if isinstance(moment, torch.Tensor) and moment.dim()]
    for name in names:
        changed = moments[0] | ({"another": torch.zeros(3)} if spoil is None else {name: spoil(moments[0][name])})
        with pytest.raises(ValueError, match=words):
            start(cfg).load_state_dict(saved | {"optimizer": saved["optimizer"] | {"state": {**moments, 0: changed}}})
    with pytest.raises(ValueError, match="the optimizer's state is of 1 parameters, not of 28"):
        state.load_state_dict(saved | {"optimizer": saved["optimizer"] | {"state": {0: moments[0]}}})
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.model.state_dict().items())


def test_moments_of_an_optimizer_that_keeps_none(config: Config) -> None:
    cfg = config(
        *("model.width=0.0625", "data=synthetic", "data.num_images=40", "data.num_classes=2", "trainer.batch_size=6"),
        *("optimizer=sgd", "optimizer.momentum=0", "optimizer.nesterov=false"),
    )
    state = start(cfg)
    steps(cfg, state, 1)
    content = state.state_dict()
    start(cfg).load_state_dict(content)
    kept = {index: {"momentum_buffer": torch.zeros(3)} for index in range(28)}
    with pytest.raises(ValueError, match="the optimizer keeps"):
        state.load_state_dict(content | {"optimizer": content["optimizer"] | {"state": kept}})


def test_moments_get_the_memory_layout_of_their_weights(config: Config) -> None:
    """Whatever that of the file is: the fused kernels walk both in the order of the weights."""
    cfg = config("model.width=0.0625", "data=synthetic", "data.num_images=40", "data.num_classes=2", "trainer.batch_size=6")
    undisturbed, crafted = start(cfg), start(cfg)
    steps(cfg, undisturbed, 1)
    content = undisturbed.state_dict()
    for moments in content["optimizer"]["state"].values():
        for name, moment in moments.items():
            moments[name] = moment.contiguous()
    moments = content["optimizer"]["state"][0]
    moments["exp_avg"] = torch.zeros(1).as_strided(moments["exp_avg"].shape, (0, 0, 0, 0))  # one number, many times
    crafted.load_state_dict(content)
    steps(cfg, crafted, 2)
    for parameter, moments in crafted.optimizer.state.items():
        assert moments["exp_avg"].stride() == moments["exp_avg_sq"].stride() == parameter.stride()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda weight: weight * torch.inf, "features.0.weight holds NaN or infinity"),
        (lambda weight: weight.half(), "features.0.weight is torch.float16, not torch.float32"),
        (lambda weight: weight.to_sparse(), "features.0.weight is not a tensor"),
        (lambda weight: "weight", "features.0.weight is not a tensor"),
    ],
)
def test_weights_that_a_run_does_not_save(config: Config, spoil: Callable[[torch.Tensor], Any], words: str) -> None:
    state = start(config("model.width=0.0625", "data=synthetic"))
    content = state.state_dict()
    content["model"] = content["model"] | {"features.0.weight": spoil(content["model"]["features.0.weight"])}
    with pytest.raises(ValueError, match=words):
        state.load_state_dict(content)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["window_loss", "window_correct"])
@pytest.mark.parametrize("value", [None, 3, torch.zeros(2), torch.zeros((), dtype=torch.float16)])
def test_a_window_that_is_not_a_number(config: Config, name: str, value: object) -> None:
    state = start(config("model.width=0.0625", "data=synthetic"))
    with pytest.raises(ValueError, match=f"the checkpoint's {name} is not one number of"):
        state.load_state_dict(state.state_dict() | {name: value})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_one_value_that_is_not_finite_is_found(dtype: torch.dtype, bad: float) -> None:
    """In every layout, and at every place; PyTorch's `isfinite` is the reference."""
    for shape in ((), (1,), (67,), (4, 5, 3, 3)):
        good = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
        assert is_finite(good)
        for place in range(good.numel()):
            spoiled = good.clone().contiguous()
            spoiled.view(-1)[place] = bad
            layouts = [spoiled, spoiled.transpose(0, -1)] if shape else [spoiled]
            layouts += [spoiled.to(memory_format=torch.channels_last)] if len(shape) == 4 else []
            assert not any(map(is_finite, layouts))


@pytest.mark.parametrize("values", [torch.zeros(0), torch.arange(3), torch.tensor(True), torch.zeros(2, dtype=torch.complex64)])
def test_other_numbers_are_finite(values: torch.Tensor) -> None:
    assert is_finite(values)
    if values.is_complex():
        assert not is_finite(values * torch.nan)
