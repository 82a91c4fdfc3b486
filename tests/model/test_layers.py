"""Our layers against PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F

from vgg_nll.model.layers import Conv3x3

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
