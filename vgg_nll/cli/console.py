"""Standard output and errors: characters that any name can have, and colours of the lines on a terminal."""

import io
import logging
import os
import re
import sys

YELLOW, GREEN, PLAIN = "\x1b[33m", "\x1b[32m", "\x1b[0m"
BEST = re.compile(r"^epoch .*\bbest\b")  # the line of a validation


def write_any_text() -> None:
    """Lets standard output and errors take every name: nothing that a program prints ends it half-way.

    Files and pipes get UTF-8 on every system, and the bytes of a file name that is no text as they are. A terminal keeps its
    own encoding: what that lacks is shown as escapes.
    """
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):  # closed, or replaced by a program around this one
            continue
        if stream.isatty():
            stream.reconfigure(errors="backslashreplace")
        else:
            stream.reconfigure(encoding="utf-8", errors="surrogateescape" if stream is sys.stdout else "backslashreplace")


def has_colours() -> bool:
    """Returns whether standard output is a terminal that shows colours, and the user has not turned them off (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class ConsoleFormatter(logging.Formatter):
    """Colours warnings, and the lines of the best validations so far."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not has_colours():
            return text
        colour = YELLOW if record.levelno >= logging.WARNING else GREEN if BEST.search(text) else ""
        return f"{colour}{text}{PLAIN}" if colour else text
