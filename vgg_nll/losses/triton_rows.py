"""Value and gradient of labelled rows on a GPU: one kernel, one read of the logits, one write of the gradient.

The formulas are those of `vgg_nll/losses/exact_rows.py`. One program computes one row and holds it in registers; float64 is
used for the numbers of which a row has one. Needs Triton, which PyTorch's builds for CUDA bring.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

# Beyond, a row does not fit in the registers of a program.
MAX_CLASSES = 32768


def value_and_gradient(
    logits: Tensor, target: Tensor, *, complements: bool, differentiate: bool
) -> tuple[Tensor, Tensor | None]:
    """Returns `exact_rows.value_and_gradient`, values [B] in float32. A label out of range gives NaN: nothing reads it in time.

    Args:
        logits: [B, C], float32, C <= MAX_CLASSES; target: [B], int64.
    """
    logits = logits.contiguous()
    rows, classes = logits.shape
    block = triton.next_power_of_2(classes)
    values = logits.new_empty(rows)
    gradient = torch.empty_like(logits) if differentiate else None
    into = values if gradient is None else gradient
    with torch.cuda.device_of(logits):  # Triton starts on the current device
        _rows[(rows,)](
            logits,
            target.contiguous(),
            values,
            into,
            classes,
            COMPLEMENTS=complements,
            DIFFERENTIATE=differentiate,
            BLOCK=block,
            num_warps=min(max(block // 512, 1), 16),
        )
    return values, gradient


@triton.jit
def _log1p(x: tl.tensor) -> tl.tensor:
    """log(1 + x) for x >= 0 in float64: the quotient corrects what rounding took from 1 + x."""
    u = 1.0 + x
    return tl.where(u == 1.0, x, tl.where(u < 1e300, tl.log(u) * x / tl.where(u == 1.0, 1.0, u - 1.0), tl.log(u)))


@triton.jit
def _log1p_of_odds(r: tl.tensor) -> tl.tensor:
    """log(1 + r) for 0 <= r <= 1 in float32, as 2 artanh(r / (2 + r)): a GPU's fast logarithm loses a small r."""
    s = r / (2.0 + r)
    q = s * s
    series = 1.0 / 13 + q * (1.0 / 15 + q * (1.0 / 17))
    series = 1.0 / 7 + q * (1.0 / 9 + q * (1.0 / 11 + q * series))
    return 2.0 * s * (1.0 + q * (1.0 / 3 + q * (1.0 / 5 + q * series)))


@triton.jit
def _rows(
    logits: tl.tensor,
    target: tl.tensor,
    values: tl.tensor,
    gradient: tl.tensor,
    classes: tl.tensor,
    COMPLEMENTS: tl.constexpr,
    DIFFERENTIATE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, BLOCK)
    inside = k < classes
    z = tl.load(logits + row * classes + k, mask=inside, other=-float("inf"))
    label = tl.load(target + row)
    exists = (label >= 0) & (label < classes)
    of_label = tl.load(logits + row * classes + label, mask=exists, other=float("nan")).to(tl.float64)
    top = tl.argmax(z, 0)
    at_top = k == top
    value = tl.max(z, 0)
    x = tl.where(at_top, -float("inf"), z)
    runner = tl.maximum(tl.max(x, 0), -3.4028234663852886e38)
    x = tl.exp(x - runner)  # 0 at the top
    bad = tl.max(((z != z) | (z == float("inf"))).to(tl.int32), 0) + (value == -float("inf")).to(tl.int32)
    nan = tl.where((bad > 0) | (exists == 0), float("nan"), 0.0)
    total = tl.sum(x, 0).to(tl.float64)
    empty = tl.where(total == 0.0, 1.0, 0.0)
    total = tl.maximum(total, 1e-30)
    gap = value.to(tl.float64) - runner.to(tl.float64)
    against = tl.exp(gap)
    odds = total / against
    nll_top = _log1p(odds)
    right = label == top
    loss = value.to(tl.float64) - of_label + nll_top
    inverse = 1.0 / (against + total)
    p = x * inverse.to(tl.float32)
    is_label = k == label
    p_top = 1.0 / (1.0 + odds)
    if COMPLEMENTS:
        r = tl.where(is_label, 0.0, p / (1.0 - p))
        tiny = odds < 1e-20
        r_sum = tl.where(tiny, odds, tl.sum(r, 0).to(tl.float64))
        loss += tl.where(right, 0.0, nll_top + gap - tl.log(total))
        loss += tl.where(tiny, odds, tl.sum(_log1p_of_odds(r), 0).to(tl.float64))
        factor = (1.0 - r_sum) * inverse - tl.where(right, 0.0, p_top / total)
        g = tl.where(is_label, -1.0 - empty.to(tl.float32), r) + x * factor.to(tl.float32)
        g_top = p_top * (tl.where(right, -odds, 2.0) - r_sum)
    else:
        g = tl.where(is_label, p - 1.0, p)
        g_top = p_top * tl.where(right, -odds, 1.0)
    tl.store(values + row, (loss + nan).to(tl.float32))
    if DIFFERENTIATE:
        g = tl.where(at_top, g_top.to(tl.float32), g) + nan.to(tl.float32)
        tl.store(gradient + row * classes + k, g, mask=inside)
