"""What the losses do to the logits, and how large weights and gradients are: for curves."""

import torch
from torch import Tensor, nn

from vgg_nll.losses import Loss, all_logit_nll, argmax_nll
from vgg_nll.tracking import tags

LOSSES: dict[str, Loss] = {"argmax": argmax_nll, "all_logit": all_logit_nll}
EVERY_STEPS = 50


def logit_gradient_norms(logits: Tensor, target: Tensor) -> dict[str, float]:
    """Returns the mean over images of |dL/dz|, for both losses on the same logits, by tag: whichever loss trains.

    `true_class`: z of the label; `leading_wrong`: the largest other z; `other_classes`: the mean over the remaining C - 2
    classes, NaN for C = 2. L is the loss of one image.

    Args:
        logits: [B, C]; target: [B].
    """
    label = target[:, None]
    logits = logits.detach().float()
    leading = logits.scatter(1, label, -torch.inf).argmax(dim=1, keepdim=True)
    values = []
    for loss in LOSSES.values():
        leaf = logits.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(leaf, target), leaf)
        size = gradient.abs() * len(logits)  # the loss is a mean over the batch
        others = size.scatter(1, label, 0).scatter(1, leading, 0).sum(1) / (logits.shape[1] - 2)
        values += [size.gather(1, label).mean(), size.gather(1, leading).mean(), others.mean()]
    names = [f"{tags.PUSH}{loss}/{push}" for loss in LOSSES for push in tags.PUSHES]
    return dict(zip(names, torch.stack(values).tolist(), strict=True))  # one wait for the device


def layer_norms(model: nn.Module) -> dict[str, float]:
    """Returns the norms of the weights of the first, the middle and the last layer, and of their gradients, by tag.

    After a step: the weights are the new ones, the gradients are those that the step used, clipped.
    """
    weights = [p for p in model.parameters() if p.dim() > 1]
    chosen = [weights[0], weights[len(weights) // 2], weights[-1]]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in chosen]
    norms = [torch.linalg.vector_norm(t.detach(), dtype=torch.float64) for t in (*chosen, *gradients)]
    return dict(zip(tags.LAYER_NORMS, torch.stack(norms).tolist(), strict=True))
