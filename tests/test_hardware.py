"""Devices and number formats."""

import os

import pytest
import torch

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


def test_peak_is_a_plausible_rate() -> None:
    """A CPU core does between a hundred million and ten trillion operations a second."""
    assert 1e8 < hardware.peak_flops(CPU, torch.float32) < 1e13 * torch.get_num_threads()
    assert "CPU" in hardware.describe(CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_device() -> None:
    device = hardware.choose_device("cuda")
    matrix_units = torch.cuda.get_device_capability(device) >= (8, 0)
    assert (hardware.choose_dtype("auto", device) == torch.bfloat16) == matrix_units
    assert hardware.peak_flops(device, torch.float32) > 1e12


def test_deterministic_is_for_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr("torch.backends.cudnn.benchmark", True)
    with hardware.deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()
    with hardware.deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark


def test_out_of_memory_is_known_by_its_words() -> None:
    with pytest.raises(RuntimeError) as allocation:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert hardware.is_out_of_memory(allocation.value)
    assert hardware.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert hardware.is_out_of_memory(MemoryError())
    assert not hardware.is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_peak_memory_only_grows() -> None:
    """At least what a tensor takes that was just filled; it stays when that is gone."""
    before = hardware.peak_memory(torch.device("cpu"))
    held = torch.ones(60_000_000)
    most = hardware.peak_memory(torch.device("cpu"))
    assert most >= held.numel() * 4
    del held
    assert before <= most <= hardware.peak_memory(torch.device("cpu"))
