"""One pass over a split, on a network small enough to check by hand."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from vgg_nll.calibration.assess import assess
from vgg_nll.distributed.process_group import Ranks
from vgg_nll.evaluation import loop
from vgg_nll.losses import all_logit_nll


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 4))


def batch(images: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(images, 3, 2, 2, generator=draw), torch.arange(images) % 4


@pytest.mark.parametrize("batch_size", [1, 7])
def test_evaluation_is_one_value_for_every_batch_size(batch_size: int) -> None:
    model = network()
    images, target = batch(20)
    parts = list(zip(images.split(batch_size), target.split(batch_size), strict=True))
    whole = loop.evaluate(model, all_logit_nll, [(images, target)], torch.float32).values
    split = loop.evaluate(model, all_logit_nll, parts, torch.float32).values
    assert split == pytest.approx(whole, abs=1e-5, rel=0)


def test_with_logits_there_are_figures_with_errors() -> None:
    """Those of `assess`, which only all outputs give; the floor of the ECE is drawn, no longer computed from the bins."""
    model, (images, target) = network(), batch(40)
    parts = list(zip(images.split(7), target.split(7), strict=True))
    without = loop.evaluate(model, all_logit_nll, parts, torch.float32)
    whole = loop.evaluate(model, all_logit_nll, parts, torch.float32, keep_logits=True)
    assert without.intervals == {} and without.figures() == without.values and without.logits is None
    with torch.inference_mode():
        logits = model(images)
    assert whole.logits is not None
    torch.testing.assert_close(whole.logits, logits)
    expected = assess(whole.logits, target)
    assert whole.figures() == without.values | expected
    assert whole.values["ece_noise_floor"] == pytest.approx(without.values["ece_noise_floor"], rel=0.1)
    assert "accuracy_interval" in whole.intervals and "refinement_nll_svs" not in whole.values
    assert (
        "refinement_nll_svs"
        in loop.evaluate(model, all_logit_nll, parts, torch.float32, keep_logits=True, with_svs=True).values
    )


def test_evaluation_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), network())
    model.train()
    mean = model[0].running_mean.clone()
    first = loop.evaluate(model, all_logit_nll, [batch()], torch.float32).values
    assert model.training
    assert torch.equal(model[0].running_mean, mean)
    assert loop.evaluate(model, all_logit_nll, [batch()], torch.float32).values == first  # no dropout
    with pytest.raises(ValueError, match="no images"):
        loop.evaluate(model, all_logit_nll, [], torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_predictions_are_float32_in_the_order_of_the_images(dtype: torch.dtype) -> None:
    """Computed in `dtype`: bfloat16 has 8 bits of a logit."""
    model, (images, target) = network(), batch(7)
    batches = list(zip(images.split(3), target.split(3), strict=True))
    with torch.inference_mode():
        found = [torch.cat(parts) for parts in zip(*loop.predict_batches(model, batches, dtype), strict=True)]
        expected = model(images)
    assert torch.equal(found[0], images) and torch.equal(found[2], target)
    assert found[1].dtype == torch.float32
    error = (found[1] - expected).abs().max()
    assert (error < 1e-5) if dtype == torch.float32 else (1e-5 < error < 3e-2)


def test_an_error_of_the_data_leaves_the_model_in_its_mode() -> None:
    def broken() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield batch()
        raise OSError("gone")

    model = network().train()
    with pytest.raises(OSError, match="gone"):
        loop.evaluate(model, all_logit_nll, broken(), torch.float32)
    assert model.training


class Other(Ranks):
    """Rank 0 of two in this process: the other one, as a test says."""

    sent: list[object]

    def gather(self, value: object) -> list[object]:
        return [value, self.sent.pop(0)]

    def all_reduce_sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor


def test_batches_of_all_ranks_are_added_in_their_order() -> None:
    """Rank 0 has the batches 0 and 2, rank 1 has batch 1: the sums are those of one process, to the bit."""
    model, (images, target) = network().eval(), batch(7)
    parts = list(zip(images.split(3), target.split(3), strict=True))
    whole = loop.evaluate(model, all_logit_nll, parts, torch.float32)
    with torch.inference_mode():
        logits = model(parts[1][0])
    ranks = Other(0, 2)
    object.__setattr__(ranks, "sent", [(logits, parts[1][1], parts[1][0].shape, torch.float32), None])
    both = loop.evaluate(model, all_logit_nll, parts[::2], torch.float32, ranks)
    assert both.values == whole.values
    assert torch.equal(both.sums.confusion, whole.sums.confusion)
    assert both.sums.by_image().margin.tolist() == whole.sums.by_image().margin.tolist()


def test_mistakes_are_kept_if_asked_for() -> None:
    """Those whose label is least probable, for any size of the batches."""
    model, (images, target) = network().eval(), batch(40)
    with torch.inference_mode():
        p = model(images).double().softmax(1)
    wrong = [k for k in range(40) if p[k].argmax() != target[k]]
    expected = sorted(wrong, key=lambda k: p[k, target[k]])[:3]
    assert len(wrong) > 3
    for size in (7, 40):
        parts = list(zip(images.split(size), target.split(size), strict=True))
        found = loop.evaluate(model, all_logit_nll, parts, torch.float32, keep_mistakes=3).least_probable_labels
        assert found is not None and torch.equal(found.images, images[expected])
    assert loop.evaluate(model, all_logit_nll, parts, torch.float32).least_probable_labels is None
