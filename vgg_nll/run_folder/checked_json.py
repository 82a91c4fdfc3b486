"""JSON files of a run: plain data with a checksum and the run's identity, read without trust.

Whoever made the folder, reading a file of it runs no code, takes bounded time and memory, and gives text, numbers, flags,
lists and dicts, or a CheckpointError of one line.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vgg_nll.errors import CheckpointError
from vgg_nll.files import atomic_write, read_regular_file

MAX_BYTES = 8 << 20  # a record with the names of 100,000 classes
MAX_DEPTH = 16
MAX_INTEGER_DIGITS = 20


def new_run_id() -> str:
    """Returns the identity of a new run."""
    return secrets.token_hex(8)


def write(path: Path, content: Mapping[str, Any], run_id: str) -> None:
    """Writes JSON in one step, with the run's identity and a checksum; NaN, which JSON does not have, becomes null."""
    plain = {**_without_nan(content), "run": run_id}
    atomic_write(path, json.dumps(plain | {"checksum": checksum(plain)}, indent=2, allow_nan=False) + "\n")


def read(path: Path, run_id: str | None = None) -> dict[str, Any]:
    """Returns what `write` wrote, without the identity and the checksum.

    Args:
        run_id: of the run that the file must be of; None for any.

    Raises CheckpointError if the file is missing, damaged, or of another run.
    """
    content, found = read_with_id(path)
    if run_id is not None and found != run_id:
        raise CheckpointError(f"{path}: is of another run")
    return content


def read_with_id(path: Path) -> tuple[dict[str, Any], Any]:
    """Returns what `write` wrote, and the identity. Raises CheckpointError if the file is missing or damaged."""
    content = _parse(path)
    found = content.pop("checksum", None)
    try:
        fits = found == checksum(content)
    except (TypeError, ValueError, RecursionError) as error:  # of types that we do not write
        raise CheckpointError(f"{path}: is damaged ({error})") from error
    if not fits:
        raise CheckpointError(f"{path}: is damaged: its checksum does not fit")
    return content, content.pop("run", None)


def checksum(content: Any) -> str:
    """Returns a hash of plain data that does not depend on spaces, line ends and the order of keys."""
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def _parse(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_regular_file(path, MAX_BYTES).decode(), parse_int=_integer)
        _check_depth(content)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: is missing; training writes it") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is damaged: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path}: is damaged: it holds no names with values")
    return content


def _integer(text: str) -> int:
    if len(text) > MAX_INTEGER_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)


def _check_depth(value: Any, depth: int = 1) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"is nested more than {MAX_DEPTH} times")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_depth(item, depth + 1)


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and value - value != 0 else value
