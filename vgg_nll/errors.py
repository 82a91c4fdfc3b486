"""What a person can mend: each of these ends a command as one line per fault, without a traceback."""


class ConfigError(ValueError):
    """A config that cannot run; the message has one line per fault, each with the full key and the fix."""


class DataError(ValueError):
    """Data that cannot be used; the message says what was expected."""


class CheckpointError(ValueError):
    """A checkpoint that is not there, not whole, or not ours."""


class TrainingError(RuntimeError):
    """A run that cannot go on: the loss or its gradient is not finite, or the memory does not suffice."""
