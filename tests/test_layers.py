"""Our layers against PyTorch's own."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vgg_nll.layers import BatchNorm, Conv3x3

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


def test_batch_norm_keeps_its_digits() -> None:
    """In float32, against float64: each channel's gradient sums to nothing, where PyTorch's kernel leaves ten times as much."""
    torch.manual_seed(0)
    images = (3 + torch.randn(64, 8, 32, 32)).contiguous(memory_format=torch.channels_last)
    upstream = torch.randn_like(images)
    own, errors = batch_norm(8), []
    exact = copy.deepcopy(own).double()
    plain = nn.BatchNorm2d(8)
    plain.load_state_dict(own.state_dict())
    gradients = []
    for layer, dtype in ((exact, torch.float64), (own, torch.float32), (plain, torch.float32)):
        inputs = images.to(dtype).requires_grad_()
        layer(inputs).backward(upstream.to(dtype))
        gradients.append(inputs.grad.double().sum((0, 2, 3)))
    errors = [(gradient - gradients[0]).abs().max().item() for gradient in gradients[1:]]
    assert errors[0] < 0.1 * errors[1]


def test_batch_norm_of_one_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        BatchNorm(5)(torch.randn(1, 5, 1, 1))


def test_batch_norm_in_bfloat16_is_pytorchs() -> None:
    """Under autocast the activations are bfloat16: to the bit, and bfloat16 again."""
    torch.manual_seed(0)
    own = batch_norm()
    reference = nn.BatchNorm2d(5)
    reference.load_state_dict(own.state_dict())
    images = torch.randn(4, 5, 6, 3).bfloat16()
    assert torch.equal(own(images), reference(images))
    assert own(images).dtype == torch.bfloat16
