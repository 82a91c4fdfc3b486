"""Precision-recall curves against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, confusion_matrix, precision_score, recall_score

from vgg_nll.evaluation.curves import average_precision, precision_recall
from vgg_nll.evaluation.metrics import NUM_THRESHOLDS, Sums, softmax_outputs, update


def sample(scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """300 images of 10 classes; with a large scale, sure ones."""
    draw = torch.Generator().manual_seed(0)
    target = torch.arange(300) % 10
    logits = torch.randn(300, 10, generator=draw, dtype=torch.float64)
    logits[range(300), target] += 1
    return scale * logits, target


def sums_of(logits: torch.Tensor, target: torch.Tensor) -> Sums:
    parts = [
        update(softmax_outputs(part), labels, torch.tensor(0.0))
        for part, labels in zip(logits.split(70), target.split(70), strict=True)
    ]
    return sum(parts[1:], parts[0])


def log_odds(logits: torch.Tensor) -> torch.Tensor:
    """log(p / (1 - p)) of every class: its logit less the logarithm of the sum of the others' exponentials."""
    others = [torch.cat([logits[:, :c], logits[:, c + 1 :]], dim=1).logsumexp(1) for c in range(logits.shape[1])]
    return logits - torch.stack(others, dim=1)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1, 20])
def test_precision_and_recall(scale: float) -> None:
    """scikit-learn's confusion at thresholds of log-odds, class by class, in batches."""
    logits, target = sample(scale)
    curves, scores = precision_recall(sums_of(logits, target)), log_odds(logits)
    assert curves.shape == (10, 6, NUM_THRESHOLDS)
    for c in range(10):
        for k in (0, 1, 30, 55, 60, 63, 64, 66, 80, 100, 126):
            taken = scores[:, c] >= ((k - 63) / 2 if k > 0 else -np.inf)
            (rest, false), (misses, hits) = confusion_matrix(target == c, taken, labels=[False, True])
            assert curves[c, :4, k].tolist() == [hits, false, rest, misses]
            precision = precision_score(target == c, taken, zero_division=1.0)
            assert curves[c, 4:, k].tolist() == pytest.approx([precision, recall_score(target == c, taken)])


@pytest.mark.parametrize("scale", [1, 20])
def test_average_precision(scale: float) -> None:
    """scikit-learn's, of scores rounded down to the thresholds; and near that of the scores themselves."""
    logits, target = sample(scale)
    found, scores = average_precision(sums_of(logits, target)), log_odds(logits)
    rounded = (scores * 2).floor().clamp(-63, 63)
    for c in range(10):
        assert float(found[c]) == pytest.approx(average_precision_score(target == c, rounded[:, c]), rel=1e-12)
        assert float(found[c]) == pytest.approx(average_precision_score(target == c, scores[:, c]), abs=0.06)


def test_the_ends() -> None:
    """Sure of class 0 of three, once right and once wrong; no image of class 2."""
    sums = sums_of(torch.tensor([[1e4, 0.0, 0.0]] * 2, dtype=torch.float64), torch.tensor([0, 1]))
    curves = precision_recall(sums)
    assert curves[0, :, -1].tolist() == [1, 1, 0, 0, 0.5, 1]  # log-odds of 10,000 are above the last threshold
    assert curves[1, :, 0].tolist() == [1, 1, 0, 0, 0.5, 1]  # and -10,000 counts at the first
    assert curves[1, :, 1].tolist() == [0, 0, 1, 1, 1, 0]
    assert curves[2, 5].isnan().all()
    assert average_precision(sums).isnan().tolist() == [False, False, True]


def test_a_trained_network_has_a_curve_and_not_one_step() -> None:
    """Probabilities within 1e-6 of 0 and 1, which thresholds equal in p would not tell apart."""
    logits, target = sample(20)
    curves = precision_recall(sums_of(logits, target))
    assert min(len(curve[5].unique()) for curve in curves) > 8
