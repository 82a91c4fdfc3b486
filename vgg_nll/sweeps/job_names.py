"""Jobs of a sweep: what makes two of them one, and a folder name that says what sets each apart."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vgg_nll.comparison.keys import IGNORED
from vgg_nll.config.compose import key_of
from vgg_nll.run_folder import checked_json

MAX_NAME_BYTES = 150  # of a folder; the files in it are longer
PLAIN = "job"  # the name of a job without overrides
ALWAYS_OPEN = ("seed", "data.fold")  # may be widened although only one value was given before
OWN_RUNS = ("mean", "min", "max")  # folders of a sweep that hold curves over seeds


@dataclass(frozen=True)
class Job:
    """One run of a sweep: the name of its folder, and its overrides."""

    name: str
    overrides: tuple[str, ...]


def identity(leaves: Mapping[str, Any], swept: Collection[str]) -> str:
    """Returns a hash of everything in a config that can change the result, and of what is swept."""
    kept = {key: _plain(value) for key, value in leaves.items() if key in swept or not f"{key}.".startswith(IGNORED)}
    return checked_json.checksum(kept)


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
