"""The words of a sweep -> its jobs, each with a folder name that says what sets it apart."""

import itertools
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from vgg_nll import records
from vgg_nll.comparison.keys import NO_EFFECT
from vgg_nll.config.compose import CONFIGS, VERSION_BASE, composed, flatten, key_of
from vgg_nll.errors import ConfigError

# Keys in which jobs of a sweep may differ between two machines or days, and be the same job.
IGNORED = (*NO_EFFECT, "name.", "device.", "resume.", "resume_strict.")
MAX_JOBS = 10_000
MAX_NAME_BYTES = 150  # of a folder; the files in it are longer
PLAIN = "job"  # the name of a job without overrides
ALWAYS_OPEN = ("seed", "data.fold")  # may be widened although only one value was given before
OWN_RUNS = ("mean", "min", "max")  # folders of a sweep that hold curves over seeds


@dataclass(frozen=True)
class Job:
    """One run of a sweep: the name of its folder, and its overrides."""

    name: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """The overrides of a sweep, parsed by Hydra.

    Attributes:
        values: key -> its values as `key=value`, in the order of typing; one if the key is not swept.
        open: the overrides that a search has to choose values for: `interval(...)`.
    """

    values: Mapping[str, Sequence[str]]
    open: Mapping[str, Override]

    @property
    def swept(self) -> list[str]:
        """The keys that have several values."""
        return [key for key, values in self.values.items() if len(set(values)) > 1] + list(self.open)

    def combinations(self) -> Iterator[tuple[str, ...]]:
        """Yields the overrides of every combination; the last key varies fastest."""
        yield from itertools.product(*self.values.values())


def parse(words: Sequence[str]) -> Words:
    """Returns what Hydra reads in the words; a later word for a key takes the place of an earlier one.

    Raises ConfigError if they make more than `MAX_JOBS` jobs, HydraException for what cannot be read.
    """
    with initialize_config_dir(str(CONFIGS), **VERSION_BASE):  # glob(*) looks into the groups
        loader = GlobalHydra.instance().config_loader()
        overrides = OverridesParser.create(config_loader=loader).parse_overrides(list(words))
    values: dict[str, Sequence[str]] = {}
    open_: dict[str, Override] = {}
    for override in overrides:
        key, name = override.get_key_element(), key_of(override.get_key_element())
        values.pop(name, None)
        open_.pop(name, None)
        if not override.is_sweep_override():
            values[name] = [override.input_line or f"{key}={override.get_value_element_as_str()}"]
        elif override.is_discrete_sweep():
            texts = itertools.islice(override.sweep_string_iterator(), MAX_JOBS + 1)
            values[name] = list(dict.fromkeys(f"{key}={text}" for text in texts))
        else:
            open_[name] = override
    number = math.prod(map(len, values.values()))
    if number > MAX_JOBS:
        raise ConfigError(
            f"these values make more than {MAX_JOBS:,} jobs; give fewer, or a number of trials with search=optuna"
        )
    return Words(values, open_)


def leaves_of(overrides: Sequence[str]) -> dict[str, Any]:
    """Returns every leaf of a job's config. Raises what Hydra raises for overrides that do not fit."""
    return dict(flatten(composed(overrides)))


def identity(leaves: Mapping[str, Any], swept: Collection[str]) -> str:
    """Returns a hash of everything in a config that can change the result, and of what is swept."""
    kept = {key: _plain(value) for key, value in leaves.items() if key in swept or not f"{key}.".startswith(IGNORED)}
    return records.checksum(kept)


def name_job(overrides: Sequence[str], swept: Collection[str], identity: str, taken: Collection[str]) -> str:
    """Returns a folder name that is not taken: the overrides of the swept keys; all of them if that is taken, or empty.

    What a file system would not take is replaced, and a hash of the config added.
    """
    name = PLAIN
    for keys in (set(swept), {*swept, *ALWAYS_OPEN}, set(map(key_of, overrides))):
        words = [word for word in overrides if key_of(word) in keys]
        name = _as_name(sorted(words) or [PLAIN], identity)
        if words and name not in taken:
            return name
    return f"{_shortened(name)}-{identity[:6]}" if name in taken else name


def _as_name(words: Sequence[str], identity: str) -> str:
    text = ",".join(word.lstrip("+").replace("'", "").replace('"', "") for word in words)
    name = re.sub(r"[^\w.,=+\-\[\]{}: ()~]", "_", text).strip(" .")
    changed = name != text or name in OWN_RUNS or not name
    return f"{_shortened(name)}-{identity[:6]}" if changed or len(name.encode()) > MAX_NAME_BYTES else name


def _shortened(name: str) -> str:
    return name.encode()[: MAX_NAME_BYTES - 8].decode(errors="ignore")


def _plain(value: Any) -> Any:
    """6.0 as 6: a person types either."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
