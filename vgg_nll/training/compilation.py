"""`trainer.compile`: the network as one program, by torch.compile."""

import logging
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)


def compile_network(model: nn.Module, device: torch.device, *, graphs: bool) -> Callable[[Tensor], Tensor]:
    """Returns `torch.compile` of a network, for batches of one size; the network itself, with a warning, without a compiler.

    Args:
        graphs: replays CUDA graphs, which saves the start of each kernel: for small images that takes longer than the kernel.
            Not with several backward passes a step: the second one overwrites the gradients of the first.
    """
    try:  # with something small, so that it does not end in the first step
        torch.compile(lambda x: (2 * x).relu().sum())(torch.ones(8, device=device, requires_grad=True)).backward()
    except Exception as error:  # every backend has its own
        reason = str(error).strip().partition("\n")[0]
        log.warning(f"warning: trainer.compile=true: nothing can be compiled here, training continues without ({reason})")
        return model
    return cast(Callable[[Tensor], Tensor], torch.compile(model, dynamic=False, mode="reduce-overhead" if graphs else None))
