"""Data-parallel training: PyTorch's DistributedDataParallel around the network, and batch norm over all ranks."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

ALL_GRADIENTS_MB = 1 << 20
POWER_SGD_START = 2  # steps; the engine needs the first one as it is


def data_parallel(
    model: nn.Module, function: Callable[[Tensor], Tensor], *, compression: str, bucket_mb: float
) -> DistributedDataParallel:
    """Returns `function`, the forward pass of the network, such that `backward` leaves the mean gradient of all ranks.

    Args:
        compression: of gradients on their way: "none", "bfloat16" (half the bytes), "powersgd" (arXiv:1905.13727, rank 1).
        bucket_mb: gradients are sent in parts of this size, while the rest of the backward pass runs; PowerSGD sends one part,
            since its parts would overtake each other on gloo, each rank in another order.
    """
    if compression == "powersgd":
        bucket_mb = ALL_GRADIENTS_MB
    parallel = DistributedDataParallel(
        _Forward(model, function),
        bucket_cap_mb=bucket_mb,
        gradient_as_bucket_view=True,  # no copy of all gradients
    )
    if compression == "bfloat16":
        parallel.register_comm_hook(None, default_hooks.bf16_compress_hook)
    elif compression == "powersgd":
        state = powerSGD_hook.PowerSGDState(None, matrix_approximation_rank=1, start_powerSGD_iter=POWER_SGD_START)
        parallel.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
    return parallel


class _Forward(nn.Module):
    """A function of a network's, as a module: DistributedDataParallel takes nothing else."""

    def __init__(self, model: nn.Module, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images)


class _SumOfRanks(torch.autograd.Function):
    """A tensor added over all ranks; its gradient is the sum of those that all ranks have."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _SumOfRanks.forward(ctx, gradients[0])


class SyncBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` with the mean and variance of the images of all ranks. PyTorch's own runs on GPUs only."""

    def forward(self, images: Tensor) -> Tensor:
        """Maps [B, C, H, W] to the same shape."""
        if not self.training:
            return super().forward(images)
        number = torch.tensor([images.numel() / images.shape[1]], dtype=torch.float64, device=images.device)
        dist.all_reduce(number)
        values = images.float()
        mean = _SumOfRanks.apply(values.sum((0, 2, 3))) / number.float()
        centred = values - mean[:, None, None]
        variance = _SumOfRanks.apply(centred.square().sum((0, 2, 3))) / number.float()
        self._update_statistics(mean.detach(), variance.detach() * (number / (number - 1)).float())
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(images.dtype)

    @torch.no_grad()
    def _update_statistics(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


def synchronise_batch_norm(model: nn.Module) -> None:
    """Makes every batch norm of a network one over all ranks; weights, buffers and their names stay."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                twin = SyncBatchNorm2d(child.num_features, child.eps, child.momentum)
                twin.load_state_dict(child.state_dict())
                twin.to(child.weight.device).train(child.training)
                twin.weight, twin.bias = child.weight, child.bias  # frozen ones stay frozen
                setattr(module, name, twin)
