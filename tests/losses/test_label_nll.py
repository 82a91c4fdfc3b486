"""One table of rows in 60 digits, against every form of the losses: eager, by terms, compiled, and the kernel for GPUs."""

import importlib.util
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial

import pytest
import torch
from helpers.configs import ROOT
from helpers.exact import exact_gradient, exact_nll
from torch import Tensor

from vgg_nll.losses import label_nll as module
from vgg_nll.losses.label_nll import by_terms, label_nll

GAPS = [
    0.0,
    0.1,
    1.0,
    3.3,
    8.1,
    16.6,
    31.9,
    32.1,
    45.7,
    68.9,
    69.1,
    80.3,
    86.0,
    88.0,
    88.7,
    88.73,
    88.8,
    95.5,
    103.0,
    104.1,
    110.0,
]
GAPS += [700.0, 709.9, 746.0, 1e4, 1e30, 3e38]
OTHERS = [[0.0], [0.0, -0.7, -1.3], [0.0, 0.0, 0.0, 0.0, 0.0], [0.0, -17.3, -60.7, -150.2], [-0.3, -math.inf, -1.1]]
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no Triton")


@cache
def table(complements: bool) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Logits [B, C], labels [B], values [B] and gradients [B, C] in float64, for each number of classes."""
    result = []
    for others in OTHERS:
        rows = [[*others[:place], gap, *others[place:]] for gap in GAPS for place in {0, len(others)}]
        logits = torch.tensor(rows)
        logits = logits.repeat_interleave(logits.shape[1], 0)
        labels = torch.arange(len(logits)) % logits.shape[1]
        possible = logits.gather(1, labels[:, None]).squeeze(1) > -math.inf
        logits, labels = logits[possible], labels[possible]
        cases = list(zip(logits.tolist(), labels.tolist(), strict=True))
        values = torch.tensor([exact_nll(*case, complements) for case in cases], dtype=torch.float64)
        gradients = torch.tensor([exact_gradient(*case, complements) for case in cases], dtype=torch.float64)
        result.append((logits, labels, values, gradients))
    wide = torch.zeros(9, 4097)
    places = [0, 1, 4096, 17, 2048, 0, 7, 7, 17]
    wide[range(9), places] = torch.tensor([88.8, 3.0, 95.0, 12.0, 60.0, 200.0, 31.0, 20.0, 12.0])
    labels = torch.tensor([0, 1, 4096, 17, 2048, 1, 6, 7, 5])
    pairs = zip(wide.tolist(), labels.tolist(), strict=True)
    found = [(exact_nll(z, t, complements), exact_gradient(z, t, complements)) for z, t in pairs]
    result.append((wide, labels, *(torch.tensor(part, dtype=torch.float64) for part in zip(*found, strict=True))))
    return result


def check(form: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], complements: bool, times: int = 1) -> None:
    """Compares the values and gradients that `form` gives; `times`: the table is repeated, for large batches."""
    for logits, labels, values, gradients in table(complements):
        found, gradient = form(logits.repeat(times, 1), labels.repeat(times))
        values = values.float().double()  # inf, if a float32 cannot hold it
        torch.testing.assert_close(found.double(), values.repeat(times), rtol=2e-6, atol=1e-37)
        size = gradients.abs().amax(1, keepdim=True).clamp(min=1e-32)
        assert ((gradient.double() / size.repeat(times, 1) - (gradients / size).repeat(times, 1)).abs() <= 1e-5).all()


def by_autograd(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    values = loss(leaf, labels)
    values.sum().backward()
    assert leaf.grad is not None
    return values.detach(), leaf.grad


@pytest.mark.slow
@pytest.mark.parametrize("complements", [False, True])
@pytest.mark.parametrize("times", [1, 200])
def test_eager(times: int, complements: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 5000)
    check(partial(by_autograd, partial(label_nll, complements=complements)), complements, times)


@pytest.mark.slow
@pytest.mark.parametrize("complements", [False, True])
def test_by_terms(complements: bool) -> None:
    check(partial(by_autograd, partial(by_terms, complements=complements)), complements)


@pytest.mark.parametrize(
    ("complements", "backend"),
    [
        (True, "aot_eager"),
        pytest.param(False, "aot_eager", marks=pytest.mark.slow),
        pytest.param(True, "inductor", marks=pytest.mark.slow),
        pytest.param(False, "inductor", marks=pytest.mark.soak),
    ],
)
def test_compiled_for_any_batch_size(complements: bool, backend: str) -> None:
    if backend == "inductor" and shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    torch._dynamo.reset()
    loss = torch.compile(partial(label_nll, complements=complements), fullgraph=True, dynamic=True, backend=backend)
    check(partial(by_autograd, loss), complements)


@pytest.mark.slow
@needs_triton
@pytest.mark.parametrize("complements", [False, True])
def test_kernel_for_gpus(complements: bool) -> None:
    """On a GPU if there is one, else in Triton's interpreter."""
    from vgg_nll.losses import triton_rows

    device = "cuda" if torch.cuda.is_available() else "cpu"

    def form(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        values, gradient = triton_rows.value_and_gradient(
            logits.to(device), labels.to(device), complements=complements, differentiate=True
        )
        assert gradient is not None
        return values.cpu(), gradient.cpu()

    check(form, complements)


@needs_triton
@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero):RuntimeWarning")
@pytest.mark.parametrize("complements", [False, True])
def test_kernel_and_broken_rows(complements: bool) -> None:
    """NaN, +inf, nothing possible, and labels out of range give NaN, for their own row only."""
    from vgg_nll.losses import triton_rows

    device = "cuda" if torch.cuda.is_available() else "cpu"
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    logits[0, 1], logits[1, 2], logits[2] = torch.nan, torch.inf, -torch.inf
    labels = torch.tensor([0, 1, 2, 5, -1, 3, 4])
    values, gradient = triton_rows.value_and_gradient(
        logits.to(device), labels.to(device), complements=complements, differentiate=True
    )
    assert gradient is not None
    assert values.isnan().tolist() == [True] * 5 + [False] * 2
    assert gradient.isnan().all(1).tolist() == [True] * 5 + [False] * 2
    alone, _ = triton_rows.value_and_gradient(
        logits.to(device), labels.to(device), complements=complements, differentiate=False
    )
    torch.testing.assert_close(alone, values, rtol=0, atol=0, equal_nan=True)
    clean, _ = by_autograd(partial(label_nll, complements=complements), logits[5:], labels[5:])
    torch.testing.assert_close(values[5:].cpu(), clean)


