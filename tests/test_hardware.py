"""Devices and number formats."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.configs import ROOT

from vgg_nll import hardware

CPU = torch.device("cpu")


def test_auto_takes_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert hardware.choose_device("auto") == CPU
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert hardware.choose_device("auto") == torch.device("cuda")


@pytest.mark.parametrize(
    ("amx", "avx512_bf16", "dtype"), [(0, 0, torch.float32), (1, 0, torch.bfloat16), (0, 1, torch.bfloat16)]
)
def test_auto_precision_on_cpu(monkeypatch: pytest.MonkeyPatch, amx: int, avx512_bf16: int, dtype: torch.dtype) -> None:
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: bool(amx))
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: bool(avx512_bf16))
    assert hardware.choose_dtype("auto", CPU) == dtype
    assert hardware.choose_dtype("bfloat16", CPU) == torch.bfloat16
    assert hardware.choose_dtype("float32", CPU) == torch.float32


def test_a_missing_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert hardware.choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match="device=cuda:2: PyTorch sees 2 CUDA devices here"):
        hardware.choose_device("cuda:2")
    for name in ("mps", "meta", "gpu"):
        with pytest.raises(ValueError, match=f"device={name}: must be auto, cpu, cuda"):
            hardware.choose_device(name)


@pytest.mark.parametrize("warm_up", [9.0, 0.01])
def test_peak_is_the_best_of_three_products(monkeypatch: pytest.MonkeyPatch, warm_up: float) -> None:
    """The first one does not count, slow or fast."""
    now, durations, shapes = [100.0], iter([warm_up, 0.5, 0.25, 1.0]), []

    def mm(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        now[0] += next(durations)
        shapes.append((*a.shape, *b.shape, a.dtype))
        return a

    monkeypatch.setattr("vgg_nll.hardware.time.perf_counter", lambda: now[0])
    monkeypatch.setattr(torch, "mm", mm)
    measure = hardware.peak_flops.__wrapped__  # without the cache
    assert measure(CPU, torch.bfloat16) == 2 * 1024**3 / 0.25
    assert shapes == [(1024, 1024, 1024, 1024, torch.bfloat16)] * 4


def test_quick_products_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that others use, too, one of many is undisturbed."""
    now, durations = [100.0], iter([1.0, *[0.03125] * 6, 0.015625, *[0.03125] * 9])
    monkeypatch.setattr("vgg_nll.hardware.time.perf_counter", lambda: now[0])
    monkeypatch.setattr(torch, "mm", lambda a, b: now.__setitem__(0, now[0] + next(durations)))
    assert hardware.peak_flops.__wrapped__(CPU, torch.float32) == 2 * 1024**3 / 0.015625
    assert len(list(durations)) == 7  # of 17: one to warm up, and nine in 0.25 s


def test_a_cpu_is_described_with_its_threads() -> None:
    assert hardware.describe(CPU).startswith("CPU (")
    assert hardware.describe(CPU).endswith(f", {torch.get_num_threads()} threads)")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_device() -> None:
    device = hardware.choose_device("cuda")
    matrix_units = torch.cuda.get_device_capability(device) >= (8, 0)
    assert (hardware.choose_dtype("auto", device) == torch.bfloat16) == matrix_units


@pytest.mark.parametrize("before", [False, True])
def test_kernels_are_chosen_for_a_block(before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr("torch.backends.cudnn.benchmark", before)
    with hardware.deterministic_algorithms(enabled=False):
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.benchmark == before
    with hardware.deterministic_algorithms(enabled=True):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark == before


WITH_CUDA = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_copies_beside_a_busy_stream_arrive_whole() -> None:
    device = torch.device("cuda")
    copies, busy = torch.cuda.Stream(device), torch.ones(4096, 4096, device=device)
    for step in range(20):
        for _ in range(5):
            busy = torch.mm(busy, busy).clamp(0, 1)
        host = (torch.full((64, 3, 64, 64), step, dtype=torch.uint8).pin_memory(), torch.arange(64).pin_memory())
        images, target = hardware.to_device(host, device, copies)
        assert int(images.long().sum()) == step * images.numel() and torch.equal(target.cpu(), torch.arange(64))


FAULTS = """
import resource, torch
from vgg_nll import hardware
{}
for i in range(20):
    if i == 10:  # by then the heap has grown to what it takes
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(250_000)  # 1 MB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_memory_is_kept() -> None:
    """Pages are new to the process once, or every time."""
    kept, returned = (
        int(subprocess.run([sys.executable, "-c", FAULTS.format(call)], capture_output=True, check=True, cwd=ROOT).stdout)
        for call in ("hardware.keep_freed_memory()", "hardware.keep_freed_memory(keep=False)")
    )
    assert kept < 0.1 * returned


def test_without_a_gpu_nothing_is_copied() -> None:
    held = torch.ones(3), torch.zeros(2)
    assert all(a is b for a, b in zip(held, hardware.to_device(held, CPU, None), strict=True))


def test_out_of_memory_is_known_by_its_words() -> None:
    with pytest.raises(RuntimeError) as allocation:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert hardware.is_out_of_memory(allocation.value)
    assert hardware.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert hardware.is_out_of_memory(MemoryError())
    assert hardware.is_out_of_memory(RuntimeError("CUDA out of memory. (originally from torch_call_dispatcher)"))
    assert hardware.is_out_of_memory(RuntimeError("could not create a primitive"))  # oneDNN's
    assert hardware.is_out_of_memory(RuntimeError("unable to mmap 9 bytes from file <x>: Cannot allocate memory (12)"))
    assert not hardware.is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_peak_memory_counts_what_is_held() -> None:
    """240 MB that were just filled, over what the process holds before; they count when they are gone, too."""
    cpu = torch.device("cpu")
    status = Path("/proc/self/status").read_text()
    held_before = 1024 * int(status.split("VmRSS:")[1].split()[0])
    held = torch.ones(60_000_000)
    maximum = hardware.peak_memory(cpu)
    assert maximum > held_before + 0.9 * held.numel() * 4
    del held
    assert hardware.peak_memory(cpu) == pytest.approx(maximum, rel=0.01)  # Linux adds up pages by thread, now and then
