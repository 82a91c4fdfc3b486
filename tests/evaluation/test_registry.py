"""The rows of all metrics: complete, and of one name everywhere."""

import subprocess
import sys

import torch

from vgg_nll.evaluation import calibration, metrics
from vgg_nll.evaluation.registry import GROUPS, METRICS, OverFolds
from vgg_nll.tracking import tags


def computed() -> metrics.Sums:
    logits, target = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 1, 1])
    return metrics.update(metrics.softmax_outputs(logits), target, torch.tensor(1.0))


def test_every_metric_has_a_row() -> None:
    assert metrics.compute(computed()).keys() == METRICS.keys()
    assert {metric.group for metric in METRICS.values()} == set(GROUPS)
    every = [*tags.VALIDATION.values(), *tags.TRAIN_EVAL.values()]
    assert len(set(every)) == len(every) == len(METRICS) + len(tags.TRAIN_EVAL)


def test_metrics_of_bins_are_those_that_bins_give() -> None:
    sums = computed()
    of_bins = calibration.of_bins(sums.bin_images, sums.bin_correct, sums.bin_confidence)
    assert of_bins.keys() == {name for name, metric in METRICS.items() if metric.over_folds is OverFolds.BINS}


def test_names_of_one_number() -> None:
    """The names in files that exist: they stay."""
    assert METRICS["ece"].tag == tags.VALIDATION["ece"] == "calibration/ece"
    assert tags.TRAIN_EVAL == {
        "loss": "loss/train_eval",
        "accuracy": "accuracy/train_eval",
        "nll_argmax": "nll/train_eval",
        "confidence": "confidence/train_eval",
        "ece": "calibration/train_eval",
    }
    best = "loss accuracy nll_argmax nll_all_logit confidence confidence_incorrect margin ece overconfidence auroc"
    assert tuple(best.split()) == tags.BEST_METRICS
    assert {"test/ece", "best/ece"} <= set(tags.HYPERPARAMETER_METRICS)


def test_the_rows_load_no_pytorch() -> None:
    code = "import sys, vgg_nll.tracking.tags; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
