"""VGG-16: the network, its layers, its summary."""

from vgg_nll.model.vgg import VGG16, has_deterministic_pool, head_for, imagenet_classes

__all__ = ["VGG16", "has_deterministic_pool", "head_for", "imagenet_classes"]
