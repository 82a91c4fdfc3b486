"""Evaluation metrics as additive sums: `update` turns one batch into sums, `+` merges them, `compute` divides once at the end.

Sums over images, never means of means: every value is the same for any batch size. All in float64. Memory does not grow with
the data set but for `scores`, six numbers an image, which curves and quantiles need.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from vgg_nll.calibration import bins
from vgg_nll.calibration.bins import NUM_BINS, bin_index
from vgg_nll.calibration.noise_floor import expected_ece
from vgg_nll.calibration.ranking import merge_rounded, share_ties
from vgg_nll.calibration.temperature import nll_at_temperatures
from vgg_nll.losses import log_probabilities

NUM_THRESHOLDS, THRESHOLD_STEP = 127, 0.5  # of precision-recall curves, equal in log-odds: -31.5, -31, ..., 31.5
MARGIN_QUANTILES = {"margin_p05": 0.05, "margin_p50": 0.5, "margin_p95": 0.95}


class PerImageResults(NamedTuple):
    """What each of N images got, in their order; float64 on the CPU."""

    confidence: Tensor  # [N]
    margin: Tensor  # [N], log(p / (1 - p)) of the prediction
    correct: Tensor  # [N], 1 if right, else 0
    true_margin: Tensor  # [N], log(p / (1 - p)) of the label
    prediction: Tensor  # [N]
    target: Tensor  # [N]


class Outputs(NamedTuple):
    """The softmax outputs of one batch, computed once for everything that looks at them; float64."""

    logits: Tensor  # [B, C]
    nll: Tensor  # [B, C], -log p
    complement_nll: Tensor  # [B, C], -log(1 - p)
    probabilities: Tensor  # [B, C]
    margin: Tensor  # [B], log(p / (1 - p)) of the most probable class


def softmax_outputs(logits: Tensor) -> Outputs:
    """Returns exact softmax outputs of logits [B, C] of any floating type, in float64."""
    logits = logits.double()
    nll, complement_nll, margin = log_probabilities(logits)
    return Outputs(logits, nll, complement_nll, torch.exp(-nll), margin)


@dataclass
class Sums:
    """Additive over images; scalars are float64 tensors on the device of the logits, so the host does not wait for it."""

    images: Tensor
    loss: Tensor  # of the loss that trains, times images
    correct: Tensor
    top5_correct: Tensor
    nll_argmax: Tensor
    nll_argmax_prediction: Tensor
    nll_all_logit: Tensor
    nll_at_temperatures: Tensor  # [T], of method 1, with the logits divided by each of `temperature.TEMPERATURES`
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
    threshold_images: Tensor  # [C, NUM_THRESHOLDS], by the log-odds of class c: at least threshold k, below k + 1
    threshold_positives: Tensor  # [C, NUM_THRESHOLDS], of label c, likewise
    scores: tuple[Tensor, ...]  # one [6, B] a batch: the fields of `PerImageResults`

    @property
    def class_images(self) -> Tensor:
        """[C], by label."""
        return self.confusion.sum(1)

    @property
    def class_correct(self) -> Tensor:
        """[C], by label."""
        return self.confusion.diagonal()

    def by_image(self) -> PerImageResults:
        """Returns what each image got."""
        return PerImageResults(*torch.cat(self.scores, dim=1).cpu())

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})


def update(outputs: Outputs, target: Tensor, loss: Tensor) -> Sums:
    """Returns the sums of one batch.

    Args:
        outputs: of B images; target: [B] class indices; loss: scalar, the mean over this batch of the loss that trains.
    """
    logits, nll, complement_nll, probabilities, margin = outputs
    confidence = probabilities.amax(dim=1)  # [B]
    prediction = logits.argmax(dim=1)  # the first of equal logits
    correct = (prediction == target).double()
    label = target[:, None]  # no boolean masks from here on: the host would wait for a GPU
    of_label = probabilities.gather(1, label)[:, 0]
    is_target = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, label, True)
    top5 = _rank(logits, label) < min(5, logits.shape[1])
    of_confidence = bin_index(confidence)
    ones, classes = torch.ones_like(confidence), logits.shape[1]
    by_class, of_class = bin_index(probabilities), bin_index(of_label)  # [B, C], [B]
    log_odds = (complement_nll - nll).nan_to_num(nan=-torch.inf)  # [B, C], log(p / (1 - p)) of every class
    steps = (log_odds / THRESHOLD_STEP).floor().clamp(-NUM_THRESHOLDS, NUM_THRESHOLDS).long() + NUM_THRESHOLDS // 2
    steps = steps.clamp(0, NUM_THRESHOLDS - 1)
    true_margin = (complement_nll - nll).gather(1, label)[:, 0]
    every_class = torch.arange(classes, device=logits.device).expand_as(by_class)
    return Sums(
        images=torch.ones_like(confidence).sum(),
        loss=loss.double() * len(logits),
        correct=correct.sum(),
        top5_correct=top5.sum().double(),
        nll_argmax=nll.gather(1, label).sum(),
        nll_argmax_prediction=nll.amin(dim=1).sum(),
        nll_at_temperatures=nll_at_temperatures(logits, label),
        nll_all_logit=torch.where(is_target, nll, complement_nll).sum(),
        brier=(probabilities - is_target.double()).square().sum(),
        confidence=confidence.sum(),
        confidence_correct=(confidence * correct).sum(),
        true_class_probability=of_label.sum(),
        margin=margin.sum(),
        bin_images=_count((NUM_BINS,), ones, of_confidence),
        bin_correct=_count((NUM_BINS,), correct, of_confidence),
        bin_confidence=_count((NUM_BINS,), confidence, of_confidence),
        confusion=_count((classes, classes), ones, target, prediction),
        class_confidence=_count((classes,), confidence, target),
        class_bin_images=_count((classes, NUM_BINS), ones, target, of_class),
        class_bin_probability=_count((classes, NUM_BINS), probabilities, every_class, by_class),
        threshold_images=_count((classes, NUM_THRESHOLDS), torch.ones_like(probabilities), every_class, steps),
        threshold_positives=_count((classes, NUM_THRESHOLDS), ones, target, steps.gather(1, label)[:, 0]),
        scores=(torch.stack([confidence, margin, correct, true_margin, prediction.double(), target.double()]),),
    )


def compute(sums: Sums) -> dict[str, float]:
    """Returns values per image, by their names in `metrics.json`; `evaluation.registry` says what each of them means.

    Calibration errors are fractions; logarithms are natural. `confidence_correct` is NaN if no image was right,
    `confidence_incorrect` if none was wrong, `auroc` in both cases.
    """
    images = sums.images
    wrong = images - sums.correct
    values = {
        "accuracy": sums.correct / images,
        "balanced_accuracy": balanced_accuracy(sums),
        "top5_accuracy": sums.top5_correct / images,
        "loss": sums.loss / images,
        "nll_argmax": sums.nll_argmax / images,
        "nll_argmax_prediction": sums.nll_argmax_prediction / images,
        "nll_all_logit": sums.nll_all_logit / images,
        "refinement": sums.nll_at_temperatures.min() / images,
        "brier": sums.brier / images,
        **bins.of_bins(sums.bin_images, sums.bin_correct, sums.bin_confidence),
        "ece_noise_floor": expected_ece(sums.bin_images, sums.bin_confidence),
        "classwise_ece": bins.classwise(sums.class_bin_images, sums.class_bin_probability),
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


def balanced_accuracy(sums: Sums) -> Tensor:
    """Returns the mean of the accuracies of the classes that have images: each class counts the same, however rare."""
    has_images = sums.class_images > 0
    return (sums.class_correct[has_images] / sums.class_images[has_images]).mean()


def accuracy_coverage(sums: Sums) -> Tensor:
    """Returns [N]: the accuracy on the most confident image, on the two most confident ones, ..., on all (arXiv:1705.08500)."""
    _, margin, correct = _by_margin(sums)
    return share_ties(margin, correct).flip(0).cumsum(0) / torch.arange(1, len(correct) + 1)


def _count(shape: tuple[int, ...], values: Tensor, *places: Tensor) -> Tensor:
    """Returns a table of `shape` with each value added at its place."""
    return values.new_zeros(shape).index_put_(places, values, accumulate=True)


def _rank(logits: Tensor, label: Tensor) -> Tensor:
    """Returns how many classes come before the label [B]: larger logits, and equal ones of a lower index; C if it is NaN."""
    of_label = logits.gather(1, label)
    before = (logits == of_label) & (torch.arange(logits.shape[1], device=logits.device) < label)
    return (~(logits <= of_label) | before).sum(dim=1)


def _by_margin(sums: Sums) -> Tensor:
    """Returns the scores in order of confidence, [3, N]. The margin has the same order, and still grows when p rounds to 1.

    Margins that differ by rounding only are made equal, so that they tie. `correct` is NaN if the margin is. On the CPU: on a
    GPU, deterministic sums along N cost N^2.
    """
    images = sums.by_image()
    confidence, margin, correct = torch.stack(images[:3])[:, images.margin.argsort(stable=True)]
    correct = correct.masked_fill(margin.isnan(), torch.nan)
    return torch.stack([confidence, merge_rounded(margin), correct])


def _of_scores(sums: Sums) -> dict[str, Tensor]:
    confidence, margin, correct = _by_margin(sums)
    right, wrong = margin[correct == 1], margin[correct == 0]
    comparable = len(right) and len(wrong) and not margin.isnan().any()
    below = torch.searchsorted(wrong, right).double() + torch.searchsorted(wrong, right, right=True)  # twice, ties half
    return {
        "adaptive_ece": bins.adaptive(confidence, share_ties(margin, correct)),
        "aurc": (1 - accuracy_coverage(sums)).mean(),
        "auroc": below.sum() / (2 * len(right) * len(wrong)) if comparable else torch.tensor(torch.nan),
    } | {name: _quantile(margin, q) for name, q in MARGIN_QUANTILES.items()}


def _quantile(values: Tensor, q: float) -> Tensor:
    """Returns `values.quantile(q)`; between two values of which one is infinite, that one."""
    low, high = (values.quantile(q, interpolation=side) for side in ("lower", "higher"))
    between = torch.where((low + high).isinf(), low + high, values.quantile(q))
    return torch.where(low == high, low, between)
