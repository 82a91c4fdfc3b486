"""The whole training step, with all that makes it fast, against the usual one in PyTorch's own layers."""

import copy
import statistics
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vgg_nll.data.memory import sources
from vgg_nll.losses import argmax_nll
from vgg_nll.model import VGG16
from vgg_nll.training.optim import param_groups
from vgg_nll.training.state import TrainState
from vgg_nll.training.step import StepOptions, train_step

DIGITS = sources.digits()[0]["train"]


def batch(step: int, size: int = 16) -> tuple[Tensor, Tensor]:
    index = torch.randint(0, len(DIGITS.target), (size,), generator=torch.Generator().manual_seed(step))
    return DIGITS.images[index].float() / 127.5 - 1, DIGITS.target[index]


def baseline(model: VGG16) -> nn.Sequential:
    """The same weights in PyTorch's own layers, in the paper's order, in NCHW."""
    layers: list[nn.Module] = []
    for layer in copy.deepcopy(model).to(memory_format=torch.contiguous_format).features:
        if isinstance(layer, nn.Conv2d):
            plain = nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1)
            plain.load_state_dict(layer.state_dict())
            layers.append(plain)
        elif isinstance(layer, nn.BatchNorm2d):
            layers.append(nn.BatchNorm2d(layer.num_features))
            layers[-1].load_state_dict(layer.state_dict())
        elif isinstance(layer, nn.ReLU):
            layers.insert(len(layers) - isinstance(layers[-1], nn.MaxPool2d), nn.ReLU())
        else:
            layers.append(layer)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), copy.deepcopy(model.classifier))


def make_state(batch_norm: bool = False) -> TrainState:
    torch.manual_seed(0)
    model = VGG16(10, batch_norm=batch_norm, head="compact", width=1 / 16).to(memory_format=torch.channels_last)
    return TrainState(model, torch.optim.AdamW(param_groups(model), lr=1e-3, fused=True), torch.device("cpu"))


SGD = (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4})
ADAMW = (torch.optim.AdamW, {"betas": (0.9, 0.98), "weight_decay": 0.01, "eps": 1e-3})  # no steps of rounding alone


# Two steps with batch norm: sooner or later rounding takes a value of one network over the corner of a ReLU, and there the
# gradients part (by up to 5e-3, against float64 in either layout; a loss by 1e-7).
@pytest.mark.parametrize(("batch_norm", "steps"), [(False, 5), (True, 2)], ids=["plain", "batch norm"])
@pytest.mark.parametrize("optimizer_of", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_float32_steps_are_the_baselines(batch_norm: bool, steps: int, optimizer_of: tuple[Any, dict[str, Any]]) -> None:
    """Losses, gradient norms and weights of clipped steps, to 1e-5."""
    kind, options = optimizer_of
    state = make_state(batch_norm)
    assert isinstance(state.model, VGG16)
    # PyTorch's sums of batch norm on a CPU depend on the layout, by more than 1e-5.
    layout = torch.channels_last if batch_norm else torch.contiguous_format
    plain = baseline(state.model).to(memory_format=layout)
    assert [type(layer) for layer in plain][-6:-3] == [nn.Conv2d if not batch_norm else nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]
    decayed, others = ([p for p in plain.parameters() if (p.dim() > 1) == large] for large in (True, False))
    optimizer = kind([{"params": decayed}, {"params": others, "weight_decay": 0.0}], lr=1e-3, foreach=False, **options)
    state.optimizer = kind(param_groups(state.model), lr=1e-3, fused=True, **options)
    for step in range(steps):
        images, target = batch(step)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(plain(images.contiguous(memory_format=layout)), target)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(plain.parameters(), 0.2)
        optimizer.step()
        before = state.window_loss.item()
        settings = StepOptions(torch.float32, clip_norm=0.2)
        measured = train_step(state, argmax_nll, images, target, settings, learning_rate=1e-3)
        assert (state.window_loss.item() - before) / 16 == pytest.approx(loss.item(), rel=1e-5)
        assert measured.item() == pytest.approx(norm.item(), rel=1e-5) and norm > 0.2
    for own, theirs in zip(state.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_bfloat16_learns_as_float32_does() -> None:
    """200 steps from the same start: the mean of the curve within 5%, that of every 20 steps within 20%. (float32 runs
    whose first weights differ by 1e-6 differed by 8%.)"""
    curves = []
    for dtype in (torch.float32, torch.bfloat16):
        state, losses = make_state(batch_norm=True), []
        for step in range(200):
            before = state.window_loss.item()
            train_step(state, argmax_nll, *batch(step), StepOptions(dtype, clip_norm=1.0), learning_rate=1e-3)
            losses.append((state.window_loss.item() - before) / 16)
        curves.append([statistics.mean(losses[i : i + 20]) for i in range(0, 200, 20)])
    assert curves[0][-1] < 0.5 * curves[0][0]
    assert curves[1] == pytest.approx(curves[0], rel=0.2)
    assert statistics.mean(curves[1]) == pytest.approx(statistics.mean(curves[0]), rel=0.05)
