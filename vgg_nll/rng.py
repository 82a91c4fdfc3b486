"""Random draws as functions of (seed, purpose, indices), never of earlier draws.

So a run that resumes at step 1000 draws what an uninterrupted run draws there, for any number of workers, and no generator
state must be saved.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# The other functions of `nn.init` that draw call one of these.
DRAWS = (nn.init.kaiming_normal_, nn.init.kaiming_uniform_, nn.init.normal_, nn.init.uniform_, Tensor.normal_, Tensor.uniform_)


def fold(seed: int, purpose: str, *indices: int) -> int:
    """Returns a 63-bit seed from `seed`, a purpose ("init", "order", ...) and indices (epoch, step, image)."""
    text = "/".join(map(str, (seed, purpose, *indices)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, purpose: str, *indices: int) -> torch.Generator:
    """Returns a CPU generator for one purpose; the same arguments give the same draws on every device."""
    return torch.Generator().manual_seed(fold(seed, purpose, *indices))


@contextmanager
def seeded(seed: int, purpose: str, *indices: int) -> Iterator[None]:
    """Seeds PyTorch's global CPU generator for the block, and restores it."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(fold(seed, purpose, *indices))
        yield


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seeds PyTorch's global generators, CPU and CUDA, for one optimizer step: dropout is then a function of the step.

    Args:
        rank: of the process, among those that train on the parts of one batch.
    """
    torch.manual_seed(fold(seed, "step", step, *([rank] if rank else [])))


class NoDraws(TorchFunctionMode):
    """Inside the block, the weights of a new network are not drawn: their memory stays as it is, until others are loaded.

    The meta device does that, too, but loads PyTorch's compiler first, which takes as long as the draws of 138 M weights.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if function in DRAWS:
            return args[0] if args else options["tensor"]
        return function(*args, **options)
