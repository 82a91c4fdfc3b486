"""VGG-16: the network, its layers, its summary."""

from vgg_nll.model.vgg import VGG16, head_for

__all__ = ["VGG16", "head_for"]
