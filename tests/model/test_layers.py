"""Our layers against PyTorch's own."""

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vgg_nll.model.layers import BatchNorm, Conv3x3

LAYOUTS = pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (4, 4), (3, 5), (2, 8), (5, 5)])
@LAYOUTS
def test_small_maps_are_convolved_exactly(size: tuple[int, int], memory_format: torch.memory_format) -> None:
    """One matrix product in place of the convolution: the same values and gradients, and the same memory format."""
    torch.manual_seed(0)
    layer = Conv3x3(6, 5).double().to(memory_format=memory_format)
    images = torch.randn(3, 6, *size, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    expected = F.conv2d(images, layer.weight, layer.bias, padding=1)
    outputs = layer(images)
    torch.testing.assert_close(outputs, expected)
    inputs = (images, layer.weight, layer.bias)
    for ours, reference in zip(
        torch.autograd.grad(outputs.square().sum(), inputs), torch.autograd.grad(expected.square().sum(), inputs), strict=True
    ):
        torch.testing.assert_close(ours, reference)
    if memory_format == torch.channels_last:
        assert outputs.is_contiguous(memory_format=torch.channels_last)


def batch_norm(channels: int = 5) -> BatchNorm:
    layer = BatchNorm(channels)
    with torch.no_grad():
        layer.weight.normal_()
        layer.bias.normal_()
    return layer


@pytest.mark.parametrize("shape", [(4, 5, 6, 3), (2, 5, 1, 1), (1, 5, 1, 2)])
@LAYOUTS
def test_batch_norm_is_pytorchs(shape: tuple[int, ...], memory_format: torch.memory_format) -> None:
    """In float64: outputs, gradients, running statistics, and the same layer once it is trained."""
    torch.manual_seed(0)
    own = batch_norm().double()
    reference = nn.BatchNorm2d(5).double()
    reference.load_state_dict(own.state_dict(), strict=True)
    for _ in range(3):
        images = (7 + 3 * torch.randn(shape, dtype=torch.float64)).contiguous(memory_format=memory_format)
        inputs = [images.clone().requires_grad_() for _ in range(2)]
        outputs = [layer(x) for layer, x in zip((own, reference), inputs, strict=True)]
        gradients = [
            torch.autograd.grad(y.sin().sum(), [x, *layer.parameters()])
            for layer, x, y in zip((own, reference), inputs, outputs, strict=True)
        ]
        torch.testing.assert_close(outputs[0], outputs[1])
        torch.testing.assert_close(gradients[0], gradients[1])
        assert outputs[0].stride() == images.stride()
    torch.testing.assert_close(own.state_dict(), reference.state_dict())
    reference.load_state_dict(own.state_dict())
    assert torch.equal(own.eval()(images), reference.eval()(images))


@pytest.mark.skipif("AVX" not in torch.backends.cpu.get_cpu_capability(), reason="PyTorch's sums are less exact there")
def test_batch_norm_keeps_its_digits() -> None:
    """In float32: every channel's gradient sums to nothing, where PyTorch's kernel for channels-last leaves 0.001 to 0.006."""
    torch.manual_seed(0)
    images = (3 + torch.randn(64, 8, 32, 32)).contiguous(memory_format=torch.channels_last).requires_grad_()
    batch_norm(8)(images).backward(torch.randn_like(images))
    assert images.grad.double().sum((0, 2, 3)).abs().max() < 5e-4


@pytest.mark.parametrize("shape", [(1, 5, 1, 1), (4, 1, 3, 3), (5, 3, 3), (5,)])
def test_batch_norm_refuses_what_pytorch_refuses(shape: tuple[int, ...]) -> None:
    """One pixel, one channel for five, too few dimensions."""
    with pytest.raises((ValueError, RuntimeError)) as refused:
        nn.BatchNorm2d(5)(torch.randn(shape))
    with pytest.raises(refused.type, match=re.escape(str(refused.value))):
        BatchNorm(5)(torch.randn(shape))


def test_batch_norm_leaves_the_rest_to_pytorch() -> None:
    """Statistics averaged over all batches, which `torch.optim.swa_utils.update_bn` takes; nothing at all; float16."""
    torch.manual_seed(0)
    for make in (BatchNorm, nn.BatchNorm2d):
        layer = make(5)
        before = copy.deepcopy(layer.state_dict())
        assert layer(torch.empty(0, 5, 2, 2)).shape == (0, 5, 2, 2)
        assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items() if "running" in name)
    own, reference = BatchNorm(5), nn.BatchNorm2d(5)
    own.momentum = reference.momentum = None
    for _ in range(2):
        images = torch.randn(4, 5, 6, 3)
        assert torch.equal(own(images), reference(images))
    torch.testing.assert_close(own.state_dict(), reference.state_dict())
    images = torch.randn(4, 5, 6, 3).half()
    assert torch.equal(BatchNorm(5).half()(images), nn.BatchNorm2d(5).half()(images))


def test_second_derivatives_are_refused() -> None:
    images = torch.randn(4, 5, 2, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(BatchNorm(5)(images).sin().sum(), images, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_batch_norm_in_bfloat16_is_pytorchs() -> None:
    """Under autocast the activations are bfloat16: to the bit, and bfloat16 again."""
    torch.manual_seed(0)
    own = batch_norm()
    reference = nn.BatchNorm2d(5)
    reference.load_state_dict(own.state_dict())
    images = torch.randn(4, 5, 6, 3).bfloat16()
    assert torch.equal(own(images), reference(images))
    assert own(images).dtype == torch.bfloat16
