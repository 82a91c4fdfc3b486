"""The values of labelled rows, by the fastest exact way where they are asked for.

* Eager: value and gradient together (`cpu_rows.py` on a CPU, `triton_rows.py` on CUDA, else `exact_rows.py`).
* `torch.compile`: the same, as the operator `vgg_nll::label_nll`, which Dynamo does not look into.
* Everything that looks into a function (`torch.func`, forward-mode derivatives, `make_fx`, fake tensors, `torch.export`) and
  second derivatives: the terms of `log_probabilities`, in PyTorch's differentiable operations.
"""

import functools
import importlib.util
import warnings
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from vgg_nll.losses import cpu_rows, exact_rows
from vgg_nll.losses.softmax import as_float, is_class, log_probabilities

# Elements in one pass on a CPU: larger buffers leave its cache, smaller passes repeat the calls. Half as many took 1.2 and 1.1
# times as long at 4096 x 1000 without and with complements, four times as many 0.9 and 1.25 times.
CHUNK_ELEMENTS = 1 << 19


def label_nll(logits: Tensor, target: Tensor, *, complements: bool, mean: bool = False) -> Tensor:
    """Returns `-log p_t` of each row [B], plus, with `complements`, `-log(1 - p_k)` of every class but `t`.

    Args:
        logits: [B, C], any floating type; target: [B], int64 in [0, C).
        mean: returns the mean over the rows [], by one autograd node in place of two.
    """
    logits = as_float(logits)
    if is_eager(logits, target):
        values: Tensor = _LabelNLL.apply(logits, target, complements, mean)
        return values
    rows = _operator(logits, target, complements)[0] if is_compiling() else by_terms(logits, target, complements)
    return rows.mean() if mean else rows


def by_terms(logits: Tensor, target: Tensor, complements: bool) -> Tensor:
    """Returns `label_nll` as a sum of `log_probabilities`: several times slower, differentiable any number of times."""
    nll, complement_nll, _ = log_probabilities(logits)
    label = target[:, None]
    if not complements:
        return nll.gather(1, label).squeeze(1)
    return torch.where(is_class(label, logits), nll, complement_nll).sum(1)


def is_compiling() -> bool:
    """Returns whether `torch.compile` traces this, and not `torch.export` or a `torch.func` transform inside."""
    return torch.compiler.is_compiling() and not (torch.compiler.is_exporting() or torch._C._are_functorch_transforms_active())


def is_eager(*tensors: Tensor) -> bool:
    """Returns whether these are plain tensors whose values may be read, so that nothing looks into the operations on them."""
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
        or any(
            type(tensor) not in (Tensor, torch.nn.Parameter) or forward_ad.unpack_dual(tensor).tangent is not None
            for tensor in tensors
        )
    )


class _LabelNLL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, complements: bool, mean: bool) -> Tensor:
        rows, gradient = _value_and_gradient(logits, target, complements, ctx.needs_input_grad[0])
        # Neither is a saved tensor: PyTorch would refuse logits that were changed in place, which only a second derivative
        # needs; and a gradient that `backward` scales in place must be this node's alone, while hooks may share what is saved.
        ctx.logits, ctx.gradient, ctx.complements, ctx.mean = logits, gradient, complements, mean
        ctx.version = logits._version if ctx.needs_input_grad[0] else None  # inference tensors have none
        ctx.save_for_backward(target)
        return rows.mean() if mean else rows

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (target,) = ctx.saved_tensors  # raises if an earlier `backward` has freed the graph
        scale = upstream / len(target) if ctx.mean else upstream[:, None]
        if torch.is_grad_enabled():  # this gradient will be differentiated
            if ctx.logits._version != ctx.version:
                raise RuntimeError("the logits were changed in place: their loss has no second derivative any more")
            each = scale.squeeze(1) if scale.dim() else scale.expand(len(target))
            return _differentiable_gradient(ctx.logits, target, each, ctx.complements), None, None, None
        if torch._C._autograd._get_current_graph_task_keep_graph():
            return ctx.gradient * scale, None, None, None
        gradient, ctx.gradient, ctx.logits = ctx.gradient, None, None  # the node may live as long as the loss
        many = torch._C._functorch.is_legacy_batchedtensor(upstream) or torch._C._functorch.is_batchedtensor(upstream)
        return gradient * scale if many else gradient.mul_(scale), None, None, None


