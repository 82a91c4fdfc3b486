"""Figures of each class, and the mean of a network's outputs over mirror images."""

import torch
from sklearn.metrics import balanced_accuracy_score
from torch import nn

from vgg_nll.evaluation import metrics
from vgg_nll.evaluation.flip import FlipAveraged
from vgg_nll.evaluation.metrics import balanced_accuracy
from vgg_nll.evaluation.per_class import per_class
from vgg_nll.model import VGG16


def test_balanced_accuracy_is_scikit_learns() -> None:
    draw = torch.Generator().manual_seed(0)
    target = torch.cat([torch.zeros(80), torch.ones(15), torch.full((5,), 2)]).long()
    logits = torch.randn(100, 4, generator=draw)
    sums = metrics.update(metrics.softmax_outputs(logits), target, torch.tensor(0.0))
    expected = balanced_accuracy_score(target.numpy(), logits.argmax(1).numpy())
    assert abs(balanced_accuracy(sums) - expected) < 1e-12
    found = per_class(["a", "b", "c", "d"], sums)
    assert [row["images"] for row in found.values()] == [80, 15, 5, 0]
    assert found["d"]["accuracy"] is None and found["d"]["confidence"] is None
    right = (logits.argmax(1) == target)[:80].double().mean().item()
    assert abs((found["a"]["accuracy"] or 0) - right) < 1e-12


def test_flip_is_the_mean_of_two_softmax_outputs() -> None:
    model: nn.Module = VGG16(3, head="compact", width=1 / 16).eval()
    nn.init.normal_(model.classifier[0].weight, 0, 3)
    images = torch.randn(5, 3, 32, 32)
    mean = (model(images).softmax(1) + model(images.flip(3)).softmax(1)) / 2
    torch.testing.assert_close(FlipAveraged(model)(images).softmax(1), mean)
    torch.testing.assert_close(FlipAveraged(model)(images), FlipAveraged(model)(images.flip(3)))
