"""The model summary: layers, and floating-point operations."""

import pytest
import torch
from torch import nn

from vgg_nll.model import VGG16, summary


def test_flops_of_vgg16() -> None:
    """15.47 billion multiply-adds at 224x224 (two operations each), in each of three passes."""
    sizes = [(224, 3, 64), (224, 64, 64), (112, 64, 128), (112, 128, 128), (56, 128, 256), *[(56, 256, 256)] * 2]
    sizes += [(28, 256, 512), *[(28, 512, 512)] * 2, *[(14, 512, 512)] * 3]
    multiply_adds = sum(side**2 * 9 * inputs * outputs for side, inputs, outputs in sizes)
    multiply_adds += 25088 * 4096 + 4096 * 4096 + 4096 * 1000
    assert multiply_adds == pytest.approx(15.47e9, rel=1e-3)
    with torch.device("meta"):
        assert summary.flops_per_image(VGG16(), 224) == 3 * 2 * multiply_adds


def test_layers_are_those_of_the_forward_pass() -> None:
    """In order, with the shapes for one image and all parameters."""
    model = VGG16(10, head="compact", batch_norm=True, width=1 / 16)
    layers = summary.layers(model, 32)
    assert [layer.kind for layer in layers[:3]] == ["Conv3x3", "BatchNorm2d", "ReLU"]
    assert (layers[0].name, layers[0].shape, layers[0].parameters) == ("features.0", (4, 32, 32), 4 * 3 * 9 + 4)
    assert (layers[-1].name, layers[-1].shape) == ("classifier.0", (10,))
    assert sum(layer.parameters for layer in layers) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("head", ["paper", "compact"])
def test_layers_have_the_names_of_the_paper(head: str, batch_norm: bool) -> None:
    """Caffe's names for configuration D: 2, 2, 3, 3, 3 convolutions, 3 linear layers; each beside that of its module."""
    convolutions = [f"{block}_{k}" for block, depth in enumerate((2, 2, 3, 3, 3), 1) for k in range(1, depth + 1)]
    named = {f"{kind}{k}" for k in convolutions for kind in (["conv", "bn", "relu"] if batch_norm else ["conv", "relu"])}
    named |= {"pool1", "pool2", "pool3", "pool4", "pool5", "avgpool"}
    named |= {"fc6", "relu6", "drop6", "fc7", "relu7", "drop7", "fc8"} if head == "paper" else {"fc"}
    model = VGG16(10, head=head, batch_norm=batch_norm, width=1 / 16)
    layers = summary.layers(model, 32)
    assert len(layers) == len(named) and {layer.title for layer in layers} == named
    for layer in layers:
        digit = layer.title.partition("_")[0][-1]
        assert layer.block == (f"conv{digit}" if digit in "12345" else "classifier")
        assert layer.title.startswith({"Conv3x3": "conv", "Linear": "fc", "ReLU": "relu"}.get(layer.kind, "")), layer
    at = {layer.title: layer.name for layer in layers}
    assert (at["conv1_1"], at["fc6" if head == "paper" else "fc"]) == ("features.0", "classifier.0")
    assert [layer.title for layer in layers if layer.title.startswith("conv")] == [f"conv{k}" for k in convolutions]


@pytest.mark.parametrize("training", [True, False])
def test_a_summary_leaves_the_network_as_it_was(training: bool) -> None:
    """Its mode, its hooks and its running statistics."""
    model = VGG16(10, head="compact", batch_norm=True, width=1 / 16).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    summary.layers(model, 32)
    summary.flops_per_image(model, 32)
    assert all(module.training == training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
