"""`resume=<run folder>`: that run's own overrides, with the given ones on top."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vgg_nll import run_folder
from vgg_nll.config import validation
from vgg_nll.config.compose import check_targets, composed, flatten, is_override, key_of, read_saved
from vgg_nll.errors import CheckpointError, ConfigError

# What a resumed run must share with its first part, unless `resume_strict=false`; else it would be another run.
FIXED_ON_RESUME = ("seed.", "model.", "data.", "loss.", "optimizer.", "trainer.batch_size.")
FREE_ON_RESUME = ("optimizer.lr", "data.num_workers", "data.download", "model.weights")
# What gives a finished run something to do.
LENGTH = ("trainer.epochs", "trainer.steps", "trainer.early_stop_validations")


def with_resumed_overrides(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments as they are, or, with `resume=<run folder>`, those of that run with the given ones on top.

    Raises CheckpointError if the folder holds no run, ConfigError if the run would no longer be the same.
    """
    folder = _path_of("resume", arguments)
    if folder is None and any(key_of(argument) == "resume" for argument in arguments):
        raise ConfigError("resume=: is empty; it takes a run folder")
    if folder is None or str(folder) == "null":
        target = _path_of("hydra.run.dir", arguments)
        if target is not None and run_folder.holds_run(target):
            raise ConfigError(f"hydra.run.dir={target}: holds a run already; resume={target} continues it")
        return list(arguments)
    if "-m" in arguments or "--multirun" in arguments:
        raise ConfigError(f"resume={folder}: goes with one run; leave out -m")
    if not folder.is_dir():
        raise CheckpointError(f"resume={folder}: there is no such folder")
    if not run_folder.has_checkpoint(folder) or not (folder / run_folder.OVERRIDES).is_file():
        raise CheckpointError(f"resume={folder}: holds no run to continue (no checkpoints/last.pt, or no .hydra/)")
    before = [str(item) for item in read_saved(folder, run_folder.OVERRIDES, list, f"resume={folder}")]
    foreign = [item for item in before if item.startswith("-") or key_of(item).startswith("hydra")]
    if foreign:  # a run's own list never holds these, and they could bring in configs and code from anywhere
        raise ConfigError(f"resume={folder}: its {run_folder.OVERRIDES} holds {foreign[0]!r}, which no run writes there")
    given = {key_of(argument) for argument in arguments}
    anew = tuple(f"{key}." for key in given)  # with another optimizer=, what was set for the old one goes
    merged = [i for i in before if key_of(i) not in given | {"resume", "resume_strict"} and not key_of(i).startswith(anew)]
    merged += [argument for argument in arguments if is_override(argument) and key_of(argument) != "resume"]
    merged.append(f"resume={_quoted(folder)}")
    cfg = composed(merged)
    typed = {value for argument in arguments for value in re.findall(r"[\w.]+", argument)}
    check_targets(cfg, f"resume={folder}", typed)
    validation.check(cfg)
    saved_cfg = dict(flatten(OmegaConf.create(read_saved(folder, run_folder.CONFIG, dict, f"resume={folder}"))))
    _check_same_run(folder, saved_cfg, cfg)
    _end_if_finished(folder, saved_cfg, dict(flatten(cfg)))
    options = [argument for argument in arguments if not is_override(argument)]  # Hydra takes overrides in one piece
    return [*options, *merged, f"hydra.run.dir={_quoted(folder)}"]


def _check_same_run(folder: Path, before: dict[str, Any], cfg: DictConfig) -> None:
    now = dict(flatten(cfg))
    changed = [
        f"{key}={before.get(key)} (now {now.get(key)})"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and key not in FREE_ON_RESUME and f"{key}.".startswith(FIXED_ON_RESUME)
    ]
    if changed and cfg.resume_strict:
        raise ConfigError(
            f"resume={folder}: was made with {', '.join(changed)}; drop the override, start a new run, or take the difference "
            "with resume_strict=false"
        )
    if changed:
        print(f"warning: continues as another run: it was made with {', '.join(changed)}", file=sys.stderr)


def _end_if_finished(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Ends the process with a line if the run is finished, unless it has more to do now."""
    was = {key: before.get(key) for key in LENGTH}
    more = any(now[key] != was[key] and (now[key] is None or now[key] > (was[key] or 0)) for key in LENGTH)
    if (folder / run_folder.DONE).exists() and not more:
        length = next(f"{key}={was[key]}" for key in ("trainer.steps", "trainer.epochs") if was[key] is not None)
        print(
            f"{folder} is finished ({length}): nothing was changed. A larger number continues it, "
            "or, if it stopped early, a larger trainer.early_stop_validations."
        )
        sys.exit(0)


def _path_of(key: str, arguments: Sequence[str]) -> Path | None:
    """Returns the path of `key=path` among the arguments, with or without quotes."""
    values = [argument.partition("=")[2] for argument in arguments if key_of(argument) == key and "=" in argument]
    return Path(values[-1].strip("'\"").replace("\\'", "'")) if values and values[-1] else None


def _quoted(path: Path) -> str:
    """Quotes a path for Hydra's grammar: folders of sweeps contain '=' and ','."""
    text = str(path).replace("'", "\\'")
    return f"'{text}'"
