"""The most confident errors: the same for every batch size, and in order also if every confidence is 1."""

import pytest
import torch

from vgg_nll.evaluation.metrics import softmax_outputs
from vgg_nll.evaluation.most_confident_errors import TopErrors


@pytest.mark.parametrize("by_label", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 200])
def test_the_most_confident_errors_are_kept(batch_size: int, by_label: bool) -> None:
    """Or those whose label is least probable."""
    draw = torch.Generator().manual_seed(0)
    logits, target = 3 * torch.randn(200, 5, generator=draw), torch.randint(5, (200,), generator=draw)
    images = torch.arange(200.0)[:, None, None, None].expand(200, 3, 2, 2)
    errors = TopErrors(16, by_label=by_label)
    for start in range(0, 200, batch_size):
        part = slice(start, start + batch_size)
        errors.update(images[part], softmax_outputs(logits[part]), target[part])
    p = logits.double().softmax(1)
    wrong = [i for i in range(200) if p[i].argmax() != target[i]]
    expected = sorted(wrong, key=lambda i: p[i][target[i]] if by_label else -p[i].max())[:16]
    found = errors.top
    assert found.images[:, 0, 0, 0].int().tolist() == expected
    torch.testing.assert_close(found.probabilities, p[expected])
    assert torch.equal(found.target, target[expected])
    of_label = p[expected].gather(1, target[expected, None])[:, 0]
    torch.testing.assert_close(found.margin, -torch.logit(of_label) if by_label else torch.logit(p[expected].amax(1)))


def test_beyond_a_confidence_of_one() -> None:
    """Both outputs are exactly 1, even in float64; the second has the larger margin."""
    errors = TopErrors(2)
    errors.update(
        torch.zeros(3, 3, 1, 1), softmax_outputs(torch.tensor([[50.0, 0], [60.0, 0], [0, 9.0]])), torch.tensor([1, 1, 1])
    )
    assert errors.top.margin.tolist() == [60, 50]


def test_fewer_errors_than_top_k() -> None:
    errors = TopErrors(16)
    with pytest.raises(ValueError, match="no images"):
        _ = errors.top
    errors.update(torch.zeros(2, 3, 1, 1), softmax_outputs(torch.eye(2)), torch.tensor([0, 1]))
    assert errors.top.images.shape == (0, 3, 1, 1)
    errors.update(torch.zeros(2, 3, 1, 1), softmax_outputs(torch.eye(2)), torch.tensor([0, 0]))
    assert errors.top.images.shape == (1, 3, 1, 1)
