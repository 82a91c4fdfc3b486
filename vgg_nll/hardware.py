"""The device and number format to use, the speed of a large matrix product, memory."""

import ctypes
import functools
import logging
import math
import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)
MIN_PRODUCTS, PEAK_SECONDS = 3, 0.25  # of a large matrix product
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_device(name: str) -> torch.device:
    """Returns the device of "auto" (CUDA if there is one, else CPU), "cpu", "cuda", "cuda:1"; raises ValueError if missing."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:(0|[1-9][0-9]?))?", name):  # PyTorch wraps an index of 128 or more
        raise ValueError(f"device={name}: must be auto, cpu, cuda, or cuda:<number>")
    device = torch.device(name)
    if device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= found:
            raise ValueError(f"device={name}: PyTorch sees {found} CUDA devices here; use device=cpu or device=auto")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Returns the dtype of "float32", "bfloat16", or "auto": bfloat16 if the chip has matrix units for it, else float32.

    On a CPU that is AMX or AVX512-BF16. Other chips emulate bfloat16, several times slower than float32.
    """
    if name != "auto":
        return PRECISIONS[name]
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # PyTorch has no public name for these two.
        fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def describe(device: torch.device) -> str:
    """Returns the device's name for a report."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.processor() or platform.machine()}, {torch.get_num_threads()} threads)"


@functools.cache
def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Returns the floating-point operations per second of a large matrix product: the best of as many as fit into 0.25 s.

    Measured once a process. A network's speed is compared with it. Other programs may take the device meanwhile: the more
    products, the more likely is one that none disturbed.
    """
    size = 8192 if device.type == "cuda" else 1024
    a = torch.full((size, size), 0.5, device=device, dtype=dtype)
    torch.mm(a, a)  # to warm up
    seconds: list[float] = []
    while len(seconds) < MIN_PRODUCTS or sum(seconds) < PEAK_SECONDS:
        wait(device)
        start = time.perf_counter()
        torch.mm(a, a)
        wait(device)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


@contextmanager
def deterministic_algorithms(*, enabled: bool) -> Iterator[None]:
    """Inside the block, chooses a GPU's convolutions by trial; or, if `enabled`, kernels that always give the same bits
    (slower, or an error if there is no such kernel)."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    torch.use_deterministic_algorithms(enabled)
    torch.backends.cudnn.benchmark = not enabled
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


@contextmanager
def full_float32() -> Iterator[None]:
    """Inside the block, float32 means float32 on a GPU, too: TensorFloat-32 has the 10 bits of a float16."""
    kinds: tuple[Any, ...] = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = "ieee"
        yield
    finally:
        for kind, value in zip(kinds, before, strict=True):
            kind.fp32_precision = value


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error of PyTorch or Python says that the memory of the device or the machine does not suffice."""
    of_system = ("can't allocate memory", "Cannot allocate memory", "out of memory", "STATUS_ALLOC_FAILED")
    words = (*of_system, "could not create a primitive")  # the last one is oneDNN's
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(word in str(error) for word in words)


def keep_freed_memory(keep: bool = True) -> None:
    """Tells glibc to keep the memory that a step frees for the next step, instead of returning it to the system.

    Otherwise every step on a CPU maps its activations and gradients again, page by page: keeping them gave 6% more images/s on
    32x32 images, and 19% on 224x224. It costs memory only after a peak. Does nothing with another C library.

    `keep=False` returns all of 128 KiB or more, as glibc does until it has seen some freed: for comparisons.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    m_trim_threshold, m_mmap_threshold = -1, -3
    mallopt(m_mmap_threshold, 1 << 30 if keep else 1 << 17)
    mallopt(m_trim_threshold, (1 << 31) - 1 if keep else 1 << 17)


def peak_memory(device: torch.device) -> float:
    """Returns bytes: the maximum that tensors took on a GPU, or that this process held; NaN if the system does not tell."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    try:
        status = Path("/proc/self/status").read_text()  # of Linux; `getrusage` would count the parent's, too
        return 1024.0 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError, ValueError):
        return math.nan


def to_device(tensors: tuple[Tensor, ...], device: torch.device, copies: torch.cuda.Stream | None) -> tuple[Tensor, ...]:
    """Copies pinned tensors to `device` on the CUDA stream `copies`, so the copy overlaps with the previous step.

    Args:
        copies: None without a GPU: plain `.to(device)`.
    """
    if copies is None:
        return tuple(tensor.to(device) for tensor in tensors)
    current = torch.cuda.current_stream(device)
    with torch.cuda.stream(copies):
        moved = tuple(tensor.to(device, non_blocking=True) for tensor in tensors)
    current.wait_stream(copies)
    for tensor in moved:
        tensor.record_stream(current)  # the next copy may reuse its memory only when this stream is done with it
    return moved


def wait(device: torch.device) -> None:
    """Waits until the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
