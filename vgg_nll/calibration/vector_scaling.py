"""Structured vector scaling (SVS): a factor and a shift for each class, after temperature scaling (arXiv:2511.03685)."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vgg_nll.calibration import temperature


class VectorScaling(NamedTuple):
    """A fitted temperature, and a factor and a shift of each class."""

    temperature: float
    factor: Tensor  # [C], float64
    shift: Tensor  # [C], float64

    def apply(self, logits: Tensor) -> Tensor:
        """Returns new logits [N, C] in float64, `factor * log softmax(z / T) + shift`.

        Classes have different factors and shifts, so predictions may change, unlike under a temperature.
        """
        return self.factor * torch.log_softmax(logits.double() / self.temperature, dim=1) + self.shift


class Scaled(nn.Module):
    """Applies a vector scaling to a network's logits."""

    def __init__(self, model: nn.Module, fitted: VectorScaling) -> None:
        super().__init__()
        self.model, self.fitted = model, fitted
        self.training = model.training  # the same mode as the network

    def forward(self, images: Tensor) -> Tensor:
        """Maps [B, 3, H, W] to logits [B, C] in float64."""
        return self.fitted.apply(self.model(images))


def fit(logits: Tensor, target: Tensor) -> VectorScaling:
    """Fits the temperature T, then v and b: those that minimise the mean NLL of `(1 + v) x + b` plus `C / n (|v|^2 + |b|^2)`.

    Here `x = log softmax(z / T)`, and T is that of `temperature.fit`. The penalty keeps v and b near 0, which changes nothing,
    if a class has few images or none. The objective is strictly convex; L-BFGS starts at 0, with exact gradients.

    The model and the penalty are those of probmetrics 1.3.0 (class SVSCalibrator), with one difference: there, the fit of T is
    not smoothed, and `softmax(z / T)` is mixed with 1 / (n + 1) of the constant prediction. Here, the fit is smoothed, so x
    needs no mixture.

    Args:
        logits: [N, C], finite; target: [N].
    """
    from scipy.optimize import minimize

    images, classes = logits.shape
    of_image, penalty = torch.arange(images, device=logits.device), classes / images
    fitted_temperature = temperature.fit_without_interval(logits, target)
    log_p = torch.log_softmax(logits.double() / fitted_temperature, dim=1)

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        v_and_b = torch.from_numpy(parameters).to(log_p.device)
        v, b = v_and_b.split(classes)
        new_log_p = torch.log_softmax((1 + v) * log_p + b, dim=1)
        nll = -new_log_p[of_image, target].mean()
        error = new_log_p.exp_()
        error[of_image, target] -= 1  # the gradient of an image's NLL by its logits
        of_b = error.mean(dim=0)
        of_v = error.mul_(log_p).mean(dim=0)
        gradient = torch.cat([of_v, of_b]) + 2 * penalty * v_and_b
        return float(nll + penalty * v_and_b.square().sum()), gradient.cpu().numpy()

    # Both tolerances are close to what float64 resolves: the value of the minimum does not depend on where they stop.
    options = {"maxiter": 1000, "ftol": 1e-14, "gtol": 1e-9}
    found = minimize(objective, np.zeros(2 * classes), jac=True, method="L-BFGS-B", options=options)
    v, b = torch.from_numpy(found.x).to(log_p.device).split(classes)
    return VectorScaling(fitted_temperature, 1 + v, b)
