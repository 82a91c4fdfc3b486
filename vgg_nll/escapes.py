"""Text of others (names of files and classes, values of configs) that is safe to print, in a line and in a spreadsheet."""

import unicodedata


def printable(text: str) -> str:
    """Returns text on one line that no terminal takes for a command: control characters and the like become escapes.

    Escaped are the Unicode categories "other" (controls, directions, unpaired surrogates) and line and paragraph separators.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else _escaped(c) for c in text)


def csv_cell(text: str) -> str:
    """Returns a cell that a spreadsheet takes for text: one that it would run as a formula begins with an apostrophe."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def caption(name: str, length: int = 14) -> str:
    """Returns the name of a class or a loss for a figure, cut to `length`.

    matplotlib reads $ as mathematics, and leaves names that begin with _ out of a legend.
    """
    name = " ".join(name.split())
    name = name if len(name) <= length else name[: length - 1] + "…"
    return ("\u200a" if name.startswith("_") else "") + name.replace("$", r"\$")
