"""What a network's outputs are worth: a batch gives sums, sums add up, sums give values.

Sums over images, never means of means, so every value is the same for any batch size. All in float64. Memory does not grow
with the data set but for `scores`, three numbers an image, which curves and quantiles need.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from vgg_nll.losses.softmax import log_probabilities

NUM_BINS = 15
NUM_THRESHOLDS = 127  # of precision-recall curves: k / 126
MARGIN_QUANTILES = {"margin_p05": 0.05, "margin_p50": 0.5, "margin_p95": 0.95}


@dataclass
class Sums:
    """Additive over images; scalars are float64 tensors on the device of the logits, so nothing waits for it."""

    images: Tensor
    loss: Tensor  # of the loss that trains, times images
    correct: Tensor
    top5_correct: Tensor
    nll_argmax: Tensor
    nll_argmax_prediction: Tensor
    nll_all_logit: Tensor
    brier: Tensor
    confidence: Tensor
    confidence_correct: Tensor  # confidence, over the images that were right
    true_class_probability: Tensor
    margin: Tensor
    bin_images: Tensor  # [NUM_BINS], by confidence
    bin_correct: Tensor  # [NUM_BINS]
    bin_confidence: Tensor  # [NUM_BINS]
    confusion: Tensor  # [C, C], images by label (row) and prediction (column)
    class_confidence: Tensor  # [C], confidence of the prediction, by label
    class_bin_images: Tensor  # [C, NUM_BINS], of label c, by the probability of class c
    class_bin_probability: Tensor  # [C, NUM_BINS], of every image, by the probability of class c
    threshold_images: Tensor  # [C, NUM_THRESHOLDS], by the probability of class c: in [k, k + 1) / 126
    threshold_positives: Tensor  # [C, NUM_THRESHOLDS], of label c, likewise
    scores: tuple[Tensor, ...]  # one [3, B] a batch: confidence, margin, whether it was right

    @property
    def class_images(self) -> Tensor:
        """[C], by label."""
        return self.confusion.sum(1)

    @property
    def class_correct(self) -> Tensor:
        """[C], by label."""
        return self.confusion.diagonal()

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})


def update(logits: Tensor, target: Tensor, loss: Tensor) -> Sums:
    """The sums of one batch.

    Args:
        logits: [B, C]; target: [B] class indices; loss: scalar, the mean over this batch of the loss that trains.
    """
    logits = logits.double()
    nll, complement_nll, margin = log_probabilities(logits)  # [B, C], [B, C], [B]
    probabilities = torch.exp(-nll)
    confidence, prediction = probabilities.max(dim=1)  # [B]
    correct = (prediction == target).double()
    label = target[:, None]  # no boolean masks from here on: a GPU would be waited for
    of_label = probabilities.gather(1, label)[:, 0]
    is_target = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, label, True)
    top5 = logits.topk(min(5, logits.shape[1]), dim=1).indices
    bins = _bins(confidence)
    ones, classes = torch.ones_like(confidence), logits.shape[1]
    by_class, of_class = _bins(probabilities), _bins(of_label)  # [B, C], [B]
    # Neighbouring doubles of a threshold count with it, as rounding may have moved them.
    steps = (probabilities * (NUM_THRESHOLDS - 1) + 1e-12).long().clamp(0, NUM_THRESHOLDS - 1)  # [B, C]
    every_class = torch.arange(classes, device=logits.device).expand_as(by_class)
    return Sums(
        images=torch.ones_like(confidence).sum(),
        loss=loss.double() * len(logits),
        correct=correct.sum(),
        top5_correct=(top5 == target[:, None]).sum().double(),
        nll_argmax=nll.gather(1, label).sum(),
        nll_argmax_prediction=nll.amin(dim=1).sum(),
        nll_all_logit=torch.where(is_target, nll, complement_nll).sum(),
        brier=(probabilities - is_target.double()).square().sum(),
        confidence=confidence.sum(),
        confidence_correct=(confidence * correct).sum(),
        true_class_probability=of_label.sum(),
        margin=margin.sum(),
        bin_images=_count((NUM_BINS,), ones, bins),
        bin_correct=_count((NUM_BINS,), correct, bins),
        bin_confidence=_count((NUM_BINS,), confidence, bins),
        confusion=_count((classes, classes), ones, target, prediction),
        class_confidence=_count((classes,), confidence, target),
        class_bin_images=_count((classes, NUM_BINS), ones, target, of_class),
        class_bin_probability=_count((classes, NUM_BINS), probabilities, every_class, by_class),
        threshold_images=_count((classes, NUM_THRESHOLDS), torch.ones_like(probabilities), every_class, steps),
        threshold_positives=_count((classes, NUM_THRESHOLDS), ones, target, steps.gather(1, label)[:, 0]),
        scores=(torch.stack([confidence, margin, correct]),),
    )


def compute(sums: Sums) -> dict[str, float]:
    """Values per image, by the names of `metrics.json`; errors of calibration are fractions, natural logarithms everywhere.

    * `brier`: sum over classes of the squared error, in [0, 2].
    * `ece`: expected calibration error, |accuracy - confidence| over 15 equal bins of confidence, weighted by their images
      (arXiv:1706.04599); `mce`: the largest of them; `adaptive_ece`: over 15 bins of equally many images (arXiv:1904.01685);
      `classwise_ece`: of the probability of each class, its mean over classes (arXiv:1910.12656).
    * `overconfidence`: mean confidence less accuracy.
    * `aurc`: area under risk against coverage, the mean error rate of the k most confident images over k = 1 to N
      (arXiv:1705.08500); `auroc`: the chance that a right prediction is more confident than a wrong one, ties count half.
    * `margin_p05`, `margin_p50`, `margin_p95`: quantiles of the margin.

    `confidence_correct` is NaN where nothing was right, `confidence_incorrect` where nothing was wrong, `auroc` in both.
    """
    images = sums.images
    wrong = images - sums.correct
    gaps = (sums.bin_correct - sums.bin_confidence).abs()
    values = {
        "accuracy": sums.correct / images,
        "top5_accuracy": sums.top5_correct / images,
        "loss": sums.loss / images,
        "nll_argmax": sums.nll_argmax / images,
        "nll_argmax_prediction": sums.nll_argmax_prediction / images,
        "nll_all_logit": sums.nll_all_logit / images,
        "brier": sums.brier / images,
        "ece": gaps.sum() / images,
        "mce": (gaps / sums.bin_images.clamp(min=1)).max(),
        "classwise_ece": (sums.class_bin_images - sums.class_bin_probability).abs().sum(1).mean() / images,
        "overconfidence": (sums.confidence - sums.correct) / images,
        "confidence": sums.confidence / images,
        "confidence_correct": sums.confidence_correct / sums.correct,
        "confidence_incorrect": (sums.confidence - sums.confidence_correct) / wrong,
        "true_class_probability": sums.true_class_probability / images,
        "margin": sums.margin / images,
    }
    if wrong == 0:  # the two sums may differ in the last bit, and 1e-16 / 0 is inf
        values["confidence_incorrect"] = torch.tensor(torch.nan)
    return {name: float(value) for name, value in (values | _of_scores(sums)).items()}


def accuracy_coverage(sums: Sums) -> Tensor:
    """[N]: the accuracy on the image that the network is surest of, on the first two, ..., on all (arXiv:1705.08500)."""
    _, margin, correct = _by_margin(sums)
    return _evened(margin, correct).flip(0).cumsum(0) / torch.arange(1, len(correct) + 1)


def precision_recall(sums: Sums) -> Tensor:
    """[C, 6, T]: true and false positives, true and false negatives, precision and recall, where p_c >= k / (T - 1).

    Precision is 1 where nothing is taken for the class; recall is NaN for a class without images.
    """
    # from the largest threshold down, each takes what those above it took
    taken, hits = (counts.flip(1).cumsum(1).flip(1) for counts in (sums.threshold_images, sums.threshold_positives))
    positives, images = hits[:, :1], taken[:, :1]
    precision = (hits / taken).masked_fill(taken == 0, 1.0)
    parts = [hits, taken - hits, images - positives - (taken - hits), positives - hits, precision, hits / positives]
    return torch.stack(parts, dim=1)


def _bins(probabilities: Tensor) -> Tensor:
    """Equal bins over [0, 1]; the last one is closed, so that exactly 1 has a bin. NaN goes into the first."""
    return (probabilities * NUM_BINS).long().clamp(0, NUM_BINS - 1)  # NaN becomes a large negative number


def _count(shape: tuple[int, ...], values: Tensor, *places: Tensor) -> Tensor:
    """A table of `shape`, each value added at its place."""
    return values.new_zeros(shape).index_put_(places, values, accumulate=True)


def _by_margin(sums: Sums) -> Tensor:
    """The scores from the least confident to the most, [3, N]; the margin has the same order, and goes on where p is 1.

    On the CPU: on a GPU, deterministic sums along N cost N^2.
    """
    scores = torch.cat(sums.scores, dim=1).cpu()
    return scores[:, scores[1].argsort(stable=True)]


def _evened(margin: Tensor, correct: Tensor) -> Tensor:
    """`correct`, where equal margins share their mean: which of them comes first says nothing. Both [N], in order."""
    _, group, size = margin.unique_consecutive(return_inverse=True, return_counts=True)
    return (torch.zeros(len(size), dtype=correct.dtype).index_add(0, group, correct) / size)[group]


def _of_scores(sums: Sums) -> dict[str, Tensor]:
    confidence, margin, correct = _by_margin(sums)
    parts = zip(confidence.tensor_split(NUM_BINS), _evened(margin, correct).tensor_split(NUM_BINS), strict=True)
    right, wrong = margin[correct == 1], margin[correct == 0]
    below = torch.searchsorted(wrong, right).double() + torch.searchsorted(wrong, right, right=True)  # twice, ties half
    return {
        "adaptive_ece": sum((c.sum() - r.sum()).abs() for c, r in parts) / len(correct),
        "aurc": (1 - accuracy_coverage(sums)).mean(),
        "auroc": below.sum() / (2 * len(right) * len(wrong)) if len(right) and len(wrong) else torch.tensor(torch.nan),
    } | {name: margin.quantile(q) for name, q in MARGIN_QUANTILES.items()}
