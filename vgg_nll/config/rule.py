"""What one key of the config may be."""

import math
import re
from dataclasses import dataclass, replace
from typing import Any

MAX_INTEGER = 2**63  # what PyTorch's integers hold


@dataclass(frozen=True)
class Rule:
    """Allows for one key: a type, bounds (`above` and `below` exclude their value), or one of `choices`."""

    type: type
    min_value: float = -math.inf
    above: float = -math.inf
    below: float = math.inf
    max_value: float = math.inf
    choices: tuple[str, ...] = ()
    optional: bool = False
    items: int | None = None  # a list of so many of these; 0: of any number
    pattern: str = ""  # of text, if the choices are not all; they say it in words
    is_path: bool = False  # the command line quotes it for Hydra
    word: str = ""  # that may stand in the place of the value
    is_named: bool = False  # items may be "name=value", too
    refused: tuple[tuple[str, str], ...] = ()  # what people ask for, and why it is no choice

    def find_error(self, value: Any) -> str | None:
        """Returns what is allowed if `value` is not; else None."""
        if (value is None and self.optional) or (self.word and value == self.word):
            return None
        if self.items is not None:
            fits = isinstance(value, list) and self.items in (0, len(value))
            one = replace(self, items=None, optional=False, word="")
            return None if fits and not any(one.find_error(item) for item in value) else f"must be {self._expected()}"
        if self.is_named and isinstance(value, str):
            value = number_of(value)
        allowed = (int, float) if self.type is float else (self.type,)
        right_type = isinstance(value, allowed) and (self.type is bool or not isinstance(value, bool))
        if not right_type or (re.fullmatch(self.pattern, value) is None if self.pattern else self._is_no_choice(value)):
            why = dict(self.refused).get(value, "") if isinstance(value, str) else ""
            return f"must be {self._expected()}{why and f'; {why}'}"
        if isinstance(value, int) and abs(value) >= MAX_INTEGER:
            return f"must be less than {MAX_INTEGER:g}"
        if self.type in (int, float):
            inside = self.min_value <= value <= self.max_value and self.above < value < self.below and math.isfinite(value)
            return None if inside else f"must be {self._expected()}"
        return None

    def _is_no_choice(self, value: Any) -> bool:
        return bool(self.choices) and value not in self.choices

    def _expected(self) -> str:
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        names = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
        bounds = [
            f"{word} {bound:g}"
            for word, bound in (
                ("at least", self.min_value),
                ("more than", self.above),
                ("less than", self.below),
                ("at most", self.max_value),
            )
            if math.isfinite(bound)
        ]
        what = f"a list of {self.items or 'any number'}, each " if self.items is not None else ""
        what += "class=number or " if self.is_named else ""
        return (
            what
            + names[self.type]
            + (", " + " and ".join(bounds) if bounds else "")
            + (", or null" * self.optional)
            + (f", or {self.word}" if self.word else "")
        )


def number_of(item: str) -> float:
    """Returns the number of an item "name=number"; NaN if it is none."""
    name, _, number = item.rpartition("=")
    try:
        return float(number) if name else math.nan
    except ValueError:
        return math.nan
