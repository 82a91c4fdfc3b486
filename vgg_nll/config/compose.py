"""Composes configs from configs/. Knows nothing of what they build."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

_ABSENT = object()
_PACKAGE = Path(__file__).resolve().parents[1]
# In an installed package the configs lie inside it; in a source tree they stand at the top level.
CONFIGS = next(folder for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if folder.is_dir())

_IS_1_3 = hydra.__version__.startswith("1.3")
# Hydra 1.3 warns if it is not told its version; 1.4 deprecates being told.
VERSION_BASE: dict[str, str] = {"version_base": "1.3"} if _IS_1_3 else {}
# Hydra 1.4 wants to be told which targets may run. Ours come from configs/ or from the user; those of a run folder are checked
# by its record.
MAY_INSTANTIATE: dict[str, Any] = (
    {} if _IS_1_3 else {"_execution_whitelist_": hydra.utils.UNSAFE_DISABLE_EXECUTION_CHECKS}  # type: ignore[attr-defined]
)


SEARCH_PATH = "hydra.searchpath"  # more folders with configs
NO_EXPERIMENT = "experiment=null"  # the default, which Hydra does not take as an override


def names_of(group: str) -> list[str]:
    """Returns the choices of a config group."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def choices_with(key: str) -> list[str]:
    """Returns the choices of a key's group that have the key: ["sgd"] for optimizer.momentum."""
    group, _, rest = key.partition(".")
    return [name for name in names_of(group) if rest and _has(group, name, rest.split("."))]


def belongs_to(key: str) -> str:
    """Returns, for a key that is not there, which choice of its group has it, and what to do; "" if none has."""
    group, there = key.partition(".")[0], choices_with(key)
    words = " or ".join(f"{group}={name}" for name in there)
    return f"belongs to {words}, which is not chosen; choose that, or leave the key out" if there else ""


def why_not_called(message: str) -> str:
    """Returns, in one line, what Hydra has against a `_target_`, of its error message."""
    if "is blocklisted" in message:
        return "is refused by Hydra, since it could run any program; name a class, as the files in configs/ do"
    return f"cannot be used: {' '.join(re.split(', set env var|full_key:', message)[0].split())}"


def _has(group: str, name: str, keys: Sequence[str]) -> bool:
    content = section = yaml.safe_load((CONFIGS / group / f"{name}.yaml").read_text(encoding="utf-8")) or {}
    for key in keys:
        section = section.get(key, _ABSENT) if isinstance(section, dict) else _ABSENT
    others = [other for other in content.get("defaults", ()) if isinstance(other, str) and other != "_self_"]
    return section is not _ABSENT or any(_has(group, other, keys) for other in others)


def composed(overrides: Sequence[str], name: str = "train", with_hydra: bool = False) -> DictConfig:
    """Returns `configs/<name>.yaml` with these overrides; those of Hydra itself, and its options, are left out.

    Args:
        with_hydra: with Hydra's own section, which knows what was chosen of each group.
    """
    own = [item for item in overrides if is_override(item) and (not item.startswith("hydra") or key_of(item) == SEARCH_PATH)]
    own = [item for item in own if item != NO_EXPERIMENT]
    with initialize_config_dir(str(CONFIGS), **VERSION_BASE):
        return compose(name, overrides=own, return_hydra_config=with_hydra)


def is_override(argument: str) -> bool:
    """Returns whether a word of the command line is an override, not an option or the value of one."""
    return not argument.startswith("-") and ("=" in argument or argument.startswith("~"))


def key_of(override: str) -> str:
    """Returns a.b for +a.b=3."""
    return override.partition("=")[0].lstrip("+~")
