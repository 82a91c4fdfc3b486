"""VGG-16: configuration D of Simonyan and Zisserman (arXiv:1409.1556), with a softmax over its logits.

Parameter names are torchvision's, so the state dicts of its `vgg16` and `vgg16_bn` load as they are.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models import VGG16_BN_Weights, VGG16_Weights, WeightsEnum

from vgg_nll.model.layers import AveragePool, Conv3x3

HEADS = ("paper", "compact")


class VGG16(nn.Module):
    """VGG-16. `forward` gives logits; `probabilities` gives their softmax.

    Args:
        num_classes: C.
        batch_norm: batch normalisation after every convolution (torchvision's `vgg16_bn`).
        head: "paper", 7x7 adaptive average pool and three linear layers of 4096, 4096, C (138,357,544 parameters with
            1000 classes, 138,365,992 with batch norm); "compact", global average pool and one linear layer, for images
            whose last feature map is much smaller than 7x7.
        dropout: probability after each hidden linear layer of the paper head.
        width: factor of every channel count but 3 and C, rounded, at least 1: for tests, and for studies of many seeds.

    Convolutions start He-normal (arXiv:1502.01852), linear layers at N(0, 0.01), biases at 0. PyTorch's default shrinks
    the activations by 2.4 a layer: the loss of plain VGG-16 then stays at `ln C`.

    Attributes:
        backbone_prefix, head_prefix: how the names of the parameters before the pool begin, and of those after it.
        first_weight: the name of the first convolution's weight, which every state dict of this network holds.
    """

    # Output channels of the 3x3 convolutions; after each block, a pool halves height and width.
    configuration: tuple[tuple[int, ...], ...] = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
    backbone_prefix = "features."
    head_prefix = "classifier."
    first_weight = "features.0.weight"

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        batch_norm: bool = False,
        head: str = "paper",
        dropout: float = 0.5,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        if not 0 < width <= 8:
            raise ValueError(f"width must be more than 0 and at most 8, got {width}")
        self.num_classes, self.batch_norm = num_classes, batch_norm
        self.features, channels = _features(self.configuration, batch_norm, width)
        hidden = _scaled(4096, width)
        if head == "paper":
            self.avgpool = AveragePool(7)
            self.classifier = nn.Sequential(
                nn.Linear(channels * 7 * 7, hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                nn.Linear(hidden, hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                nn.Linear(hidden, num_classes),
            )
        elif head == "compact":
            self.avgpool = AveragePool(1)
            self.classifier = nn.Sequential(nn.Linear(channels, num_classes))
        else:
            raise ValueError(f"head must be one of {', '.join(HEADS)}, got {head!r}")
        self.apply(_initialise)
        self.frozen = ""  # the prefix of the names of frozen layers

    def freeze(self, prefix: str) -> None:
        """Freezes the layers whose names begin with `prefix` ("features", "features.0", "classifier"); "" freezes none.

        Their weights get no gradients, and their batch norm keeps its mean and variance, as in eval mode.

        Raises ValueError if there are no such layers.
        """
        self.frozen = prefix
        if prefix and not any(self._is_frozen(name) for name, _ in self.named_parameters()):
            raise ValueError(f"there is no such layer; there are {', '.join(name for name, _ in self.named_children())}")
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(not self._is_frozen(name))

    def train(self, mode: bool = True) -> "VGG16":
        """Sets the mode; frozen layers stay in eval mode."""
        super().train(mode)
        if mode and self.frozen:
            for name, module in self.named_modules():
                if self._is_frozen(name):
                    module.eval()
        return self

    @property
    def has_frozen_backbone(self) -> bool:
        """Whether the whole backbone is frozen, and the head is trained."""
        return f"{self.frozen}." == self.backbone_prefix

    @property
    def pretrained_weights(self) -> WeightsEnum:
        """torchvision's ImageNet weights of this network. (`IMAGENET1K_FEATURES` has no head, and takes other pixels.)"""
        return VGG16_BN_Weights.IMAGENET1K_V1 if self.batch_norm else VGG16_Weights.IMAGENET1K_V1

    def head(self, pooled: Tensor) -> Tensor:
        """Maps the pooled features [B, D, h, w], as `pool` gives them, to logits [B, C], in the type of the weights.

        Under autocast, too: with bfloat16 logits one image in a hundred has two classes that tie for the first place.
        """
        features = torch.flatten(pooled, 1)
        for layer in self.classifier[:-1]:
            features = layer(features)
        last = cast(nn.Linear, self.classifier[-1])
        if features.dtype == last.weight.dtype:  # no autocast
            return last(features)
        with torch.autocast(features.device.type, enabled=False):
            return last(features.to(last.weight.dtype))

    def pool(self, images: Tensor) -> Tensor:
        """Maps [B, 3, H, W] to what the head takes: [B, 512, 7, 7] (paper), [B, 512, 1, 1] (compact)."""
        return self.avgpool(self.features(images))

    @property
    def pooled_size(self) -> int:
        """Numbers that the head takes for one image."""
        return next(module for module in self.classifier if isinstance(module, nn.Linear)).in_features

    def _is_frozen(self, name: str) -> bool:
        return bool(self.frozen) and f"{name}.".startswith(f"{self.frozen}.")

    def forward(self, images: Tensor) -> Tensor:
        """Maps [B, 3, H, W], H and W at least 32, to logits [B, C]."""
        return self.head(self.pool(images))

    def probabilities(self, images: Tensor) -> Tensor:
        """Maps [B, 3, H, W] to the softmax of the logits [B, C] in float32: in [0, 1], rows sum to 1."""
        return self.forward(images).float().softmax(dim=1)


def head_for(image_size: int) -> str:
    """Returns the head that `auto` means: "paper" if the last feature map is at least 7x7, else "compact"."""
    return "paper" if image_size // 32 >= 7 else "compact"


def has_deterministic_pool(head: str, image_size: int) -> bool:
    """Returns whether the pool of a head has a deterministic gradient on a GPU: PyTorch has none for maps not of 7x7."""
    return head != "paper" or image_size // 32 == 7


def imagenet_classes() -> tuple[str, ...]:
    """Returns the English names of ImageNet's 1,000 classes, in the order of the outputs of the pretrained weights."""
    return tuple(VGG16_Weights.IMAGENET1K_V1.meta["categories"])


def _features(configuration: tuple[tuple[int, ...], ...], batch_norm: bool, width: float) -> tuple[nn.Sequential, int]:
    """Returns the layers before the head, and the number of their output channels.

    A map is pooled before its ReLU: the same values and gradients as in the paper's order, for a quarter of the ReLU's work.
    """
    layers: list[nn.Module] = []
    channels = 3
    for block in configuration:
        for position, size in enumerate(block, 1):
            outputs = _scaled(size, width)
            layers.append(Conv3x3(channels, outputs))
            if batch_norm:
                layers.append(nn.BatchNorm2d(outputs))
            if position == len(block):
                layers.append(nn.MaxPool2d(2))
            layers.append(nn.ReLU(inplace=True))
            channels = outputs
    return nn.Sequential(*layers), channels


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        # torchvision uses fan-out for every layer, which makes the first one 4.6 times too small for its 3 input channels.
        # Fan-in keeps the scale of the image.
        nn.init.kaiming_normal_(module.weight, mode="fan_in" if module.in_channels == 3 else "fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.01)
    if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
        nn.init.zeros_(module.bias)
