"""Composes configs from configs/. Knows nothing of what they build."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

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


def names_of(group: str) -> list[str]:
    """Returns the choices of a config group."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def composed(overrides: Sequence[str], name: str = "train", with_hydra: bool = False) -> DictConfig:
    """Returns `configs/<name>.yaml` with these overrides; those of Hydra itself, and its options, are left out.

    Args:
        with_hydra: with Hydra's own section, which knows what was chosen of each group.
    """
    own = [item for item in overrides if is_override(item) and (not item.startswith("hydra") or key_of(item) == SEARCH_PATH)]
    with initialize_config_dir(str(CONFIGS), **VERSION_BASE):
        return compose(name, overrides=own, return_hydra_config=with_hydra)


def is_override(argument: str) -> bool:
    """Tells whether a word of the command line is an override, not an option or the value of one."""
    return not argument.startswith("-") and ("=" in argument or argument.startswith("~"))


def key_of(override: str) -> str:
    """Returns a.b for +a.b=3."""
    return override.partition("=")[0].lstrip("+~")
