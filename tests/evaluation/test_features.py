"""What goes to the projector: small pictures, and points whose distances are those of the features."""

import pytest
import torch
from torch import nn

from vgg_nll.evaluation import loop
from vgg_nll.evaluation.features import FeatureCollector, Features, nearest, principal_components


class Network(nn.Module):
    """As wide before its last layer as a test asks for."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features, self.last = nn.Linear(3 * 80 * 80, width), nn.Linear(width, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(self.features(images.flatten(1)).relu())


def collect(network: nn.Module, batches: list[tuple[torch.Tensor, torch.Tensor]], every: int = 1) -> Features:
    with FeatureCollector(network, lambda pictures: (255 * pictures).to(torch.uint8), every) as points, torch.no_grad():
        for images, logits, target in loop.predict_batches(network, batches, torch.float32):
            points.add(images, logits, target)
    return points.features()


@pytest.mark.parametrize(("images", "every"), [(7, 1), (10, 3), (12, 4), (5, 9)])
def test_images_are_evenly_spread(images: int, every: int) -> None:
    """Whatever the batches are: number 0, `every`, 2 `every`, ...; with their own features and logits."""
    torch.manual_seed(0)
    network, pictures, target = Network(5), torch.rand(images, 3, 80, 80), torch.arange(images)
    for size in (1, 3, images):
        found = collect(network, list(zip(pictures.split(size), target.split(size), strict=True)), every)
        assert found.target.tolist() == list(range(0, images, every))
        torch.testing.assert_close(network.last(found.points), found.logits)
        torch.testing.assert_close(network(pictures)[found.target], found.logits)
    assert not network.last._forward_pre_hooks


@pytest.mark.parametrize(("width", "numbers"), [(5, 5), (600, 12)])
def test_every_image(width: int, numbers: int) -> None:
    """12 images in three batches: their features, or as many components as there are images; thumbnails; labels."""
    torch.manual_seed(0)
    network = Network(width)
    images, target = torch.rand(12, 3, 80, 80), torch.arange(12)
    batches = list(zip(images.split(5), target.split(5), strict=True))
    found = collect(network, batches)
    assert found.points.shape == (12, numbers)
    assert torch.equal(found.target, target)
    assert (found.pictures.shape, found.pictures.dtype) == ((12, 3, 64, 64), torch.uint8)
    assert found.pictures.float().mean() == pytest.approx(127, abs=1)
    with torch.no_grad():
        features = network.features(images.flatten(1)).relu()
    torch.testing.assert_close(torch.cdist(found.points, found.points), torch.cdist(features, features), atol=1e-3, rtol=1e-3)
    assert network.training  # as it was


def test_principal_components_are_those_of_numpy() -> None:
    """Up to their signs; the largest first."""
    draw = torch.Generator().manual_seed(0)
    points = torch.randn(40, 60, generator=draw) * torch.linspace(0.1, 3, 60) + 5
    found = principal_components(points, 7)
    u, s, _ = torch.linalg.svd(points.double() - points.double().mean(0), full_matrices=False)
    torch.testing.assert_close(found.abs(), (u * s)[:, :7].abs().float(), atol=1e-4, rtol=1e-4)


def test_few_numbers_stay_as_they_are() -> None:
    points = torch.randn(10, 7)
    assert principal_components(points, 7) is points


def test_nearest_is_what_points_the_same_way() -> None:
    """Compared with a loop over the cosines; a point of any length, of zeros too, has neighbours."""
    draw = torch.Generator().manual_seed(0)
    points, others = torch.randn(5, 6, generator=draw), torch.randn(30, 6, generator=draw)
    others[7] = 100 * points[2]
    points[4] = 0
    index, similarity = nearest(points, others, 3)
    for k in range(4):
        cosines = [float(torch.nn.functional.cosine_similarity(points[k], other, dim=0)) for other in others]
        assert index[k].tolist() == sorted(range(30), key=lambda j: -cosines[j])[:3]
        assert similarity[k].tolist() == pytest.approx(sorted(cosines, reverse=True)[:3], abs=1e-6)
    assert index[2, 0] == 7 and index[4].tolist() == [0, 1, 2]
    assert nearest(points, others[:2], 3)[0].shape == (5, 2)
