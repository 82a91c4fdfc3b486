"""What has changed in configs since a run was recorded: its config, in today's words.

A record carries the number of the format in which it was written. Whoever adds a key, renames one, or moves a class raises
`FORMAT` by one, and adds a line to a table; so every run folder opens for ever.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vgg_nll.config.compose import key_of
from vgg_nll.errors import CheckpointError

FORMAT = 1  # of the records that are written now

# Key or section that the program reads by name -> the format in which it came, and what older runs did. An argument of a class
# needs no line: its default is what the class did before.
SINCE: Mapping[str, tuple[int, Any]] = {}

# Old key, section or class -> the format in which it went, and its name since then; None: a key that nothing reads any more.
CHANGED: Mapping[str, tuple[int, str | None]] = {}


def checked_format(path: Path, content: Mapping[str, Any]) -> int | None:
    """Returns the format in which a file was written; None if it says none.

    Raises CheckpointError, with the path, for a newer one, or one that is no number.
    """
    written = content.get("format")
    if written is None:
        return None
    if type(written) is not int or written < 1:
        raise CheckpointError(f"{path}: is damaged: it has no valid format")
    if written > FORMAT:
        by = f"format {written}; this one reads up to {FORMAT}"
        raise CheckpointError(f"{path}: was written by a newer vgg-nll ({by}): update this one")
    return written


def upgrade(config: Mapping[str, Any], written: int) -> dict[str, Any]:
    """Returns the config of a record of format `written` with the keys and classes of today.

    Keys that are newer than the record get the value that stands for what the program did then. A key that is older and is not
    there was removed on purpose, and stays away.
    """
    content = _copied(config)
    for old, (since, new) in CHANGED.items():
        if written < since:
            _rename_class(content, old, new)
            if (found := _pop(content, old)) is not _ABSENT and new is not None:
                _put(content, new, found)
    for key, (since, value) in SINCE.items():
        if written < since:
            _put(content, key, _copied(value))
    return content


def renamed(key: str, written: int) -> str:
    """Returns today's name of a key, or of a section, of a record of format `written`."""
    for old, (since, new) in CHANGED.items():
        if written < since and new is not None and f"{key}.".startswith(f"{old}."):
            key = new + key[len(old) :]
    return key


def renamed_override(override: str, written: int) -> str:
    """Returns an override, as it was typed then, with today's name of its key."""
    key = key_of(override)
    return override.replace(key, renamed(key, written), 1)


_ABSENT = object()


def _copied(value: Any) -> Any:
    return {key: _copied(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _rename_class(section: dict[str, Any], old: str, new: str | None) -> None:
    for key, value in section.items():
        if isinstance(value, dict):
            _rename_class(value, old, new)
        elif key == "_target_" and value == old and new is not None:
            section[key] = new


def _pop(content: dict[str, Any], key: str) -> Any:
    *path, last = key.split(".")
    for name in path:
        content = content.get(name)  # type: ignore[assignment]
        if not isinstance(content, dict):
            return _ABSENT
    return content.pop(last, _ABSENT)


def _put(content: dict[str, Any], key: str, value: Any) -> None:
    """Puts a value at a place that is empty."""
    *path, last = key.split(".")
    for name in path:
        content = content.setdefault(name, {})
        if not isinstance(content, dict):  # a damaged record, which the schema refuses
            return
    content.setdefault(last, value)