@needs_triton
@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this CPU keeps its subnormal numbers")
def test_where_small_floats_are_flushed_to_zero() -> None:
    """As on a GPU: the outputs of 4095 classes are too small for a float32, their sum is not."""
    from vgg_nll.losses import triton_rows

    logits, target = torch.zeros(300, 4096), torch.zeros(300).long()
    logits[:, 0] = 88.8
    expected = exact_nll(logits[0].tolist(), 0, True)
    torch.set_flush_denormal(True)
    try:
        values = label_nll(logits, target, complements=True)
        by_kernel, _ = triton_rows.value_and_gradient(logits[:1], target[:1], complements=True, differentiate=False)
    finally:
        torch.set_flush_denormal(False)
    assert [values[0].item(), by_kernel.item()] == pytest.approx([expected] * 2, rel=2e-6, abs=0)


@needs_triton
def test_a_kernel_that_does_not_run_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without a C compiler: Triton is there, but cannot start a kernel."""
    from vgg_nll.losses import triton_rows

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module._triton_rows.cache_clear()
    assert module._triton_rows(device) is triton_rows
    module._triton_rows.cache_clear()
    monkeypatch.setattr(triton_rows, "value_and_gradient", lambda *_, **__: 1 / 0)
    with pytest.warns(UserWarning, match="kernel does not run here.*division by zero"):
        assert module._triton_rows(device) is None
    module._triton_rows.cache_clear()


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from vgg_nll.losses import triton_rows
types = {"logits": "*fp32", "target": "*i64", "values": "*fp32", "gradient": "*fp32", "classes": "i32"}
for complements in (False, True):
    options = {"COMPLEMENTS": complements, "DIFFERENTIATE": True, "BLOCK": 1024}
    source = ASTSource(fn=triton_rows._rows, signature=types | dict.fromkeys(options, "constexpr"), constexprs=options)
    print(len(triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]))
"""


