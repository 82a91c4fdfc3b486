"""Colours of the lines on a terminal."""

import logging
import os
import re
import sys

YELLOW, GREEN, PLAIN = "\x1b[33m", "\x1b[32m", "\x1b[0m"
BEST = re.compile(r"^epoch .*\bbest\b")  # the line of a validation


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
