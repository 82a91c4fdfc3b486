"""The config of a run folder: plain data of unknown origin, checked against the shape of configs/ before anything is built.

It holds values only: no interpolations, no other keys than configs/ have, and as `_target_` only what a file in configs/ names
at that very place. So it can choose among the code that is there, and bring none in.
"""

from collections.abc import Set
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vgg_nll import records, run_folder
from vgg_nll.config import shape, validation
from vgg_nll.errors import CheckpointError, ConfigError


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Returns a config as plain data, with every interpolation replaced by its value, and without what `resume=` says.

    Raises ConfigError for what a saved config cannot hold: text with `${`, and other types than text, numbers, flags, lists.
    """
    content: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    content |= {"resume": None, "resume_strict": True}
    for key, value in shape.leaves(content):
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str) and "${" in item:
                raise ConfigError(f"{key}={value}: holds ${{, which a run folder cannot keep; give the value itself")
            if not shape.is_scalar(item):
                raise ConfigError(f"{key}={str(value)[:200]}: must be {shape.ALLOWED}")
    return content


def read(folder: Path, typed_targets: Set[str] = frozenset(), replaced: Set[str] = frozenset()) -> tuple[dict[str, Any], str]:
    """Returns the config of a run folder, and the run's identity.

    Args:
        typed_targets: classes that the person has typed on the command line, and so allowed.
        replaced: sections that the command line replaces. They are not checked, and nothing may be built from them.

    Raises CheckpointError if it is missing, damaged, not of this shape, or names code that configs/ does not.
    """
    path = folder / run_folder.CONFIG
    content, run_id = records.read_yaml(path)
    used = {key: value for key, value in content.items() if key not in replaced}
    errors = shape.find_errors(content, typed_targets, replaced) or validation.find_errors(dict(shape.leaves(used)))
    if errors:
        raise CheckpointError(f"{path}: {errors[0]}")
    return content, run_id
