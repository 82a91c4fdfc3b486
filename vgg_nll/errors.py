"""Errors that a user can fix: each ends a command as one line per error, without a traceback."""


class ConfigError(ValueError):
    """A config that cannot run; the message has one line per error, each with the full key and the fix."""


class DataError(ValueError):
    """Data that cannot be used; the message says what was expected."""


class CheckpointError(ValueError):
    """A checkpoint that is missing, not whole, or not of this project."""


class TrainingError(RuntimeError):
    """A run that cannot continue: the loss or its gradient is not finite, or the memory is too small."""
