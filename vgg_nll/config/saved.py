"""The config of a run folder: plain data of unknown origin, checked against the shape of configs/ before anything is built.

It holds values only: no interpolations, no other keys than configs/ have, and as `_target_` only what a file in configs/ names
at that very place. So it can choose among the code that is there, and bring none in.
"""

import functools
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from vgg_nll import records, run_folder
from vgg_nll.config import validation
from vgg_nll.config.compose import CONFIGS
from vgg_nll.errors import CheckpointError, ConfigError

NOT_SECTIONS = ("hydra", "experiment")
# Every other key of a section with a `_target_` is the constructor's business.
REQUIRED = ("model.head", "model.weights", "optimizer.lr")
SCALARS = (str, int, float, bool, type(None))
MAX_TEXT = 4096
ALLOWED = f"text of up to {MAX_TEXT} characters, a number, true or false, null, or a list of these"


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Returns a config as plain data, with every interpolation replaced by its value, and without what `resume=` says.

    Raises ConfigError for what a saved config cannot hold: text with `${`, and other types than text, numbers, flags, lists.
    """
    content: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    content |= {"resume": None, "resume_strict": True}
    for key, value in leaves(content):
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str) and "${" in item:
                raise ConfigError(f"{key}={value}: holds ${{, which a run folder cannot keep; give the value itself")
            if not _is_scalar(item):
                raise ConfigError(f"{key}={str(value)[:200]}: must be {ALLOWED}")
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
    _check_section(path, "", used, {key: part for key, part in _shape().items() if key not in replaced}, typed_targets)
    values = dict(leaves(used))
    missing = [name for name in REQUIRED if name not in values and name.partition(".")[0] not in replaced]
    errors = [f"{name}: is missing" for name in missing] or validation.find_errors(values)
    if errors:
        raise CheckpointError(f"{path}: {errors[0]}")
    return content, run_id


def _check_section(path: Path, prefix: str, section: Mapping[str, Any], shape: Mapping[str, Any], typed: Set[str]) -> None:
    """Compares a section with the shape of all files of its group: the same keys, or, if it has a `_target_`, that one."""
    has_target = "_target_" in shape
    for key in shape.keys() - section.keys():
        if not has_target or key == "_target_":
            raise CheckpointError(f"{path}: {prefix}{key} is missing")
    for key, value in section.items():
        known, name = shape.get(key), f"{prefix}{key}"
        if isinstance(known, dict):
            if not isinstance(value, dict):
                raise CheckpointError(f"{path}: {name} is not a section")
            _check_section(path, f"{name}.", value, known, typed)
        elif key == "_target_":
            if not isinstance(value, str) or value not in (known or set()) | typed:
                raise CheckpointError(
                    f"{path}: {name}={str(value)[:200]}: no file in configs/ names this here; type {name}=... to allow it"
                )
        elif key.startswith("_"):
            if known is None or not _is_scalar(value) or value not in known:
                raise CheckpointError(f"{path}: {name}={str(value)[:200]} is not allowed")
        elif known is None and not has_target:
            raise CheckpointError(f"{path}: {name} is unknown")
        elif not all(_is_scalar(item) for item in (value if isinstance(value, list) else [value])):
            raise CheckpointError(f"{path}: {name}: must be {ALLOWED}")


def _is_scalar(value: Any) -> bool:
    return isinstance(value, SCALARS) and not (isinstance(value, str) and (len(value) > MAX_TEXT or "${" in value))


def leaves(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields ("trainer.epochs", 6), ... for every leaf; a list is one."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@functools.cache
def _shape() -> dict[str, Any]:
    """Returns the keys of all configs as nested dicts; a leaf that begins with `_` has the values that are allowed."""
    main = _load(CONFIGS / "train.yaml")
    groups = [name for item in main.pop("defaults") if isinstance(item, dict) for name in item]
    shape: dict[str, Any] = {}
    _add(shape, main)
    for group in groups:
        if group not in NOT_SECTIONS:
            for path in sorted((CONFIGS / group).glob("*.yaml")):
                content = _load(path)
                content.pop("defaults", None)
                _add(shape.setdefault(group, {}), content)
    return shape


def _add(shape: dict[str, Any], content: Mapping[str, Any]) -> None:
    for key, value in content.items():
        if isinstance(value, dict):
            _add(shape.setdefault(key, {}), value)
        else:
            shape.setdefault(key, set())
            if str(key).startswith("_"):
                shape[key].add(value)


def _load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content
