"""How much of the disk the checkpoints of a run take: said before training, and compared with what is free."""

import logging
import shutil
from pathlib import Path

from vgg_nll.errors import ConfigError
from vgg_nll.training.state import TrainState

log = logging.getLogger(__name__)
NOTABLE = 10**9  # bytes: less is not worth a line


def check_disk(folder: Path, state: TrainState, *, keep: str) -> None:
    """Says what checkpoints take, if that is much: up to three states, one of which is being written, and the best weights.

    Args:
        folder: of a new run; keep: `checkpoint.keep`.

    Raises ConfigError if the disk has less.
    """
    weights, whole = state.bytes_on_disk()
    needed, left, free = 3 * whole + weights, (whole if keep == "all" else 0) + weights, shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigError(
            f"hydra.run.dir={folder}: has {_gigabytes(free)} left on its disk, and the checkpoints take {_gigabytes(needed)} "
            "while the network trains: make room, name a folder on another disk, or lower model.width"
        )
    if needed >= NOTABLE:
        best = f"; checkpoint.keep=best leaves {_gigabytes(weights)}" if keep == "all" else ""
        log.info(f"checkpoints: {_gigabytes(needed)} while it trains, {_gigabytes(left)} after the end{best}")


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
