"""Writes decomposition_values.json: temperature and vector scaling, refinement and calibration, as probmetrics computes them.

probmetrics (Apache-2.0) need not be installed to run the tests. To make the values again, in an environment of their own:

    pip install --target REFERENCE --no-deps probmetrics==1.3.0 pytorch-minimize==0.1.0 numba llvmlite pandas
    PYTHONPATH=REFERENCE:. python tests/calibration/make_decomposition_values.py

Two things are changed, and the models stay. probmetrics fits temperatures without smoothing: here it fits them to a data set in
which each image stands `C (n + 1)` times with its label and once with each class, which is what the smoothing of
`vgg_nll.calibration.temperature` amounts to. And its optimizers go on until they are as exact as float64 allows. "as_is" are
figures of the library without these changes, on its own folds.
"""

import functools
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import probmetrics.calibrators.logistic as logistic  # type: ignore[import-not-found]
import torch
from probmetrics.calibrators import SVSCalibrator, TemperatureScalingCalibrator
from probmetrics.calibrators.base import Calibrator  # type: ignore[import-not-found]
from probmetrics.distributions import CategoricalDirac, CategoricalLogits  # type: ignore[import-not-found]
from probmetrics.metrics import (  # type: ignore[import-not-found]
    BrierLoss,
    CombinedMetrics,
    LogLoss,
    Metrics,
    MetricsWithCalibration,
)

from vgg_nll.calibration.decomposition import random_folds

PACKAGES = ("probmetrics", "pytorch-minimize", "torch", "numpy")
BISECTIONS = 80  # of an interval of 32: down to the last digit


class SmoothedTemperature(Calibrator):  # type: ignore[misc]
    """TemperatureScalingCalibrator on the repeated data set."""

    def _fit_torch_impl(self, y_pred: Any, y_true_labels: torch.Tensor) -> None:
        log_p = y_pred.get_probs().log()
        images, classes = log_p.shape
        repeats = classes * (images + 1)
        labels = torch.cat([y_true_labels[:, None].expand(-1, repeats), torch.arange(classes).expand(images, -1)], dim=1)
        rows = log_p.repeat_interleave(labels.shape[1], dim=0)
        self.scaling_ = TemperatureScalingCalibrator(max_bisection_steps=BISECTIONS)
        self.scaling_.fit_torch(CategoricalLogits(rows), labels.flatten())

    def _predict_proba_torch_impl(self, y_pred: Any) -> Any:
        return self.scaling_.predict_proba_torch(CategoricalLogits(y_pred.get_probs().log()))


class VectorScaling(SmoothedTemperature):
    """The second step of SVSCalibrator on top of SmoothedTemperature, in float64."""

    def _fit_torch_impl(self, y_pred: Any, y_true_labels: torch.Tensor) -> None:
        super()._fit_torch_impl(y_pred, y_true_labels)
        log_p = super()._predict_proba_torch_impl(y_pred).get_probs().log()
        images, classes = log_p.shape
        # The library's defaults: lambda = 1, rho = 1, tau = 1.
        factor, shift = SVSCalibrator()._fit_bfgs(log_p, y_true_labels, classes, classes / images, classes / images)
        self.factor_, self.shift_ = torch.as_tensor(factor), torch.as_tensor(shift)

    def _predict_proba_torch_impl(self, y_pred: Any) -> Any:
        log_p = super()._predict_proba_torch_impl(y_pred).get_probs().log()
        return CategoricalLogits(self.factor_ * log_p + self.shift_)


class OurFolds:
    """The folds of `vgg_nll.calibration.decomposition`."""

    def get_splits(self, y_true: Any, random_state: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        fold = random_folds(y_true.get_n_samples(), random_state).numpy()
        return ((np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(fold.max() + 1))

    def get_name(self) -> str:
        return "ours"


def inputs() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yields names, logits [N, C] and labels [N]."""
    draw = np.random.default_rng(0)
    for name, images, classes, scale, labelled in (
        ("overconfident", 120, 4, 3.0, 4),
        ("underconfident", 120, 3, 0.4, 3),
        ("two classes", 40, 2, 2.0, 2),
        ("a class without images", 60, 5, 1.5, 4),
        ("fewer images than classes", 10, 12, 1.0, 12),
    ):
        logits = draw.normal(size=(images, classes))
        shifted = 1.5 * logits + draw.normal(size=classes) + draw.gumbel(size=logits.shape)
        yield name, np.round(scale * 1.5 * logits, 2), shifted[:, :labelled].argmax(1)


def values(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    target, outputs = CategoricalDirac(labels, logits.shape[1]), CategoricalLogits(logits)
    scores = CombinedMetrics([LogLoss(), BrierLoss()])
    found: dict[str, float] = {}
    for suffix, calibrator in (("", SmoothedTemperature()), ("_svs", VectorScaling())):
        parts = MetricsWithCalibration(scores, calibrator, val_splitter=OurFolds(), cal_name="x", random_state=0)
        for name, value in parts.compute_all(target, outputs).items():
            part, score = name.removesuffix("_x_ours").split("_")
            key = f"{part.replace('calib-err', 'calibration')}_{score.replace('logloss', 'nll')}{suffix}"
            found[key] = value.item()
    whole = VectorScaling().fit_torch(outputs, labels)
    names = [f"{part}_{score}_ts-mix_cv-5" for score in ("logloss", "brier") for part in ("refinement", "calib-err")]
    as_is = {} if len(labels) < 40 else Metrics.from_names(names).compute_all(target, outputs)
    return {
        "temperature": 1 / whole.scaling_.invtemp_,
        "factor": whole.factor_.tolist(),
        "shift": whole.shift_.tolist(),
        "decomposition": found,
        "as_is": {name: value.item() for name, value in as_is.items()},
    }


def main() -> None:
    exact = {"gtol": 1e-11, "xtol": 0.0, "gtd_tol": 0.0}
    logistic.torchmin.minimize = functools.partial(logistic.torchmin.minimize, options=exact)
    cases = [
        {"name": name, "logits": logits.tolist(), "labels": labels.tolist()}
        | values(torch.from_numpy(logits), torch.from_numpy(labels))
        for name, logits, labels in inputs()
    ]
    content = {"versions": {package: version(package) for package in PACKAGES}, "cases": cases}
    Path(__file__).with_name("decomposition_values.json").write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
