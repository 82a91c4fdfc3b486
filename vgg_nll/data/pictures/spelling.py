"""Names of class folders that look equal: which are one class, which are refused, and how a message tells them apart."""

import logging
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from vgg_nll.data.pictures import walk
from vgg_nll.errors import DataError

log = logging.getLogger(__name__)
MAX_NAMES = 5  # in a message


def letters(name: str) -> str:
    """Returns a name in NFC: macOS writes é as two characters, other systems as one."""
    return unicodedata.normalize("NFC", name)


def loosely(name: str) -> str:
    """Returns what is equal for names that differ in case, in full-width letters, or in blanks at their ends only."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()


def with_code_points(name: str) -> str:
    """Returns a name and its characters by number: 'Tee ' (U+0054 U+0065 U+0065 U+0020)."""
    return f"'{name}' ({' '.join(f'U+{ord(c):04X}' for c in name)})"


def check_look_alikes(names: Iterable[str], what: str, advice: str) -> None:
    """Raises DataError for names of classes that nobody can tell apart; warns of those that differ in case or width only.

    Letters of both cases can be classes.

    Args:
        what, advice: beginning and end of the message.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(loosely(name), name)
        if other == name:
            continue
        both = f"{what}: {with_code_points(other)} and {with_code_points(name)}"
        if letters(other).strip() == letters(name).strip():
            raise DataError(f"{both}; {advice}")
        log.warning(f"warning: {both}; they count as two classes")


def folders_of(folder: Path, class_names: Iterable[str]) -> dict[str, Path]:
    """Returns {class: its folder} for the classes that have one here, of the same name, letter by letter, in NFC."""
    here = {letters(name): folder / name for name in walk.class_folders(folder)}
    return {name: here[letters(name)] for name in class_names if letters(name) in here}


def check_classes(root: Path, train: Path, folder: Path, class_names: Sequence[str]) -> None:
    """Raises DataError if a split has a class that the training pictures lack; the other way round is said later."""
    known = set(map(letters, class_names))
    extra = [name for name in walk.class_folders(folder) if letters(name) not in known]
    if not extra:
        return
    there = folders_of(folder, class_names)
    lacks = [name for name in class_names if name not in there]
    also = f" (and {folder.name}/ has no {', '.join(lacks[:MAX_NAMES])})" if lacks else ""
    by_look = {loosely(name): name for name in lacks}
    alike = [(name, by_look[loosely(name)]) for name in extra if loosely(name) in by_look]
    look = "".join(f"; {with_code_points(one)} looks like {with_code_points(other)}" for one, other in alike[:1])
    raise DataError(
        f"data.root={root}: {folder.name}/ and {train.name}/ differ in their class folders: {folder.name}/ has "
        f"{', '.join(extra[:MAX_NAMES])}, which {train.name}/ lacks{also}{look}; rename or remove it"
    )
