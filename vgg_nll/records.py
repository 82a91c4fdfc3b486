"""The small files of a run folder: plain data with a checksum and the run's identity, read without trust.

Whoever made the folder, reading a file of it runs no code, takes bounded time and memory, and gives text, numbers, flags,
lists and dicts, or a CheckpointError of one line.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from vgg_nll.errors import CheckpointError
from vgg_nll.files import atomic_write, read_regular_file

MAX_JSON_BYTES = 8 << 20  # network.json with the names of 100,000 classes
MAX_YAML_BYTES = 128 << 10  # 0.5 s for the parser
MAX_DEPTH = 16
MAX_INTEGER_DIGITS = 20
HEADER = re.compile(r"# run (\w{1,64}), checksum (\w{1,64})")


def new_run_id() -> str:
    """Returns the identity of a new run."""
    return secrets.token_hex(8)


def write_json(path: Path, content: Mapping[str, Any], run_id: str) -> None:
    """Writes JSON in one step, with the run's identity and a checksum; NaN, which JSON does not have, becomes null."""
    plain = {**_without_nan(content), "run": run_id}
    atomic_write(path, json.dumps(plain | {"checksum": checksum(plain)}, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, run_id: str | None = None) -> dict[str, Any]:
    """Returns what `write_json` wrote, without the identity and the checksum.

    Args:
        run_id: of the run that the file must be of; None for any.

    Raises CheckpointError if the file is missing, damaged, or of another run.
    """
    content = _read(path, MAX_JSON_BYTES, lambda text: json.loads(text, parse_int=_integer))
    found, given = content.pop("checksum", None), content.get("run")
    if found != _checksum_of_others(path, content):
        raise CheckpointError(f"{path}: is damaged: its checksum does not fit")
    if run_id is not None and given != run_id:
        raise CheckpointError(f"{path}: is of another run")
    return {key: value for key, value in content.items() if key != "run"}


def write_yaml(path: Path, content: Mapping[str, Any], run_id: str) -> None:
    """Writes YAML in one step, with the run's identity and a checksum in its first line."""
    header = f"# run {run_id}, checksum {checksum(content)}\n"
    atomic_write(path, header + yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=120))


def read_yaml(path: Path) -> tuple[dict[str, Any], str]:
    """Returns what `write_yaml` wrote, and the run's identity. Raises CheckpointError if the file is missing or damaged."""
    header: list[str] = []

    def parse(text: str) -> Any:
        header.append(text.partition("\n")[0].rstrip("\r"))
        return yaml.load(text, _PlainLoader)

    content = _read(path, MAX_YAML_BYTES, parse)
    found = HEADER.fullmatch(header[0])
    if found is None or found.group(2) != _checksum_of_others(path, content):
        raise CheckpointError(f"{path}: is damaged: its checksum does not fit (settings are changed on the command line)")
    return content, found.group(1)


def run_of(path: Path) -> str | None:
    """Returns the identity of the run whose YAML this is, without checking the rest of it; None if there is none."""
    try:
        line = read_regular_file(path, MAX_YAML_BYTES).partition(b"\n")[0].decode().rstrip("\r")
    except (OSError, ValueError):
        return None
    found = HEADER.fullmatch(line)
    return found.group(1) if found else None


def checksum(content: Any) -> str:
    """Returns a hash of plain data that does not depend on spaces, line ends and the order of keys."""
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def _checksum_of_others(path: Path, content: Any) -> str:
    try:
        return checksum(content)
    except (TypeError, ValueError, RecursionError) as error:  # of types that we do not write
        raise CheckpointError(f"{path}: is damaged ({error})") from error


def _read(path: Path, max_bytes: int, parse: Callable[[str], Any]) -> dict[str, Any]:
    try:
        content = parse(read_regular_file(path, max_bytes).decode())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: is missing; training writes it") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path}: is damaged: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path}: is damaged: it holds no names with values")
    return content


def _integer(text: str) -> int:
    if len(text) > MAX_INTEGER_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and value - value != 0 else value


class _PlainLoader(yaml.SafeLoader):
    """Reads what `yaml.safe_dump` writes of dicts, lists and scalars: no aliases, no tags, bounded depth, each key once."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("holds an alias, which no run writes")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(f"is nested more than {MAX_DEPTH} times")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        value = super().construct_object(node, deep=deep)
        if not isinstance(value, (dict, list, str, int, float, bool, type(None))):
            raise ValueError(f"holds a {type(value).__name__}, which no run writes")
        return value

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key for key, _ in node.value]
        if any(key.tag != "tag:yaml.org,2002:str" for key in keys) or len({key.value for key in keys}) < len(keys):
            raise ValueError("holds a key twice, or one that is not text")
        return super().construct_mapping(node, deep=deep)
