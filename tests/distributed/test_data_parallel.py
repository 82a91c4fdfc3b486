"""Gradients and batch norm of three ranks, in processes of their own, against those of one."""

import copy
from pathlib import Path

import pytest
import torch
from helpers.processes import RANKS, in_ranks
from torch import nn

from vgg_nll.distributed.data_parallel import SyncBatchNorm2d, data_parallel, synchronise_batch_norm
from vgg_nll.distributed.process_group import Ranks


def test_batch_norm_becomes_one_over_all_ranks() -> None:
    """With its weights and buffers, the mode, and what is frozen."""
    outer, inner = nn.BatchNorm2d(3), nn.BatchNorm2d(2)
    outer.weight.requires_grad_(False)
    inner.eval()
    network = nn.Sequential(outer, nn.Sequential(inner, nn.ReLU()))
    before = dict(network.state_dict())
    synchronise_batch_norm(network)
    of_outer, of_inner = (module for module in network.modules() if isinstance(module, SyncBatchNorm2d))
    assert of_outer.weight is outer.weight and not of_outer.weight.requires_grad
    assert of_outer.training and not of_inner.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def images_and_weights() -> tuple[torch.Tensor, torch.Tensor, nn.BatchNorm2d]:
    draw = torch.Generator().manual_seed(0)
    layer = nn.BatchNorm2d(4)
    with torch.no_grad():
        layer.weight.copy_(torch.rand(4, generator=draw) + 0.5)
        layer.bias.copy_(torch.randn(4, generator=draw))
    images = torch.randn(7, 4, 5, 6, generator=draw) * 3 + 2
    return images, torch.randn(7, 4, 5, 6, generator=draw), layer


def normalise(own: Ranks, folder: Path) -> tuple[torch.Tensor, ...]:
    """This rank's rows of a batch of 7 through the layer, and their gradients."""
    images, pull, layer = images_and_weights()
    network = nn.Sequential(layer)
    synchronise_batch_norm(network)
    rows = own.rows(len(images))
    mine = images[rows].requires_grad_()
    outputs = network(mine)
    (outputs * pull[rows]).sum().backward()
    twin = next(module for module in network.modules() if isinstance(module, SyncBatchNorm2d))
    assert twin.weight.grad is not None and twin.bias.grad is not None
    gradients = [own.all_reduce_sum(twin.weight.grad), own.all_reduce_sum(twin.bias.grad)]  # DistributedDataParallel does this
    assert mine.grad is not None
    return (outputs.detach(), mine.grad, *gradients, *twin.buffers())


def test_batch_norm_over_one_rank_is_pytorchs(monkeypatch: pytest.MonkeyPatch) -> None:
    """In training and after it: the running variance is the unbiased one."""
    monkeypatch.setattr("vgg_nll.distributed.data_parallel.dist.all_reduce", lambda _: None)
    images, _, layer = images_and_weights()
    network = nn.Sequential(copy.deepcopy(layer))
    synchronise_batch_norm(network)
    for _ in range(2):
        torch.testing.assert_close(network(images), layer(images))
        network.eval()
        layer.eval()


@pytest.mark.slow
def test_batch_norm_over_ranks_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    """Outputs, all gradients, running mean and variance, of uneven parts: 3, 2 and 2 images; against PyTorch in float64."""
    found = in_ranks(tmp_path, normalise)
    images, pull, layer = images_and_weights()
    layer.double()
    whole = images.double().requires_grad_()
    outputs = layer(whole)
    (outputs * pull).sum().backward()
    assert layer.weight.grad is not None and layer.bias.grad is not None and whole.grad is not None
    expected = [outputs.detach(), whole.grad, layer.weight.grad, layer.bias.grad, *layer.buffers()]
    for place, value in enumerate(expected):
        ours = torch.cat([each[place] for each in found]) if place < 2 else found[2][place]
        torch.testing.assert_close(ours.double(), value.double(), rtol=1e-5, atol=1e-5)


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(16, 12)


def gradients(own: Ranks, folder: Path) -> dict[str, torch.Tensor]:
    """The gradient of each compression's first and fourth step; images differ from rank to rank, and not from step to step."""
    images = torch.randn(20, 16, generator=torch.Generator().manual_seed(own.rank))
    found = {}
    for compression in ("none", "bfloat16", "powersgd"):
        model = linear()
        forward = data_parallel(model, model.forward, compression=compression, bucket_mb=1e-6)
        for step in range(1, 5):
            model.zero_grad()
            forward(images).square().mean().backward()
            assert model.weight.grad is not None
            if step in (1, 4):
                found[f"{compression} {step}"] = model.weight.grad.clone()
    return found


@pytest.mark.slow
def test_every_rank_has_the_mean_gradient(tmp_path: Path) -> None:
    """Whole in float32, rounded in bfloat16; of rank 1 with PowerSGD, which begins after its first steps."""
    by_rank = in_ranks(tmp_path, gradients)
    mean = torch.zeros(12, 16)
    for rank in range(RANKS):
        model, images = linear(), torch.randn(20, 16, generator=torch.Generator().manual_seed(rank))
        model(images).square().mean().backward()
        assert model.weight.grad is not None
        mean += model.weight.grad / RANKS
    for found in by_rank:
        assert all(torch.equal(found[name], by_rank[0][name]) for name in found)
        for name in ("none 1", "none 4", "powersgd 1"):
            torch.testing.assert_close(found[name], mean)
        for step in (1, 4):
            rounded = found[f"bfloat16 {step}"]
            torch.testing.assert_close(rounded, mean, rtol=2e-2, atol=2e-2)
            assert (rounded - mean).abs().max() > 1e-5
        assert torch.linalg.matrix_rank(mean) == 12
        assert torch.linalg.matrix_rank(found["powersgd 4"], rtol=1e-3) == 1
