"""Parameter groups, and the learning rate as a function of the step."""

import copy

import pytest
import torch
from torch import nn

from vgg_nll.model import VGG16
from vgg_nll.model.layers import Conv3x3
from vgg_nll.training.optim import Schedule, cosine_decay, linear_decay, no_decay, param_groups, step_decay

OPTIMIZERS = {"adamw": (torch.optim.AdamW, {}), "sgd": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True})}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_updates_are_those_of_the_unfused_optimizer(name: str, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    kind_of, options = OPTIMIZERS[name]
    layers = (Conv3x3(3, 8), nn.ReLU(), Conv3x3(8, 16), nn.Flatten(), nn.Linear(16 * 64, 5))
    fused = nn.Sequential(*layers).to(memory_format=layout)
    plain = copy.deepcopy(fused)
    decayed = [p for p in plain.parameters() if p.dim() > 1]
    others = [p for p in plain.parameters() if p.dim() <= 1]
    reference = kind_of([{"params": decayed}, {"params": others, "weight_decay": 0.0}], lr=0.01, weight_decay=0.1, **options)
    optimizer = kind_of(param_groups(fused), lr=0.01, weight_decay=0.1, fused=True, **options)
    for seed in range(3):
        images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        for model, its in ((fused, optimizer), (plain, reference)):
            its.zero_grad()
            for part in images.chunk(2):  # gradients add up
                model(part).square().mean().backward()
            its.step()
    for own, theirs in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-7)


def test_parameters_are_the_models_own() -> None:
    model = VGG16(3, head="compact", width=1 / 16)
    taken = [id(p) for group in param_groups(model) for p in group["params"]]
    assert sorted(taken) == sorted(map(id, model.parameters()))


def test_decay_is_for_weights() -> None:
    model = VGG16(3, batch_norm=True, head="compact", width=1 / 16)
    weights, others = param_groups(model)
    assert len(weights["params"]) == 14 and "weight_decay" not in weights
    assert len(others["params"]) == 14 + 2 * 13 and others["weight_decay"] == 0.0


def test_warm_up_then_decay() -> None:
    schedule = Schedule(linear_decay, total_steps=14, warmup_steps=4)
    assert [schedule(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert [schedule(step) for step in (4, 9, 13, 14)] == pytest.approx([1.0, 0.5, 0.1, 0.0])


@pytest.mark.parametrize(("progress", "factor"), [(0, 1.0), (0.25, 0.8535534), (0.5, 0.5), (1, 0.0)])
def test_cosine(progress: float, factor: float) -> None:
    assert cosine_decay(progress) == pytest.approx(factor)


def test_other_decays() -> None:
    assert [step_decay(p, milestones=(0.5, 0.75), factor=0.1) for p in (0, 0.49, 0.5, 0.75, 1)] == pytest.approx(
        [1, 1, 0.1, 0.01, 0.01]
    )
    assert no_decay(0.7) == 1
    assert linear_decay(1, final_factor=0.2) == pytest.approx(0.2)
    assert cosine_decay(1, final_factor=0.2) == pytest.approx(0.2)


def test_all_warm_up() -> None:
    schedule = Schedule(linear_decay, total_steps=4, warmup_steps=4)
    assert [schedule(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
