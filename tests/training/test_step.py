"""One step and one evaluation, on a network small enough to check by hand."""

import pytest
import torch
from torch import nn

from vgg_nll.evaluation import loop
from vgg_nll.losses import all_logit_nll
from vgg_nll.model import VGG16
from vgg_nll.training.optim import param_groups
from vgg_nll.training.state import TrainState
from vgg_nll.training.step import StepOptions, train_step

CPU = torch.device("cpu")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 4))


def make_state(optimizer: str = "adamw") -> TrainState:
    model = network()
    made = {
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, fused=True),
    }[optimizer](model.parameters())
    return TrainState(model, made, CPU)


def batch(images: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(images, 3, 2, 2, generator=draw), torch.arange(images) % 4


def step(
    state: TrainState, images: torch.Tensor, target: torch.Tensor, learning_rate: float = 0.1, **options: object
) -> torch.Tensor:
    return train_step(
        state, all_logit_nll, images, target, StepOptions(**{"dtype": torch.float32} | options), learning_rate=learning_rate
    )


@pytest.mark.parametrize("clip_norm", [None, 0.01, 1e6])
def test_one_step_is_one_optimizer_step(clip_norm: float | None) -> None:
    state, reference = make_state("sgd"), network()
    images, target = batch()
    loss = all_logit_nll(reference(images), target)
    loss.backward()
    norm = torch.cat([p.grad.flatten() for p in reference.parameters()]).norm()
    factor = 1.0 if clip_norm is None else min(1.0, clip_norm / norm.item())
    measured = step(state, images, target, clip_norm=clip_norm)
    torch.testing.assert_close(measured, norm)  # before clipping
    for p, expected in zip(state.model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(p, expected - 0.1 * (factor * expected.grad + 0.1 * expected), rtol=1e-4, atol=1e-6)
    assert (state.step, state.window_images) == (1, 6)
    assert state.window_loss.item() == pytest.approx(6 * loss.item(), rel=1e-6)


def test_the_norm_of_a_large_gradient_is_exact() -> None:
    """PyTorch's own norm of so many float32 is 1e-3 off."""
    model = nn.Linear(25_088, 1024, bias=False)
    images = torch.randn(2, 25_088, generator=torch.Generator().manual_seed(0))
    state = TrainState(model, torch.optim.SGD(model.parameters(), lr=0.0, fused=True), CPU)
    norm = step(state, images, torch.tensor([0, 1]))
    assert norm.item() == pytest.approx(model.weight.grad.double().norm().item(), rel=1e-6)


def test_a_step_goes_through_the_compiled_network_where_there_is_one() -> None:
    state, seen = make_state(), []
    model = state.model
    state.forward = lambda images: seen.append(len(images)) or model(images)
    step(state, *batch(), accumulation_steps=2)
    assert seen == [3, 3]


def test_the_given_learning_rate_is_the_one_used() -> None:
    state = make_state("sgd")
    before = [p.detach().clone() for p in state.model.parameters()]
    step(state, *batch(), learning_rate=0.0)
    assert all(torch.equal(a, b) for a, b in zip(before, state.model.parameters(), strict=True))


@pytest.mark.parametrize("parts", [2, 4, 6])
def test_accumulation_is_the_same_step(parts: int) -> None:
    """Also where the parts are unequal: 6 images in 4 parts go as 2, 2, 2."""
    whole, split = make_state(), make_state()
    step(whole, *batch())
    step(split, *batch(), accumulation_steps=parts)
    for p, expected in zip(split.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(p, expected)
    torch.testing.assert_close(split.window_loss, whole.window_loss)


def test_unequal_parts_weigh_by_their_images() -> None:
    whole, split = make_state("sgd"), make_state("sgd")
    step(whole, *batch(5))
    step(split, *batch(5), accumulation_steps=2)  # 3 and 2
    for p, expected in zip(split.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(p, expected)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_bad_step_changes_nothing_and_is_remembered(optimizer: str) -> None:
    state = make_state(optimizer)
    images, target = batch()
    step(state, images, target)
    before = [p.detach().clone() for p in state.model.parameters()]
    moments = {
        i: {n: t.clone() for n, t in s.items() if torch.is_tensor(t)} for i, s in state.optimizer.state_dict()["state"].items()
    }
    step(state, images * torch.nan, target)
    step(state, images, target)  # a good one after it is not taken either
    assert int(state.bad_step) == 1
    assert not torch.isfinite(state.bad_loss)
    assert all(torch.equal(a, b) for a, b in zip(before, state.model.parameters(), strict=True))
    for i, saved in moments.items():
        for name, tensor in saved.items():
            assert torch.equal(tensor, state.optimizer.state_dict()["state"][i][name])


def test_an_infinite_gradient_is_bad_too() -> None:
    state = make_state()
    images, target = batch()
    train_step(
        state,
        lambda logits, target: (logits - logits.detach()).abs().sqrt().sum(),  # 0, with an infinite slope
        images,
        target,
        StepOptions(torch.float32, clip_norm=1.0),
        learning_rate=0.1,
    )
    assert int(state.bad_step) == 0
    assert state.bad_loss == 0


@pytest.mark.parametrize("batch_size", [1, 7])
def test_evaluation_is_one_value_for_every_batch_size(batch_size: int) -> None:
    model = network()
    images, target = batch(20)
    parts = list(zip(images.split(batch_size), target.split(batch_size), strict=True))
    whole = loop.evaluate(model, all_logit_nll, [(images, target)], torch.float32).values
    split = loop.evaluate(model, all_logit_nll, parts, torch.float32).values
    assert split == pytest.approx(whole, abs=1e-5, rel=0)


def test_evaluation_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), network())
    model.train()
    mean = model[0].running_mean.clone()
    first = loop.evaluate(model, all_logit_nll, [batch()], torch.float32).values
    assert model.training
    assert torch.equal(model[0].running_mean, mean)
    assert loop.evaluate(model, all_logit_nll, [batch()], torch.float32).values == first  # no dropout
    with pytest.raises(ValueError, match="no images"):
        loop.evaluate(model, all_logit_nll, [], torch.float32)


def test_bfloat16_computes_the_loss_in_float32() -> None:
    seen = []

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        seen.append(logits.dtype)
        return all_logit_nll(logits, target)

    state = make_state()
    train_step(state, loss, *batch(), StepOptions(torch.bfloat16, clip_norm=1.0), learning_rate=0.1)
    assert seen == [torch.float32]
    assert state.model[1].weight.dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_step_never_waits_for_the_device() -> None:
    model = VGG16(4, head="compact", width=1 / 16).cuda().to(memory_format=torch.channels_last)
    state = TrainState(model, torch.optim.AdamW(param_groups(model), fused=True), torch.device("cuda"))
    images, target = torch.randn(6, 3, 32, 32, device="cuda"), batch()[1].cuda()
    step(state, images, target, clip_norm=1.0)  # the first one sets libraries up
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(state, images, target, clip_norm=1.0, dtype=torch.bfloat16, accumulation_steps=2)
    finally:
        torch.cuda.set_sync_debug_mode("default")
