"""What the losses do to the logits: against the derivatives by hand, in float64."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from vgg_nll.model import VGG16
from vgg_nll.tracking import tags
from vgg_nll.training import gradients
from vgg_nll.training.optim import param_groups
from vgg_nll.training.state import TrainState
from vgg_nll.training.step import StepOptions, train_step


def by_hand(z: np.ndarray, label: int) -> dict[str, np.ndarray]:
    """dL/dz of one image: p - e for method 1; for method 2 plus, for every other class k, p_k / (1 - p_k) (e_k - p)."""
    p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    e = np.eye(len(z))
    first = p - e[label]
    others = sum(p[k] / (1 - p[k]) * (e[k] - p) for k in range(len(z)) if k != label)
    return {"argmax": first, "all_logit": first + others}


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_pushes(classes: int, scale: float) -> None:
    logits = scale * torch.randn(7, classes, generator=torch.Generator().manual_seed(classes))
    target = torch.arange(7) % classes
    expected: dict[str, list[float]] = {}
    for z, label in zip(logits.double().numpy(), target.tolist(), strict=True):
        wrong = [k for k in range(classes) if k != label]
        leading = max(wrong, key=lambda k: z[k])
        rest = [k for k in wrong if k != leading]
        for loss, gradient in by_hand(z, label).items():
            size = np.abs(gradient)
            parts = size[label], size[leading], size[rest].mean() if rest else math.nan
            for push, value in zip(("true_class", "leading_wrong", "other_classes"), parts, strict=True):
                expected.setdefault(f"gradient/{loss}/{push}", []).append(value)
    found = gradients.logit_gradient_norms(logits, target)
    assert found == pytest.approx({tag: np.mean(values) for tag, values in expected.items()}, rel=1e-4, nan_ok=True)


def test_of_a_sure_and_wrong_network_only_method_2_pushes_the_wrong_class_harder() -> None:
    """Method 1 is bounded by 1, method 2 grows with the margin: the point of the picture."""
    logits = torch.tensor([[30.0, 0.0, 0.0]])
    found = gradients.logit_gradient_norms(logits, torch.tensor([1]))
    assert found["gradient/argmax/leading_wrong"] == pytest.approx(1.0)
    assert found["gradient/all_logit/leading_wrong"] > 1.5


def test_bfloat16_logits_and_their_graph_are_left_alone() -> None:
    logits = torch.randn(4, 3).bfloat16().requires_grad_()
    gradients.logit_gradient_norms(logits, torch.tensor([0, 1, 2, 0]))
    assert logits.grad is None


@pytest.mark.parametrize("clip_norm", [None, 0.01])
def test_layer_norms_are_of_the_step_that_was_done(clip_norm: float | None) -> None:
    torch.manual_seed(0)
    model = VGG16(3, head="compact", width=1 / 32)
    twin = VGG16(3, head="compact", width=1 / 32)
    twin.load_state_dict(model.state_dict())
    images, target = torch.randn(6, 3, 32, 32), torch.tensor([0, 1, 2, 0, 1, 2])
    state = TrainState(model, torch.optim.AdamW(param_groups(model), lr=1e-3, fused=True), torch.device("cpu"))
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    train_step(
        state,
        nn.functional.cross_entropy,
        images,
        target,
        StepOptions(torch.float32, clip_norm),
        learning_rate=1e-3,
        on_logits=lambda *part: seen.append(part),
    )
    logits = twin(images)
    nn.functional.cross_entropy(logits, target).backward()
    norm = float(nn.utils.get_total_norm([p.grad for p in twin.parameters() if p.grad is not None]))
    factor = 1.0 if clip_norm is None else min(1.0, clip_norm / norm)
    names = ["features.0", "features.17", "classifier.0"]  # conv1_1, conv4_1 and the last: 1st, 8th and 14th of 14
    wanted = [model.get_submodule(name).weight.detach().double().norm() for name in names]
    wanted += [factor * twin.get_submodule(name).weight.grad.double().norm() for name in names]
    found = gradients.layer_norms(model)
    assert list(found) == list(tags.LAYER_NORMS)
    assert list(found.values()) == pytest.approx([float(value) for value in wanted], rel=1e-4)
    ((seen_logits, seen_target),) = seen
    assert (
        torch.allclose(seen_logits, logits) and not seen_logits.requires_grad and seen_target is target
    ) or seen_target.equal(target)


def test_every_part_of_a_batch_is_seen() -> None:
    model = VGG16(2, head="compact", width=1 / 32)
    state = TrainState(model, torch.optim.SGD(model.parameters(), lr=0.1, fused=True), torch.device("cpu"))
    seen: list[torch.Tensor] = []
    train_step(
        state,
        nn.functional.cross_entropy,
        torch.randn(6, 3, 32, 32),
        torch.tensor([0, 1] * 3),
        StepOptions(torch.float32, accumulation_steps=3),
        learning_rate=0.1,
        on_logits=lambda logits, target: seen.append(target),
    )
    assert torch.cat(seen).tolist() == [0, 1] * 3
    assert len(seen) == 3
