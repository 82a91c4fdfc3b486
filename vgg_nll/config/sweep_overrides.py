"""The words of a sweep, read by Hydra: which keys have several values."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep

from vgg_nll.config.compose import CONFIGS, VERSION_BASE, key_of
from vgg_nll.errors import ConfigError

MAX_JOBS = 10_000


@dataclass(frozen=True)
class Interval:
    """`key=interval(low, high)`, as typed; between integers, integers are meant."""

    typed: str
    key: str  # with the + before it, if there is one
    low: float | None
    high: float | None
    is_log: bool


@dataclass(frozen=True)
class Words:
    """The overrides of a sweep, parsed by Hydra.

    Attributes:
        values: key -> its values as `key=value`, in the order of typing; one if the key is not swept.
        open: key -> the interval that a search has to choose values from.
    """

    values: Mapping[str, Sequence[str]]
    open: Mapping[str, Interval]

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
    open_: dict[str, Interval] = {}
    for override in overrides:
        key, name = override.get_key_element(), key_of(override.get_key_element())
        values.pop(name, None)
        open_.pop(name, None)
        if not override.is_sweep_override():
            values[name] = [override.input_line or f"{key}={override.get_value_element_as_str()}"]
        elif override.is_discrete_sweep():
            texts = itertools.islice(override.sweep_string_iterator(), MAX_JOBS + 1)
            values[name] = list(dict.fromkeys(f"{key}={text}" for text in texts))
            if not values[name]:
                raise ConfigError(f"{override.input_line}: matches nothing; glob() is for groups, as loss=glob(arg*)")
        else:
            sweep = override.value()
            assert isinstance(sweep, IntervalSweep)
            open_[name] = Interval(str(override.input_line), key, sweep.start, sweep.end, "log" in sweep.tags)
    number = math.prod(map(len, values.values()))
    if number > MAX_JOBS:
        raise ConfigError(
            f"these values make more than {MAX_JOBS:,} jobs; give fewer, or a number of trials with search=optuna"
        )
    return Words(values, open_)