@needs_triton
@pytest.mark.slow
def test_kernel_compiles_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter takes more than the compiler does; the compiler needs no GPU, only a file with the source."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    done = subprocess.run([sys.executable, "-c", COMPILE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(int(size) > 1000 for size in done.stdout.split())


@pytest.mark.parametrize("complements", [False, True])
def test_one_possible_class_that_is_not_the_label(complements: bool) -> None:
    """The loss is infinite; its gradient is that of two classes, whatever else is impossible: finite, of sum 0."""
    for classes in (2, 3, 9):
        logits = torch.full((4000, classes), -torch.inf)
        logits[:, 1] = 2.0
        values, gradient = by_autograd(partial(label_nll, complements=complements), logits, torch.zeros(4000).long())
        assert values.tolist() == [torch.inf] * 4000
        size = 2.0 if complements else 1.0
        assert gradient[0].tolist() == gradient[-1].tolist() == [-size, size] + [0.0] * (classes - 2)


@pytest.mark.parametrize("complements", [False, True])
@pytest.mark.parametrize("others", [1, 2, 30, 1000])
def test_gaps_around_the_longest_that_float32_holds(others: int, complements: bool) -> None:
    """Up to 32 a difference of float32 logits is rounded to 1e-6, beyond to 2e-6, and so is its exponential. C - 1 equal
    classes add up to what one of a smaller gap would give."""
    draw = torch.Generator().manual_seed(others)
    gaps = 30.5 + 3 * torch.rand(100_000 // others, generator=draw)
    low = 10 * torch.rand(len(gaps), generator=draw) - 5
    logits = low[:, None].repeat(1, others + 1)
    logits[:, 0] += gaps
    odds = (logits[:, 1].double() - logits[:, 0].double()).exp()  # of one class against the top
    values = (others * odds).log1p() + (others * (odds / (1 + (others - 1) * odds)).log1p() if complements else 0)
    found = label_nll(logits, torch.zeros(len(logits), dtype=torch.int64), complements=complements)
    assert (found.double() / values - 1).abs().max() < 2e-6


def test_wrong_classes_of_nearly_all_probability() -> None:
    """In batches that take the fast way: where 1 - p of the leading class has too few digits in float32."""
    logits = torch.zeros(8000, 3)
    logits[:, 0] = torch.linspace(0, 30, len(logits))
    odds = (logits[:, 0].double()).exp() / 2  # of the top against both others
    third = 1 / (1 + 2 * odds)  # odds of the third class
    values = (1 + 2 * odds).log1p() + odds.log1p() + third.log1p()  # of the label, the top, the third class
    found = label_nll(logits, torch.ones(len(logits), dtype=torch.int64), complements=True)
    torch.testing.assert_close(found.double(), values, rtol=2e-6, atol=0)


def test_a_softmax_that_does_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows whose outputs add up to 1.001 take the exact form."""
    logits, labels = torch.randn(40, 700, generator=torch.Generator().manual_seed(0)), torch.arange(40)
    expected = by_autograd(partial(by_terms, complements=False), logits, labels)[1]
    softmax = torch.softmax
    monkeypatch.setattr(torch, "softmax", lambda *args, **options: softmax(*args, **options).mul_(1.001))
    found = by_autograd(partial(label_nll, complements=False), logits, labels)[1]
    assert (found - expected).abs().max() < 1e-6
