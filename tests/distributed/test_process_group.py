"""What ranks exchange, in processes of their own; and what a rank gets."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.processes import RANKS, free_port, in_ranks
from torch import nn

from vgg_nll.distributed import process_group
from vgg_nll.distributed.process_group import Ranks
from vgg_nll.errors import ConfigError, TrainingError

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("images", [1, 2, 3, 7, 8, 9])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_rows_are_dealt_in_order_and_evenly(images: int, size: int) -> None:
    dealt = [list(range(images))[Ranks(rank, size).rows(images)] for rank in range(size)]
    assert list(itertools.chain(*dealt)) == list(range(images))
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


def test_a_process_alone() -> None:
    alone, one = process_group.ALONE, torch.ones(2)
    assert (alone.gather(3), alone.broadcast_object("a"), alone.all_reduce_max(4)) == ([3], "a", 4)
    assert alone.all_reduce_sum(one) is one
    with alone.rank_zero_first():
        alone.barrier()
    assert process_group.init_process_group(CPU) == alone
    process_group.destroy_process_group()


@pytest.mark.parametrize(
    ("name", "chosen", "gpus", "expected"),
    [
        ("auto", CPU, 0, CPU),
        ("cuda", GPU, 2, torch.device("cuda", 1)),
        (
            "cuda:1",
            torch.device("cuda", 1),
            2,
            "device=cuda:1: is one GPU for 2 ranks; device=cuda gives each rank one of its own",
        ),
        (
            "auto",
            GPU,
            1,
            "device=auto: 2 ranks on a machine of 1 GPUs; torchrun --nproc-per-node=1, or device=cpu",
        ),
    ],
)
def test_the_device_of_a_rank(
    monkeypatch: pytest.MonkeyPatch, name: str, chosen: torch.device, gpus: int, expected: torch.device | str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    if isinstance(expected, str):
        with pytest.raises(ConfigError, match=f"^{re.escape(expected)}$"):
            process_group.device_of_rank(name, chosen)
    else:
        assert process_group.device_of_rank(name, chosen) == expected


def test_one_gpu_of_each_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert process_group.device_of_rank("auto", GPU) == torch.device("cuda", 0)
    assert process_group.device_of_rank("cuda:3", torch.device("cuda", 3)) == torch.device("cuda", 3)


@pytest.mark.parametrize(
    ("error", "is_line"),
    [
        (ConnectionResetError("reset"), True),
        (RuntimeError("[gloo/pair.cc] Connection closed by peer\nmore"), True),
        (RuntimeError("NCCL error: unhandled system error"), True),
        (RuntimeError("out of memory"), False),
    ],
)
@pytest.mark.parametrize("size", ["1", "2"])
def test_a_lost_peer_is_a_line(monkeypatch: pytest.MonkeyPatch, error: Exception, is_line: bool, size: str) -> None:
    """With the first line of PyTorch's reason; a process alone has no peer."""
    monkeypatch.setenv("WORLD_SIZE", size)
    is_line = is_line and size == "2"
    with pytest.raises(TrainingError if is_line else type(error)) as found, process_group.lost_peers_as_error():
        raise error
    if is_line:
        assert f"cannot be reached ({str(error).splitlines()[0]})" in str(found.value)


def test_gpus_need_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    with pytest.raises(ConfigError, match=r"^device=cuda: this PyTorch has no NCCL, .*; device=cpu trains on gloo$"):
        process_group.init_process_group(GPU)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "is_torchrun", "reason"),
    [
        ("0", False, "Timed out after . seconds waiting for clients"),
        ("0", True, "rank 1 did not come within 1 s"),
        ("1", False, "The client socket has timed out"),
    ],
)
def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch, rank: str, is_torchrun: bool, reason: str) -> None:
    """Rank 0 for the others, with or without torchrun's store, and these for its address."""
    monkeypatch.setattr(process_group, "RENDEZVOUS_SECONDS", 1)
    port = free_port()
    address = {"WORLD_SIZE": "2", "RANK": rank, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    for name, value in (address | {"TORCHELASTIC_USE_AGENT_STORE": str(is_torchrun)}).items():
        monkeypatch.setenv(name, value)
    agent = torch.distributed.TCPStore("localhost", int(port), is_master=True, wait_for_workers=False) if is_torchrun else None
    with pytest.raises(TrainingError, match=rf"cannot be reached \({reason}"):
        process_group.init_process_group(CPU)
    del agent


def exchange(own: Ranks, folder: Path) -> dict[str, Any]:
    layer = nn.BatchNorm2d(2)
    with torch.no_grad():
        layer.weight.fill_(own.rank)
        layer.running_mean.fill_(own.rank)
    own.broadcast_module(layer, buffers_only=True)
    buffers = (float(layer.weight[0]), float(layer.running_mean[0]))
    own.broadcast_module(layer)
    with own.rank_zero_first():
        seen = len(list(folder.glob("*.note")))
        (folder / f"{own.rank}.note").write_text("")
    own.barrier()
    return {
        "gather": own.gather({"rank": own.rank}),
        "broadcast_object": own.broadcast_object(f"from {own.rank}"),
        "all_reduce_sum": own.all_reduce_sum(torch.tensor([1.0, own.rank])).tolist(),
        "all_reduce_max": own.all_reduce_max(10 - own.rank),
        "buffers": buffers,
        "weight": float(layer.weight[0].detach()),
        "seen": seen,
        "notes": len(list(folder.glob("*.note"))),
    }


@pytest.mark.slow
def test_what_ranks_exchange(tmp_path: Path) -> None:
    found = in_ranks(tmp_path, exchange)
    for rank, values in enumerate(found):
        assert values["gather"] == [{"rank": 0}, {"rank": 1}, {"rank": 2}]
        assert values["broadcast_object"] == "from 0"
        assert values["all_reduce_sum"] == [3.0, 3.0]
        assert values["all_reduce_max"] == 10
        assert values["buffers"] == (rank, 0.0)
        assert values["weight"] == 0.0
        assert values["seen"] >= min(rank, 1)  # rank 0 was before the others
        assert values["notes"] == RANKS
    assert found[0]["seen"] == 0
