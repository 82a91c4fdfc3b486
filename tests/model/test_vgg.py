"""VGG-16 against torchvision's, its width, and its initialisation."""

import copy
import math
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from vgg_nll.losses import all_logit_nll, argmax_nll
from vgg_nll.model import VGG16, head_for


def draw_state(model: nn.Module) -> None:
    """Draws weights that keep the scale of the activations, biases, and running statistics that are not 0 and 1."""
    random = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            limit = math.sqrt(6 / module.weight[0].numel())
            nn.init.uniform_(module.weight, -limit, limit, generator=random)
            nn.init.uniform_(module.bias, -0.1, 0.1, generator=random)
        elif isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.weight, 0.8, 1.2),
                (module.bias, -0.1, 0.1),
                (module.running_mean, -0.1, 0.1),
                (module.running_var, 0.8, 1.2),
            ):
                nn.init.uniform_(values, low, high, generator=random)


@pytest.mark.slow
@pytest.mark.parametrize(("batch_norm", "parameters"), [(False, 138_357_544), (True, 138_365_992)])
def test_paper_head_is_torchvisions(batch_norm: bool, parameters: int) -> None:
    """Same number of parameters, same names and shapes, and the same logits from the same weights."""
    with torch.device("meta"):  # neither draws 138 million weights that are replaced anyway
        reference = (torchvision.models.vgg16_bn if batch_norm else torchvision.models.vgg16)(init_weights=False).eval()
        model = VGG16(batch_norm=batch_norm, width=1.0).eval()
    shapes = {name: p.shape for name, p in model.named_parameters()}
    assert shapes == {name: p.shape for name, p in reference.named_parameters()}
    assert sum(p.numel() for p in model.parameters()) == parameters
    draw_state(reference.to_empty(device="cpu"))
    model.load_state_dict(reference.state_dict(), strict=True, assign=True)
    for size in ((224, 224), (288, 256), (64, 128)):  # maps as large as the 7x7 pool, larger, smaller
        images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            logits = reference(images)
            assert logits.std() > 0.1
            torch.testing.assert_close(model(images), logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_compact_head_is_small(batch_norm: bool) -> None:
    torch.manual_seed(0)
    model = VGG16(10, batch_norm=batch_norm, head="compact").eval()
    assert sum(p.numel() for p in model.classifier.parameters()) == 512 * 10 + 10
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert model(torch.randn(2, 3, 64, 48)).shape == (2, 10)


def test_probabilities_are_a_softmax() -> None:
    torch.manual_seed(0)
    model = VGG16(7, head="compact").eval()
    images = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        p, logits = model.probabilities(images), model(images)
    assert p.min() >= 0
    assert p.max() <= 1
    torch.testing.assert_close(p.sum(1), torch.ones(4), atol=1e-6, rtol=0)
    assert torch.equal(p.argsort(1), logits.argsort(1))  # same order as the logits


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_untrained_network_is_undecided_but_alive(batch_norm: bool, num_classes: int) -> None:
    """Losses within 2% of a constant prediction, but logits differ between images (PyTorch's default init fails here)."""
    torch.manual_seed(1)
    model = VGG16(num_classes, batch_norm=batch_norm, head="compact")
    images = torch.randn(64, 3, 32, 32)
    target = torch.arange(64) % num_classes
    with torch.inference_mode():
        logits = model(images)  # in training mode: running statistics are not trained
    assert logits.std() > 1e-2
    # Between images: 0.008 (PyTorch's default, without batch norm: 4e-7); small because pooled noise images are similar.
    assert logits.std(0).mean() > 5e-3
    constant = math.log(num_classes)
    assert argmax_nll(logits, target).item() == pytest.approx(constant, rel=0.02)
    both = constant + (num_classes - 1) * math.log(num_classes / (num_classes - 1))
    assert all_logit_nll(logits, target).item() == pytest.approx(both, rel=0.02)


def test_initialisation() -> None:
    torch.manual_seed(0)
    model = VGG16(10, head="compact")
    first, convolution, linear = model.features[0], model.features[-3], model.classifier[0]
    assert first.weight.std().item() == pytest.approx(math.sqrt(2 / (3 * 9)), rel=0.05)
    assert convolution.weight.std().item() == pytest.approx(math.sqrt(2 / (512 * 9)), rel=0.01)
    assert linear.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert all((p == 0).all() for name, p in model.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize(("image_size", "head"), [(32, "compact"), (223, "compact"), (224, "paper"), (320, "paper")])
def test_auto_head(image_size: int, head: str) -> None:
    assert head_for(image_size) == head


@pytest.mark.parametrize("options", [{"num_classes": 1}, {"head": "large"}, {"dropout": 1.0}, {"width": 0.0}, {"width": -1.0}])
def test_errors_name_the_argument(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        VGG16(**options)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_pooling_before_relu_changes_no_bit(batch_norm: bool) -> None:
    torch.manual_seed(0)
    own = VGG16(10, batch_norm=batch_norm, head="compact").to(memory_format=torch.channels_last)
    paper = copy.deepcopy(own)
    layers = list(paper.features)
    for position in [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]:
        layers[position : position + 2] = layers[position + 1], layers[position]
    paper.features = nn.Sequential(*layers)
    images = torch.randn(3, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    images[:, :, :16] = 0.5  # ties
    for model in (own, paper):
        model(images).square().sum().backward()
    assert torch.equal(own(images), paper(images))
    for a, b in zip(own.parameters(), paper.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


@pytest.mark.parametrize(("width", "channels", "hidden"), [(0.25, 16, 1024), (2.0, 128, 8192), (1e-4, 1, 1)])
@pytest.mark.parametrize("head", ["compact", "paper"])
def test_width_scales_every_channel_count(head: str, width: float, channels: int, hidden: int) -> None:
    """Except those of the image and of the classes; each at least 1."""
    with torch.device("meta"):
        model, full = VGG16(7, head=head, width=width, batch_norm=True), VGG16(7, head=head, batch_norm=True)
    shapes = {name: p.shape for name, p in model.named_parameters()}
    assert list(shapes) == [name for name, _ in full.named_parameters()]
    assert shapes["features.0.weight"] == (channels, 3, 3, 3)
    last = max(1, round(512 * width))
    assert shapes["features.40.weight"] == (last, last, 3, 3)
    linear = [shape for name, shape in shapes.items() if name.startswith("classifier") and len(shape) == 2]
    assert linear == ([(7, last)] if head == "compact" else [(hidden, 49 * last), (hidden, hidden), (7, hidden)])


@pytest.mark.parametrize(("head", "size"), [("compact", 32), ("paper", 224)])
@pytest.mark.parametrize("training", [False, True])
def test_logits_are_float32_under_autocast(head: str, size: int, training: bool) -> None:
    """bfloat16 logits have 3 digits: a prediction in a hundred would be a tie. Their gradients are float32, too."""
    model = VGG16(30, head=head, width=1 / 16, dropout=0.0).train(training)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    seen: list[torch.Tensor] = []
    model.classifier[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
        assert torch.is_autocast_enabled("cpu")
    assert logits.dtype == seen[0].dtype == torch.float32
    torch.testing.assert_close(logits, model.classifier[-1](seen[0]), rtol=0, atol=0)
    logits.sum().backward()
    assert model.classifier[-1].weight.grad.dtype == torch.float32
