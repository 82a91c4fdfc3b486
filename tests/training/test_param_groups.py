"""Parameters as optimizers take them: PyTorch's own update, element by element."""

import copy

import pytest
import torch
from torch import nn

from vgg_nll.model import VGG16
from vgg_nll.model.layers import Conv3x3
from vgg_nll.training import param_groups

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
    optimizer = kind_of(param_groups.groups(fused), lr=0.01, weight_decay=0.1, fused=True, **options)
    for seed in range(3):
        images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        for model, its in ((fused, optimizer), (plain, reference)):
            its.zero_grad()
            for part in images.chunk(2):  # gradients add up
                model(part).square().mean().backward()
            its.step()
    for own, theirs in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-7)


def test_nothing_is_copied() -> None:
    model = VGG16(3, head="compact", width=1 / 16).to(memory_format=torch.channels_last)
    own = {p.data_ptr() for p in model.parameters()}
    taken = [p for group in param_groups.groups(model) for p in group["params"]]
    again = [p for group in param_groups.groups(model) for p in group["params"]]
    assert all(a is b for a, b in zip(taken, again, strict=True))  # two optimizers see the same gradients
    assert {p.data_ptr() for p in taken} == own
    assert all(p.is_contiguous() for p in taken)
    found: dict[int, int] = {}
    weight = model.features[0].weight
    weight.register_hook(lambda gradient: found.update(autograd=gradient.data_ptr()))
    model(torch.randn(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)).sum().backward()
    view = next(p for p in taken if p.data_ptr() == weight.data_ptr())
    assert view.grad is not None and view.grad.data_ptr() == found["autograd"]
    assert weight.grad is None


def test_a_network_that_moves_afterwards_is_an_error() -> None:
    model = VGG16(3, head="compact", width=1 / 16).to(memory_format=torch.channels_last)
    param_groups.groups(model)
    for p in model.parameters():
        p.data = p.data.clone()
    with pytest.raises(RuntimeError, match="moved after its optimizer was made"):
        model(torch.randn(2, 3, 32, 32)).sum().backward()
    model.zero_grad()
    taken = [p for group in param_groups.groups(model) for p in group["params"]]  # a new one is made for where it is now
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert {p.data_ptr() for p in taken} == {p.data_ptr() for p in model.parameters()}
    assert all(p.grad is not None for p in taken)


def test_decay_is_for_weights() -> None:
    model = VGG16(3, batch_norm=True, head="compact", width=1 / 16)
    weights, others = param_groups.groups(model)
    assert len(weights["params"]) == 14 and "weight_decay" not in weights
    assert len(others["params"]) == 14 + 2 * 13 and others["weight_decay"] == 0.0
