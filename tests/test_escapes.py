"""Names of others: on one line, without commands for a terminal or a spreadsheet."""

import unicodedata

import pytest

from vgg_nll.errors import CheckpointError, DataError
from vgg_nll.escapes import csv_cell, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cat 1", "cat 1"),
        ("café 猫", "café 猫"),
        ("a\u00a0b", "a\u00a0b"),  # a space that does not break is a space
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x1b[2J\x9b1m\x07\x7f", r"\x1b[2J\x9b1m\x07\x7f"),
        ("\u202eback\u2066", r"\u202eback\u2066"),  # would be shown from right to left
        ("a\u2028b\u2029c\x85d", r"a\u2028b\u2029c\x85d"),
        ("caf\udce9", r"caf\udce9"),
        ("", ""),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


def test_no_character_of_unicode_is_a_command() -> None:
    for code in (*range(0x20000), *range(0xE0000, 0xE1000)):
        shown = printable(chr(code))
        assert len(shown.splitlines()) <= 1
        assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for c in shown)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_csv_cell(start: str) -> None:
    assert csv_cell(f"{start}HYPERLINK(1)") == f"'{start}HYPERLINK(1)"
    assert csv_cell(f"a{start}1") == f"a{start}1"


@pytest.mark.parametrize("kind", [DataError, CheckpointError])
def test_errors_are_one_line(kind: type[Exception]) -> None:
    assert str(kind("a/\x1b[2J\nb: is missing")) == r"a/\x1b[2J\nb: is missing"
