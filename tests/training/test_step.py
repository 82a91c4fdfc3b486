"""One step on a network small enough to check by hand; and with all that makes it fast, against PyTorch's own layers."""

import copy
import statistics
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vgg_nll.data.memory import sources
from vgg_nll.distributed.process_group import Ranks
from vgg_nll.losses import all_logit_nll, argmax_nll
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


class TwinRanks(Ranks):
    """Two ranks that are given the same images."""

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        return tensor.mul_(2)


def test_the_shares_of_all_ranks_are_the_whole_batch() -> None:
    whole, share = make_state("sgd"), make_state("sgd")
    images, target = batch(3)
    step(whole, images.repeat(2, 1, 1, 1), target.repeat(2))
    step(share, images, target, ranks=TwinRanks(size=2), batch_size=6)
    torch.testing.assert_close(share.window_loss, whole.window_loss)
    assert (share.window_correct, share.window_images) == (whole.window_correct, 6)


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


def test_bfloat16_computes_the_loss_in_float32() -> None:
    seen = []

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        seen.append(logits.dtype)
        return all_logit_nll(logits, target)

    state = make_state()
    train_step(state, loss, *batch(), StepOptions(torch.bfloat16, clip_norm=1.0), learning_rate=0.1)
    assert seen == [torch.float32]
    assert state.model[1].weight.dtype == torch.float32


DIGITS = sources.digits()[0]["train"]


def digits(step: int, size: int = 16) -> tuple[Tensor, Tensor]:
    index = torch.randint(0, len(DIGITS.target), (size,), generator=torch.Generator().manual_seed(step))
    return DIGITS.images[index].float() / 127.5 - 1, DIGITS.target[index]


def baseline(model: VGG16) -> nn.Sequential:
    """The same weights in PyTorch's own layers, in the paper's order, in NCHW."""
    layers: list[nn.Module] = []
    for layer in copy.deepcopy(model).to(memory_format=torch.contiguous_format).features:
        if isinstance(layer, nn.Conv2d):
            plain = nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1)
            plain.load_state_dict(layer.state_dict())
            layers.append(plain)
        elif isinstance(layer, nn.BatchNorm2d):
            layers.append(nn.BatchNorm2d(layer.num_features))
            layers[-1].load_state_dict(layer.state_dict())
        elif isinstance(layer, nn.ReLU):
            layers.insert(len(layers) - isinstance(layers[-1], nn.MaxPool2d), nn.ReLU())
        else:
            layers.append(layer)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), copy.deepcopy(model.classifier))


def make_vgg(batch_norm: bool = False) -> TrainState:
    torch.manual_seed(0)
    model = VGG16(10, batch_norm=batch_norm, head="compact", width=1 / 16).to(memory_format=torch.channels_last)
    return TrainState(model, torch.optim.AdamW(param_groups(model), lr=1e-3, fused=True), torch.device("cpu"))


SGD = (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4})
ADAMW = (torch.optim.AdamW, {"betas": (0.9, 0.98), "weight_decay": 0.01, "eps": 1e-3})  # no steps of rounding alone


# Two steps with batch norm: sooner or later rounding takes a value of one network over the corner of a ReLU, and there the
# gradients part (by up to 5e-3, against float64 in either layout; a loss by 1e-7).
@pytest.mark.parametrize(("batch_norm", "steps"), [(False, 5), (True, 2)], ids=["plain", "batch norm"])
@pytest.mark.parametrize("optimizer_of", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_float32_steps_are_the_baselines(batch_norm: bool, steps: int, optimizer_of: tuple[Any, dict[str, Any]]) -> None:
    """Losses, gradient norms and weights of clipped steps, to 1e-5."""
    kind, options = optimizer_of
    state = make_vgg(batch_norm)
    assert isinstance(state.model, VGG16)
    # PyTorch's sums of batch norm on a CPU depend on the layout, by more than 1e-5.
    layout = torch.channels_last if batch_norm else torch.contiguous_format
    plain = baseline(state.model).to(memory_format=layout)
    assert [type(layer) for layer in plain][-6:-3] == [nn.Conv2d if not batch_norm else nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]
    decayed, others = ([p for p in plain.parameters() if (p.dim() > 1) == large] for large in (True, False))
    optimizer = kind([{"params": decayed}, {"params": others, "weight_decay": 0.0}], lr=1e-3, foreach=False, **options)
    state.optimizer = kind(param_groups(state.model), lr=1e-3, fused=True, **options)
    for step in range(steps):
        images, target = digits(step)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(plain(images.contiguous(memory_format=layout)), target)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(plain.parameters(), 0.2)
        optimizer.step()
        before = state.window_loss.item()
        settings = StepOptions(torch.float32, clip_norm=0.2)
        measured = train_step(state, argmax_nll, images, target, settings, learning_rate=1e-3)
        assert (state.window_loss.item() - before) / 16 == pytest.approx(loss.item(), rel=1e-5)
        assert measured.item() == pytest.approx(norm.item(), rel=1e-5) and norm > 0.2
    for own, theirs in zip(state.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_bfloat16_learns_as_float32_does() -> None:
    """200 steps from the same start: the mean of the curve within 5%, that of every 20 steps within 20%. (float32 runs
    whose first weights differ by 1e-6 differed by 8%.)"""
    curves = []
    for dtype in (torch.float32, torch.bfloat16):
        state, losses = make_vgg(batch_norm=True), []
        for step in range(200):
            before = state.window_loss.item()
            train_step(state, argmax_nll, *digits(step), StepOptions(dtype, clip_norm=1.0), learning_rate=1e-3)
            losses.append((state.window_loss.item() - before) / 16)
        curves.append([statistics.mean(losses[i : i + 20]) for i in range(0, 200, 20)])
    assert curves[0][-1] < 0.5 * curves[0][0]
    assert curves[1] == pytest.approx(curves[0], rel=0.2)
    assert statistics.mean(curves[1]) == pytest.approx(statistics.mean(curves[0]), rel=0.05)


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
