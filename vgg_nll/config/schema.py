"""The shape of configs/: which sections, keys and classes its files have, and at which place."""

import functools
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from vgg_nll.config import compose

OF_SWEEPS = ("sweep", "launcher", "search")  # of configs/sweep.yaml: a run knows nothing of them
NOT_SECTIONS = ("hydra", "experiment", *OF_SWEEPS)
# Read by name; every other key of a section with a `_target_` is the constructor's business.
REQUIRED = (
    "model.head",
    "model.weights",
    "model.freeze",
    "model.keep_last_layer",
    "optimizer.lr",
    "optimizer.backbone_lr_scale",
)
SCALARS = (str, int, float, bool, type(None))
MAX_TEXT = 4096
ALLOWED = f"text of up to {MAX_TEXT} characters, a number, true or false, null, or a list of these"


def groups() -> list[str]:
    """Returns the groups whose files are sections of the config."""
    return [path.name for path in sorted(compose.CONFIGS.iterdir()) if path.is_dir() and path.name not in NOT_SECTIONS]


def sections() -> Set[str]:
    """Returns the names at the top of a config: its sections, `seed`, `name`, ..."""
    return _shape().keys()


def find_errors(content: Mapping[str, Any], targets: Set[str] | None, without: Set[str] = frozenset()) -> list[str]:
    """Returns one line for every place where a config differs from the shape.

    Args:
        targets: classes that are allowed besides those of configs/; None: a person has typed the config, and may name any, with
            whatever arguments.
        without: sections that are not looked at.
    """
    used = {key: value for key, value in content.items() if key not in without}
    shape = {key: part for key, part in _shape().items() if key not in without}
    required = (name.split(".") for name in REQUIRED)
    return list(_differences("", used, shape, targets)) or [
        f"{section}.{key}: is missing" for section, key in required if section in used and key not in used[section]
    ]


def leaves(content: Mapping[str, Any] | DictConfig) -> dict[str, Any]:
    """Returns {"trainer.epochs": 6, ...}, every leaf; a list is one, and so is "???", for what is missing in a config."""
    found: dict[str, Any] = {}
    plain: Any = OmegaConf.to_container(content, resolve=True) if isinstance(content, DictConfig) else content
    for key, value in plain.items():
        if isinstance(value, Mapping):
            found |= {f"{key}.{name}": leaf for name, leaf in leaves(value).items()}
        else:
            found[str(key)] = value
    return found


def is_scalar(value: Any) -> bool:
    """Returns whether this is a single value, neither missing nor an interpolation, of a size that a run keeps."""
    return isinstance(value, SCALARS) and not (
        isinstance(value, str) and (len(value) > MAX_TEXT or "${" in value or value == "???")
    )


def _differences(prefix: str, section: Mapping[str, Any], shape: Mapping[str, Any], targets: Set[str] | None) -> Iterator[str]:
    """Compares a section with the shape of all files of its group: the same keys, or, if it has a `_target_`, that one."""
    has_target = "_target_" in shape
    for key in sorted(shape.keys() - section.keys()):
        if not has_target or key == "_target_":
            yield f"{prefix}{key}: is missing"
    for key, value in section.items():
        known, name, shown = shape.get(key), f"{prefix}{key}", str(value)[:200]
        if isinstance(known, dict):
            if isinstance(value, Mapping):
                yield from _differences(f"{name}.", value, known, targets)
            else:
                yield f"{name}={'null' if value is None else shown}: is a section of settings, not one value"
        elif known is None and not has_target:
            yield f"{name}: there is no such setting: nothing would read it"
        elif targets is None:
            if known is not None and isinstance(value, Mapping):
                yield f"{name}={shown}: must be one value"
            parts = str(value).split(".")
            if key == "_target_" and parts[0] == "vgg_nll" and len(parts) > 3:
                yield f"{name}={shown}: names a file, which may move; its public name is {'.'.join([*parts[:2], parts[-1]])}"
        elif key == "_target_":
            if not isinstance(value, str) or value not in (known or set()) | targets:
                yield f"{name}={shown}: no file in configs/ names this here"
        elif str(key).startswith("_"):
            if known is None or not is_scalar(value) or value not in known:
                yield f"{name}={shown}: is not allowed"
        elif not all(is_scalar(item) for item in (value if isinstance(value, list) else [value])):
            yield f"{name}: must be {ALLOWED}"


def _shape() -> dict[str, Any]:
    return _shape_of(compose.CONFIGS)


@functools.cache
def _shape_of(configs: Path) -> dict[str, Any]:
    """Returns the keys of all configs as nested dicts; a leaf that begins with `_` has the values that are allowed."""
    main = _load(configs / "train.yaml")
    main.pop("defaults")
    shape: dict[str, Any] = {}
    _add(shape, main)
    for group in groups():
        for path in sorted((configs / group).glob("*.yaml")):
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
