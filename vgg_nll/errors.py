"""Errors that a user can fix: each ends a command as one line per error, without a traceback."""

from vgg_nll.escapes import printable


class ConfigError(ValueError):
    """A config that cannot run; the message has one line per error, each with the full key and the fix."""


class OneLineError(ValueError):
    """An error whose message is one line, whatever the names in it hold."""

    def __str__(self) -> str:
        return printable(super().__str__())


class DataError(OneLineError):
    """Data that cannot be used; the message says what was expected."""


class CheckpointError(OneLineError):
    """A file of a run folder that is missing, not whole, of another run, or not of this project."""


class TrainingError(RuntimeError):
    """A run that cannot continue: the loss or its gradient is not finite, or the memory is too small."""


class LostRankError(TrainingError):
    """A run that cannot continue since another of its processes has ended, or cannot be reached."""
