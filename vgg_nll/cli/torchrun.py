"""`torchrun --nproc-per-node=2 train.py ...`: processes that train one network, each with the same command."""

import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vgg_nll.cli import arguments
from vgg_nll.config.compose import SEARCH_PATH, key_of
from vgg_nll.distributed import restart
from vgg_nll.errors import ConfigError
from vgg_nll.run_folder import paths

NEEDED = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
SECONDS_OF_FIRST = 5  # torchrun looks every tenth of a second


def rank() -> int:
    """Returns the number of this process among those that train together; 0 for one alone."""
    return _number("RANK", 0) if _number("WORLD_SIZE", 1) > 1 else 0


def check(typed: Sequence[str]) -> None:
    """Raises ConfigError if torchrun has not started this process as a whole, or cannot start what is typed."""
    size = _number("WORLD_SIZE", 0) if "WORLD_SIZE" in os.environ else 1
    if size == 0:
        raise ConfigError(f"WORLD_SIZE={os.environ['WORLD_SIZE']}: is not a number of processes; torchrun sets it, or unset it")
    if size > 1:
        _check_environment(size)
    if (size > 1 or "TORCHELASTIC_RUN_ID" in os.environ) and arguments.is_sweep(typed):
        raise ConfigError(
            "-m: torchrun trains one network on several processes; start a sweep with python train.py -m, which gives every "
            "job a GPU of its own"
        )


def _check_environment(size: int) -> None:
    """Raises ConfigError unless the variables beside WORLD_SIZE can be torchrun's."""
    instead = f"start with torchrun --nproc-per-node={size} train.py, or unset WORLD_SIZE"
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        raise ConfigError(f"WORLD_SIZE={size} without {', '.join(missing)}: {instead}")
    of_machine = _number("LOCAL_WORLD_SIZE", 1)
    for name, low, high in (
        ("RANK", 0, size - 1),
        ("LOCAL_WORLD_SIZE", 1, size),
        ("LOCAL_RANK", 0, of_machine - 1),
        ("MASTER_PORT", 1, 65535),
    ):
        if not low <= _number(name, -1) <= high:
            raise ConfigError(f"{name}={os.environ[name]}: is not a number from {low} to {high}; {instead}")


def continued(typed: Sequence[str]) -> list[str]:
    """Returns the arguments of this process: after a restart by `torchrun --max-restarts`, those that continue the run."""
    folder = restart.folder_to_continue()
    if folder is None or not paths.has_checkpoint(folder):
        return list(typed)
    if rank() == 0:
        print(f"restarted: continues {folder}", flush=True)
    kept = [word for word in typed if key_of(word) == "resume_strict" or key_of(word).endswith("._target_")]
    return [*kept, f"resume={folder}"]


def of_rank(typed: Sequence[str]) -> list[str]:
    """Returns the arguments of this process: a rank other than the first has no folder, no log and no standard output."""
    if rank() == 0:
        return list(typed)
    sys.stdout = Path(os.devnull).open("w", encoding="utf-8", errors="replace")  # noqa: SIM115 - until the end; rank 0 says everything
    of_hydra = [word for word in typed if re.match(r"[+~]*hydra[./=]", word) and key_of(word) != SEARCH_PATH]
    return ["hydra=other_rank", *(word for word in typed if word not in of_hydra)]  # options come last


def wait_for_first() -> None:
    """Gives rank 0 the time to show an error that all ranks have: torchrun then ends the others."""
    if rank() > 0:
        time.sleep(SECONDS_OF_FIRST)


def _number(name: str, otherwise: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else otherwise
