"""trainer.compile: the same steps, and a warning without a compiler."""

import shutil

import pytest
import torch

from vgg_nll.losses import all_logit_nll
from vgg_nll.model import VGG16
from vgg_nll.training.compilation import compile_network
from vgg_nll.training.optim import param_groups
from vgg_nll.training.state import TrainState
from vgg_nll.training.step import StepOptions, train_step

WITH_CUDA = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
)


def no_compiler(*args: object, **kwargs: object) -> None:
    raise RuntimeError("no working C++ compiler\na page of details")


def test_without_a_compiler_there_is_a_warning(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(torch, "compile", no_compiler)
    model = torch.nn.Linear(2, 2)
    assert compile_network(model, torch.device("cpu"), graphs=True) is model
    assert [record.message for record in caplog.records] == [
        "warning: trainer.compile=true: nothing can be compiled here, training continues without (no working C++ compiler)"
    ]


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize(("dtype", "parts"), [(torch.float32, 1), (torch.float32, 2), (torch.bfloat16, 1)])
@pytest.mark.parametrize("place", ["cpu", WITH_CUDA])
def test_compiled_steps_are_the_plain_ones(dtype: torch.dtype, parts: int, place: str) -> None:
    """float32: 1e-5 after three steps; bfloat16, which is rounded at other places: the losses."""
    device, losses, weights = torch.device(place), [], []
    for compiled in (False, True):
        torch.manual_seed(0)
        torch._dynamo.reset()
        model = VGG16(3, head="compact", width=1 / 16).to(device).to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(param_groups(model), lr=0.05, momentum=0.9, fused=True)
        state = TrainState(model, optimizer, device)
        if compiled:
            state.forward = compile_network(model, device, graphs=parts == 1)
            assert state.forward is not model
        images, target = torch.randn(8, 3, 32, 32).to(device), torch.arange(8, device=device) % 3
        options = StepOptions(dtype, clip_norm=1.0, accumulation_steps=parts)
        for _ in range(3):
            train_step(state, all_logit_nll, images, target, options, learning_rate=0.05)
        losses.append(state.window_loss.item())
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5 if dtype == torch.float32 else 1e-2)
    if dtype == torch.float32:
        torch.testing.assert_close(weights[1], weights[0], rtol=1e-5, atol=1e-6)
