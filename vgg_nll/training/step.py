"""One training step: no files, no config, no logging."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vgg_nll.data.interface import labels_of
from vgg_nll.distributed.process_group import ALONE, Ranks
from vgg_nll.losses import Loss
from vgg_nll.training.optim import update_average
from vgg_nll.training.state import TrainState


@dataclass(frozen=True)
class StepOptions:
    """What all steps of a run have in common.

    Args:
        dtype: torch.bfloat16 for autocast, torch.float32 for none. The loss is always computed from float32 logits.
        clip_norm: maximum norm of the gradient; None for no clipping.
        accumulation_steps: parts that a batch is split into.
        ema_decay: of the average of the weights, if the state has one.
        ranks: those that train on the other rows of the batch, with the same state.
        batch_size: images of all ranks; None: those that the step is given.
    """

    dtype: torch.dtype
    clip_norm: float | None = None
    accumulation_steps: int = 1
    ema_decay: float = 0.0
    ranks: Ranks = ALONE
    batch_size: int | None = None


def train_step(
    state: TrainState,
    loss_function: Loss,
    images: Tensor,
    target: Tensor,
    options: StepOptions,
    *,
    learning_rate: float,
    on_logits: Callable[[Tensor, Tensor], None] | None = None,
) -> Tensor:
    """Does forward, loss, backward, clip, finite check, update; returns the gradient norm before clipping (on the device).

    The batch is split into parts whose losses are weighted by their images, so their sum is the mean
    over the batch. The host does not wait for the device. If a loss or gradient is not finite, `state` records it, and this
    update and every later one are skipped on the device: the weights stay as they were before the bad step.

    Args:
        images: [B, 3, H, W] on the device; target: classes [B], or probabilities [B, C].
        on_logits: gets the logits [B, C] and the labels [B] of every part.
    """
    model, optimizer, ranks = state.model, state.optimizer, options.ranks
    model.train()
    optimizer.zero_grad(set_to_none=True)
    number = len(images) if options.batch_size is None else options.batch_size
    batch_loss = torch.zeros((), device=images.device)
    correct = torch.zeros((), dtype=torch.int64, device=images.device)
    # `chunk` would make fewer parts of some ranks' shares, and batch norm over ranks would wait for the missing ones.
    split = torch.chunk if ranks.size == 1 else torch.tensor_split
    parts = list(zip(*(split(rows, options.accumulation_steps) for rows in (images, target)), strict=True))
    for position, (part, part_target) in enumerate(parts):
        with state.keep_gradients() if position < len(parts) - 1 else nullcontext():
            with torch.autocast(images.device.type, options.dtype, enabled=options.dtype != torch.float32):
                logits = state.forward(part)
            loss = loss_function(logits.float(), part_target) * (len(part) / number)
            (loss * ranks.size).backward()  # the engine takes the mean over the ranks; theirs are parts of a mean already
        batch_loss += loss.detach()
        if on_logits is not None:
            on_logits(logits.detach(), labels_of(part_target))
        correct += (logits.detach().argmax(dim=1) == labels_of(part_target)).sum()
    if ranks.size > 1:
        totals = ranks.all_reduce_sum(torch.stack([batch_loss.double(), correct.double()]))
        batch_loss, correct = totals[0].float(), totals[1].long()
    norm = _gradient_norm(optimizer)
    _record_if_not_finite(state, batch_loss, norm)
    _update(state, learning_rate, None if options.clip_norm is None else (norm / options.clip_norm).clamp(min=1))
    if state.average is not None:
        update_average(state.average, model, options.ema_decay, state.step)
    state.window_loss += batch_loss.double() * number
    state.window_correct += correct
    state.window_images += number
    state.step += 1
    return norm


def _update(state: TrainState, learning_rate: float, divisor: Tensor | None) -> None:
    """Does the optimizer's step with gradients divided by `divisor`; none if there was a bad step."""
    optimizer = state.optimizer
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("lr_scale", 1.0)
    # Fused optimizers read two attributes that GradScaler normally sets: gradients are divided by `grad_scale` inside the
    # kernel (here: clipping for free), and the update is skipped if `found_inf` is 1.
    optimizer.grad_scale = divisor  # type: ignore[attr-defined]
    optimizer.found_inf = (state.bad_step >= 0).float()  # type: ignore[attr-defined]
    optimizer.step()


def _gradient_norm(optimizer: torch.optim.Optimizer) -> Tensor:
    """Returns the norm of all gradients together."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if gradients[0].device.type == "cpu":
        # By rows: PyTorch's norm over a whole tensor of 100 million float32 values is 1% off.
        gradients = [torch.linalg.vector_norm(g, dim=tuple(range(1, g.dim()))) if g.dim() > 1 else g for g in gradients]
    return nn.utils.get_total_norm(gradients)


def _record_if_not_finite(state: TrainState, loss: Tensor, norm: Tensor) -> None:
    first = (state.bad_step < 0) & ~(torch.isfinite(loss) & torch.isfinite(norm))
    state.bad_step = state.bad_step.masked_fill(first, state.step)
    state.bad_loss = torch.where(first, loss, state.bad_loss)
    state.bad_gradient_norm = torch.where(first, norm, state.bad_gradient_norm)
