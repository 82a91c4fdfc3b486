"""Writes reference_values.json: figures of other packages for the logits of `helpers.outputs.sample`.

The packages are not needed to develop here, so their values are stored. To write them again:

    pip install --no-deps --target other relplot==1.0.3 uncertainty-calibration==0.1.4 netcal==1.4.0 torch_uncertainty==0.13.0
    pip install --target other pandas seaborn deprecation
    PYTHONPATH=.:tests:other python tests/calibration/make_reference_values.py
"""

import importlib.util
import json
from importlib import import_module
from importlib.metadata import distribution, version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from helpers.outputs import sample
from scipy.optimize import brentq

PACKAGES = ("relplot", "uncertainty-calibration", "netcal", "torch_uncertainty", "torch", "numpy")
# A factor of the logits, and `gain` of the sample; no confidence of "flat" is near 1.
CASES = {"flat": (0.3, 2.0), "moderate": (1.0, 2.0), "confident": (3.0, 2.0), "accurate": (1.0, 7.0)}
BANDWIDTHS = (0.02, 0.05)
MESH = 40001


def main() -> None:
    """Writes the file beside this one."""
    values: dict[str, Any] = {"versions": {name: version(name) for name in PACKAGES}}
    for name, (scale, gain) in CASES.items():
        logits, label = sample(gain=gain)
        p = (scale * logits.double()).softmax(1)
        values[name] = of_binned(p.numpy(), label.numpy()) | of_ranks(p, label)
        if name == "flat":
            values[name] |= of_smooth(p.numpy(), label.numpy())
        values[name] |= {"scale": scale, "gain": gain}
    text = json.dumps(values, indent=2) + "\n"
    Path(__file__).with_name("reference_values.json").write_text(text, encoding="utf-8")


def of_binned(p: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """netcal and uncertainty-calibration."""
    netcal = import_module("netcal.metrics")
    return {
        "ece": float(netcal.ECE(15).measure(p, label)),
        "mce": float(netcal.MCE(15).measure(p, label)),
        "debiased_rms_ce": float(import_module("calibration").lower_bound_scaling_top_ce(p, label)),
    }


def of_ranks(p: torch.Tensor, label: torch.Tensor) -> dict[str, float]:
    """torch-uncertainty, whose areas are over coverages from 1/N to 1, divided by 1 - 1/N."""
    curves, fpr = torch_uncertainty("risk_coverage"), torch_uncertainty("fpr")
    confidence, prediction = p.max(1)
    result = {}
    for name, metric in (
        ("augrc", curves.AUGRC()),
        ("coverage_at_risk_1", curves.CovAtxRisk(0.01)),
        ("coverage_at_risk_5", curves.CovAtxRisk(0.05)),
    ):
        metric.set_dtype(torch.float64)
        metric.update(p, label)
        result[name] = float(metric.compute())
    metric = fpr.FPR95(pos_label=1)
    metric.update(confidence, (prediction == label).long())
    errors = (prediction != label).double()
    risks, best_risks = (curves._aurc_rejection_rate_compute(scores, errors) for scores in (confidence, -errors))
    return result | {"fpr_at_95_tpr": float(metric.compute()), "e_aurc": float((risks - best_risks).mean())}


def of_smooth(p: np.ndarray, label: np.ndarray) -> dict[str, Any]:
    """relplot: as released, and with a finer mesh, whose fixed point is found to all digits."""
    relplot = import_module("relplot")
    confidence, correct = p.max(1), (p.argmax(1) == label).astype(float)
    released = float(relplot.smECE(confidence, correct))
    relplot.config.smECE_mesh_pts = MESH
    kernel = relplot.kernels.GaussianKernel
    apply = kernel.apply
    kernel.apply = lambda self, f, y, x, eval_points=None: apply(self, f, y, x, MESH)
    at = {str(bandwidth): float(relplot.smECE_sigma(confidence, correct, bandwidth)) for bandwidth in BANDWIDTHS}
    fixed = brentq(lambda s: relplot.smECE_sigma(confidence, correct, s) - s, 0.02, 0.5, xtol=1e-9)
    kernel.apply = apply
    return {"smooth_ece_released": released, "smooth_ece": fixed, "smooth_ece_at": at, "max_confidence": confidence.max()}


def torch_uncertainty(name: str) -> ModuleType:
    """One module of its metrics: the package as a whole asks for Lightning."""
    path = distribution("torch_uncertainty").locate_file(f"torch_uncertainty/metrics/classification/{name}.py")
    spec = importlib.util.spec_from_file_location(name, str(path))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
