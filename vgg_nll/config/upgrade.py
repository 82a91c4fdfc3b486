"""What has changed in configs since a run was recorded: its config, in today's words.

A record carries the number of the format in which it was written. Whoever adds a key, renames one, or moves a class raises
`FORMAT` by one, and adds a line to a table; so every run folder opens for ever.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vgg_nll.errors import CheckpointError

FORMAT = 3  # of the records that are written now

# Key or section that the program reads by name -> the format in which it came, and what older runs did. An argument of a class
# needs no line: its default is what the class did before.
SINCE: Mapping[str, tuple[int, Any]] = {
    "trainer.test_precision": (3, "same"),
    "trainer.best": (3, "accuracy"),
    "model.keep_last_layer": (3, True),
}

# Old key, section, class, or choice such as "loss=argmax" -> the format in which it went, and its name since then; None: a key
# that nothing reads any more.
CHANGED: Mapping[str, tuple[int, str | None]] = {
    "vgg_nll.data.ResidentData": (2, "vgg_nll.data.InMemoryData"),
}


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
    for changes in _changes_since(written):
        _rename_classes(content, changes)
        moved = [(new, _pop(content, old)) for old, new in changes.items()]  # all of one format at once: two may swap names
        for new, found in moved:
            if new is not None and found is not _ABSENT:
                _section_of(content, new, make=True)[new.rpartition(".")[2]] = found
    for key, (since, value) in SINCE.items():
        section = _section_of(content, key, make=False)
        if written < since and section is not None:
            section.setdefault(key.rpartition(".")[2], _copied(value))
    return content


def renamed(key: str, written: int) -> str:
    """Returns today's name of a key, a section, or a choice such as `loss=argmax`, of a record of format `written`."""
    for changes in _changes_since(written):
        for old, new in changes.items():
            if new is not None and (key == old or key.startswith((f"{old}.", f"{old}="))):
                key = new + key[len(old) :]
                break
    return key


def renamed_override(override: str, written: int) -> str:
    """Returns an override, as it was typed then, in today's words."""
    mark = override[: len(override) - len(override.lstrip("+~"))]
    return mark + renamed(override[len(mark) :], written)


def renamed_choices(choices: Mapping[str, str], written: int) -> dict[str, str]:
    """Returns what was chosen in each group, in today's words."""
    words = (renamed(f"{group}={choice}", written).partition("=") for group, choice in choices.items())
    return {group: choice for group, _, choice in words}


def _changes_since(written: int) -> list[dict[str, str | None]]:
    """Returns the changes of names that a record of this format has not seen: old -> new, in the order of their formats."""
    formats = sorted({since for since, _ in CHANGED.values() if since > written})
    return [{old: new for old, (since, new) in CHANGED.items() if since == number} for number in formats]


_ABSENT = object()


def _copied(value: Any) -> Any:
    return {key: _copied(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _rename_classes(section: dict[str, Any], changes: Mapping[str, str | None]) -> None:
    for key, value in section.items():
        if isinstance(value, dict):
            _rename_classes(value, changes)
        elif key == "_target_" and isinstance(value, str):
            section[key] = changes.get(value) or value


def _pop(content: dict[str, Any], key: str) -> Any:
    section = _section_of(content, key, make=False)
    return _ABSENT if section is None else section.pop(key.rpartition(".")[2], _ABSENT)


def _section_of(content: dict[str, Any], key: str, *, make: bool) -> Any:
    """Returns the section in which a key stands; None if there is none, and it is not to be made."""
    section: Any = content
    for name in key.split(".")[:-1]:
        if make and not isinstance(section.get(name), dict):
            section[name] = {}
        section = section.get(name)
        if not isinstance(section, dict):
            return None
    return section
