"""The processes that train one network together, as torchrun starts them: rank 0, 1, ..., size - 1. Usually there is one.

Each trains on its share of every batch. PyTorch's distributed engine does the work: NCCL between GPUs, gloo between CPUs.
"""

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vgg_nll.errors import ConfigError, LostRankError

RENDEZVOUS_SECONDS = 120  # torchrun starts all at once; PyTorch loads in seconds, from a slow disk in a minute
PEERS = (dist.DistError, ConnectionError)


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together. All of them must call a method that exchanges something, in one order.

    Args:
        rank: of this process; size: number of processes.
        control: the group that exchanges Python objects, over gloo; None for a process alone, which exchanges nothing.
    """

    rank: int = 0
    size: int = 1
    control: Any = None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and lines."""
        return self.rank == 0

    def rows(self, images: int) -> slice:
        """Returns this rank's rows of a batch: parts in the order of the ranks, whose sizes differ by one at most."""
        base, rest = divmod(images, self.size)
        start = self.rank * base + min(self.rank, rest)
        return slice(start, start + base + (self.rank < rest))

    def gather(self, value: Any) -> list[Any]:
        """Returns the values of all ranks, in their order. Tensors must be on the CPU."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def broadcast_object(self, value: Any) -> Any:
        """Returns the value of rank 0."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.control)
        return values[0]

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """Adds a tensor over all ranks, in place; returns it. The host does not wait for a GPU."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def all_reduce_max(self, number: int) -> int:
        """Returns the largest of all ranks' numbers. The hosts wait for each other, not for a GPU: 0.1 ms on one machine."""
        if self.size == 1:
            return number
        numbers = torch.tensor(number)
        dist.all_reduce(numbers, dist.ReduceOp.MAX, group=self.control)
        return int(numbers)

    def barrier(self) -> None:
        """Waits until every rank has come here."""
        if self.size > 1:
            dist.barrier(group=self.control)

    @torch.no_grad()
    def broadcast_module(self, module: nn.Module, *, buffers_only: bool = False) -> None:
        """Gives a module the buffers of rank 0, and its weights, too, unless `buffers_only`."""
        if self.size > 1:
            for tensor in module.buffers() if buffers_only else module.state_dict().values():
                dist.broadcast(tensor, src=0)

    @contextmanager
    def rank_zero_first(self) -> Iterator[None]:
        """Runs the block in rank 0, then in the others."""
        if not self.is_first:
            self.barrier()
        try:
            yield
        finally:
            if self.is_first:
                self.barrier()


ALONE = Ranks()


def init_process_group(device: torch.device) -> Ranks:
    """Joins the other processes that torchrun started; ALONE if there are none.

    Raises ConfigError if they cannot talk to each other on this device.
    """
    size = _size()
    if size == 1:
        return ALONE
    if device.type == "cuda":
        if not dist.is_nccl_available():
            raise ConfigError("device=cuda: this PyTorch has no NCCL, which ranks on GPUs need; device=cpu trains on gloo")
        torch.cuda.set_device(device)
    with lost_peers_as_error():
        rank = int(os.environ["RANK"])
        is_master = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        limit = timedelta(seconds=RENDEZVOUS_SECONDS)
        server = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), size, is_master, limit)
        store = dist.PrefixStore(_rendezvous(server, rank, size), server)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size)
        return Ranks(rank, size, dist.new_group(backend="gloo"))


def _rendezvous(store: dist.Store, rank: int, size: int) -> str:
    """Returns a name that the ranks of this start share, and no earlier one.

    torchrun's store outlives a restart, with the addresses of processes that are gone, and machines may count restarts
    differently. So each rank leaves a token, which rank 0 answers with the name, until that rank says that it has it.
    """
    own = uuid.uuid4().hex
    if rank > 0:
        store.set(f"vgg_nll/token/{rank}", own)
        name = str(store.get(f"vgg_nll/name/{own}").decode())
        store.set(f"{name}/met/{rank}", "")
        return name
    name, end = f"vgg_nll/{own}", time.monotonic() + RENDEZVOUS_SECONDS
    for other in range(1, size):
        while not store.check([f"{name}/met/{other}"]):
            if time.monotonic() > end:
                raise ConnectionError(f"rank {other} did not come within {RENDEZVOUS_SECONDS} s")
            if store.check([f"vgg_nll/token/{other}"]):
                store.set(f"vgg_nll/name/{store.get(f'vgg_nll/token/{other}').decode()}", name)
            time.sleep(0.02)
    return name


def _size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_rank() -> bool:
    """Returns whether this process is the one that writes; also before it has met the others."""
    return _size() == 1 or os.environ["RANK"] == "0"


def destroy_process_group() -> None:
    """Ends the exchange with the other processes, if there was one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def device_of_rank(name: str, chosen: torch.device) -> torch.device:
    """Returns the device of this process: under torchrun, with `device=auto` or `cuda`, the GPU of its local rank.

    Raises ConfigError if there are fewer GPUs than local ranks, or one GPU is asked for all.
    """
    if _size() == 1 or chosen.type == "cpu":
        return chosen
    local_size = int(os.environ["LOCAL_WORLD_SIZE"])
    if chosen.index is not None and local_size > 1:
        raise ConfigError(f"device={name}: is one GPU for {local_size} ranks; device=cuda gives each rank one of its own")
    found = torch.cuda.device_count()
    if found < local_size:
        raise ConfigError(
            f"device={name}: {local_size} ranks on a machine of {found} GPUs; torchrun --nproc-per-node={found}, or device=cpu"
        )
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]) if chosen.index is None else chosen.index)


@contextmanager
def lost_peers_as_error() -> Iterator[None]:
    """Turns what PyTorch says if another process has ended, or cannot be reached, into one line."""
    try:
        yield
    except (RuntimeError, ConnectionError) as error:
        if _size() == 1 or not (isinstance(error, PEERS) or "gloo" in str(error) or "NCCL" in str(error)):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise LostRankError(f"stopped: another rank has ended, and says why, or cannot be reached ({reason})") from error
