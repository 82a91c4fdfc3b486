"""The plain search: every combination of the values that were typed."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from vgg_nll.config.sweep_overrides import Words
from vgg_nll.errors import ConfigError
from vgg_nll.sweeps.job_names import Job
from vgg_nll.sweeps.status import Status


class Search(Protocol):
    """Says which jobs a sweep has.

    A search is made from (the words that were typed, the sweep's folder) and its settings.
    """

    swept: Sequence[str]  # the keys that it varies
    examples: Sequence[Sequence[str]]  # overrides of jobs that must be valid, else nothing starts
    number: int  # of jobs in all

    def ask(self) -> Sequence[str] | None:
        """Returns the overrides of the next job; None if there are no more for now."""
        ...

    def tell(self, job: Job, status: Status) -> None:
        """Takes the result of a job, also of one that an earlier command has run."""
        ...


class GridSearch:
    """Every combination, in the order of typing; the last key varies fastest."""

    def __init__(self, words: Words, folder: Path) -> None:
        if words.open:
            key, interval = next(iter(words.open.items()))
            raise ConfigError(f"{interval.typed}: needs search=optuna, which chooses values; or give values: {key}=a,b")
        self.swept = words.swept
        self.examples = list(words.combinations())
        self.number = len(self.examples)
        self._rest: Iterator[tuple[str, ...]] = words.combinations()

    def ask(self) -> Sequence[str] | None:
        return next(self._rest, None)

    def tell(self, job: Job, status: Status) -> None:
        pass
