"""The rows of all metrics: complete, and of one name everywhere."""

import subprocess
import sys

import torch

from vgg_nll.calibration import bins
from vgg_nll.calibration.assess import assess
from vgg_nll.evaluation import metrics
from vgg_nll.evaluation.registry import GROUPS, METRICS, OverFolds, View, shown_in
from vgg_nll.tracking import tags

TAGS = {
    "loss": "loss/val",
    "accuracy": "accuracy/val",
    "balanced_accuracy": "accuracy/val_balanced",
    "top5_accuracy": "accuracy/val_top5",
    "nll_argmax": "nll/argmax",
    "nll_argmax_prediction": "nll/argmax_prediction",
    "nll_all_logit": "nll/all_logit",
    "refinement": "nll/refinement",
    "brier": "calibration/brier",
    "confidence": "confidence/mean",
    "confidence_correct": "confidence/correct",
    "confidence_incorrect": "confidence/incorrect",
    "true_class_probability": "confidence/true_class",
    "margin": "confidence/margin",
    "margin_p05": "confidence/margin_p05",
    "margin_p50": "confidence/margin_p50",
    "margin_p95": "confidence/margin_p95",
    "ece": "calibration/ece",
    "ece_noise_floor": "calibration/ece_floor",
    "mce": "calibration/mce",
    "adaptive_ece": "calibration/adaptive_ece",
    "classwise_ece": "calibration/classwise_ece",
    "overconfidence": "calibration/overconfidence",
    "aurc": "selection/aurc",
    "auroc": "selection/auroc",
}


def computed() -> metrics.Sums:
    logits, target = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 1, 1])
    return metrics.update(metrics.softmax_outputs(logits), target, torch.tensor(1.0))


def test_every_metric_has_a_row() -> None:
    """Those of validations have a tag; the others need all outputs at once."""
    of_validations = metrics.compute(computed()).keys()
    assert of_validations == tags.VALIDATION.keys() == {name for name, metric in METRICS.items() if metric.tag}
    found = assess(torch.eye(3).repeat(4, 1), torch.arange(12) % 3, with_svs=True, draws=5)
    numbers = {name for name, value in found.items() if isinstance(value, float)}
    assert of_validations | numbers == METRICS.keys() and of_validations & numbers == {"ece_noise_floor"}
    of_intervals = {name.removesuffix("_interval") for name in found.keys() - numbers}
    assert of_intervals <= {metric.name for metric in shown_in(View.TABLE)}
    assert {name for name in METRICS if View.FILES in METRICS[name].views} == {name for name in METRICS if "_svs" in name}
    assert {metric.group for metric in METRICS.values()} == set(GROUPS)
    every = [*tags.VALIDATION.values(), *tags.TRAIN_EVAL.values()]
    assert len(set(every)) == len(every)


def test_metrics_of_bins_are_those_that_bins_give() -> None:
    sums = computed()
    of_bins = bins.of_bins(sums.bin_images, sums.bin_correct, sums.bin_confidence)
    assert of_bins.keys() == {name for name, metric in METRICS.items() if metric.over_folds is OverFolds.BINS}


def test_names_in_files_that_exist_stay() -> None:
    assert TAGS.items() <= tags.VALIDATION.items()
    of_train = ("loss/train_eval", "accuracy/train_eval", "nll/train_eval", "confidence/train_eval", "calibration/train_eval")
    assert set(of_train) <= set(tags.TRAIN_EVAL.values())
    best = "loss accuracy nll_argmax nll_all_logit confidence confidence_incorrect margin ece overconfidence auroc"
    assert set(best.split()) <= set(tags.BEST_METRICS)
    assert {"test/ece", "best/ece"} <= set(tags.HYPERPARAMETER_METRICS)


def test_the_rows_load_no_pytorch() -> None:
    code = "import sys, vgg_nll.tracking.tags; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