def _differentiable_gradient(logits: Tensor, target: Tensor, upstream: Tensor, complements: bool) -> Tensor:
    (gradient,) = torch.autograd.grad(by_terms(logits, target, complements), logits, upstream, create_graph=True)
    return gradient


def _value_and_gradient(logits: Tensor, target: Tensor, complements: bool, differentiate: bool) -> tuple[Tensor, Tensor | None]:
    """Returns the values [B] and the gradient [B, C] in the type of the logits; with `differentiate=False`, None for it."""
    label = target[:, None]
    if logits.numel() == 0:
        return logits.new_zeros(len(logits)), torch.zeros_like(logits) if differentiate else None
    kernel = _triton_rows(logits.device) if logits.is_cuda else None
    if kernel is not None and logits.dtype == torch.float32 and logits.shape[1] <= kernel.MAX_CLASSES:
        return kernel.value_and_gradient(logits, target, complements=complements, differentiate=differentiate)
    small = complements and logits.numel() <= cpu_rows.SMALL
    if small or logits.dtype == torch.float64 or logits.device.type != "cpu":
        values, gradient = exact_rows.value_and_gradient(logits, label, complements=complements, differentiate=differentiate)
    else:
        gradient = torch.empty_like(logits, memory_format=torch.contiguous_format) if differentiate else None
        values = _by_chunks(logits, label, gradient, complements)
    return values.squeeze(1).to(logits.dtype), gradient


@functools.cache
def _triton_rows(device: torch.device) -> ModuleType | None:
    """Returns the kernel for a GPU; None if it does not run here: no Triton, or no C compiler, with which Triton starts it."""
    if importlib.util.find_spec("triton") is None:
        return None
    try:
        kernel = importlib.import_module("vgg_nll.losses.triton_rows")
        row = torch.zeros(1, 2, device=device)
        kernel.value_and_gradient(row, row[:, 0].long(), complements=True, differentiate=True)
    except Exception as error:  # Triton has no type for its errors
        warnings.warn(f"the losses' Triton kernel does not run here, PyTorch's operations replace it: {error}", stacklevel=2)
        return None
    return kernel


def _by_chunks(logits: Tensor, label: Tensor, gradient: Tensor | None, complements: bool) -> Tensor:
    step = min(max(1, CHUNK_ELEMENTS // logits.shape[1]), len(logits))
    scratch = logits.new_empty(step, logits.shape[1]) if complements else None
    if step == len(logits):  # slices would cost a small batch a tenth of its time
        return cpu_rows.value_and_gradient(logits, label, gradient, scratch, complements=complements)
    parts = []
    for start in range(0, len(logits), step):
        part = slice(start, start + step)
        into = None if gradient is None else gradient[part]
        space = None if scratch is None else scratch[: len(label[part])]
        parts.append(cpu_rows.value_and_gradient(logits[part], label[part], into, space, complements=complements))
    return torch.cat(parts)


@torch.library.custom_op("vgg_nll::label_nll", mutates_args=())
def _operator(logits: Tensor, target: Tensor, complements: bool) -> tuple[Tensor, Tensor]:
    """Returns the values [B] and the gradient [B, C]. Raises IndexError for a label out of bounds, on a CPU."""
    if target.device.type == "cpu" and len(target) and not 0 <= target.min() <= target.max() < logits.shape[1]:
        raise IndexError(f"target is out of bounds: labels must lie in [0, {logits.shape[1]}) or equal ignore_index")
    rows, gradient = _value_and_gradient(logits, target, complements, True)
    assert gradient is not None
    return rows, gradient


@_operator.register_fake
def _(logits: Tensor, target: Tensor, complements: bool) -> tuple[Tensor, Tensor]:
    return logits.new_empty(logits.shape[0]), torch.empty_like(logits, memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, bool], output: tuple[Tensor, Tensor]) -> None:
    ctx.complements = inputs[2]
    ctx.save_for_backward(*inputs[:2], output[1])


def _differentiate(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
    logits, target, gradient = ctx.saved_tensors
    if torch.is_grad_enabled():
        return _differentiable_gradient(logits, target, upstream, ctx.complements), None, None
    return gradient * upstream[:, None], None, None


_operator.register_autograd(_differentiate, setup_context=_save)
