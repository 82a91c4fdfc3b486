"""Composes configs from configs/, and reads those of run folders. Knows nothing of what they build."""

from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from vgg_nll.errors import CheckpointError, ConfigError

_PACKAGE = Path(__file__).resolve().parents[1]
# In an installed package the configs lie inside it; in a source tree they stand at the top level.
CONFIGS = next(folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir())

_IS_1_3 = hydra.__version__.startswith("1.3")
# Hydra 1.3 warns if it is not told its version; 1.4 deprecates being told.
VERSION_BASE: dict[str, str] = {"version_base": "1.3"} if _IS_1_3 else {}
# OmegaConf 2.4, which comes with Hydra 1.4, renames it.
register_resolver: Callable[..., None] = OmegaConf.register_new_resolver if _IS_1_3 else OmegaConf.register_resolver
# Hydra 1.4 wants to be told which targets may run. Ours come from configs/ or from the user; those of a run folder are checked
# by `check_targets`.
MAY_INSTANTIATE: dict[str, Any] = (
    {} if _IS_1_3 else {"_execution_whitelist_": hydra.utils.UNSAFE_DISABLE_EXECUTION_CHECKS}  # type: ignore[attr-defined]
)


def composed(overrides: Sequence[str]) -> DictConfig:
    """Returns `configs/train.yaml` with these overrides; those of Hydra itself, and its options, are left out."""
    own = [item for item in overrides if is_override(item) and not item.startswith("hydra")]
    with initialize_config_dir(str(CONFIGS), **VERSION_BASE):
        return compose("train", overrides=own)


def is_override(argument: str) -> bool:
    """Tells whether a word of the command line is an override, not an option or the value of one."""
    return not argument.startswith("-") and ("=" in argument or argument.startswith("~"))


def key_of(override: str) -> str:
    """Returns a.b for +a.b=3."""
    return override.partition("=")[0].lstrip("+~")


def check_targets(cfg: DictConfig, what: str, typed: Set[str] = frozenset()) -> None:
    """Raises ConfigError if a config of unknown origin, a run folder's, names code that no file in configs/ names.

    Args:
        what: the beginning of the message; typed: targets that the person has typed, and so allowed.
    """
    known = {target for path in CONFIGS.rglob("*.yaml") for target in _targets(OmegaConf.load(path))}
    for target in sorted(_targets(cfg) - known - typed):
        raise ConfigError(f"{what}: asks to run {target}, which no file in configs/ names; give it yourself to allow it")


def _targets(node: Any) -> set[str]:
    """Returns every `_target_` in a config, or in lists and dicts."""
    if OmegaConf.is_config(node):
        node = OmegaConf.to_container(node)
    if isinstance(node, dict):
        own = {str(node["_target_"])} if "_target_" in node else set()
        return own.union(*(_targets(value) for value in node.values()))
    return set().union(*(_targets(value) for value in node)) if isinstance(node, list) else set()


def read_saved(folder: Path, name: str, kind: type, what: str) -> Any:
    """Returns what a run has written into a YAML file, as plain lists and dicts. Raises CheckpointError if that is damaged.

    Args:
        kind: list or dict; what: the beginning of the message.
    """
    path = folder / name
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # a damaged file can break its reader in any way
        raise CheckpointError(f"{what}: {name} is missing or damaged ({type(error).__name__})") from error
    if not isinstance(content, kind) or content == {}:  # {}: an empty file
        raise CheckpointError(f"{what}: {name} is damaged: it holds no {kind.__name__}")
    return content


def flatten(cfg: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields ("trainer.batch_size", 32), ... for every leaf of a config that has a value; lists are leaves."""
    for key in cfg:
        name = f"{prefix}{key}"
        if OmegaConf.is_missing(cfg, key):
            continue
        value = cfg[key]
        if OmegaConf.is_dict(value):
            yield from flatten(value, f"{name}.")
        else:
            yield name, OmegaConf.to_container(value) if OmegaConf.is_list(value) else value
