"""Optuna chooses the values; its journal lies in the sweep's folder, so a search that was stopped continues."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vgg_nll.config.compose import key_of
from vgg_nll.config.sweep_overrides import Interval, Words, parse
from vgg_nll.errors import ConfigError
from vgg_nll.sweeps.job_names import Job
from vgg_nll.sweeps.record import PRIVATE
from vgg_nll.sweeps.status import FAILED, FINISHED, PRUNED, Status

JOURNAL = "optuna.journal"
OVERRIDES = "overrides"  # of a trial's job, in its user attributes
DIGITS = 4  # of a number that is drawn: enough for a result, short enough for the name of a folder


class OptunaSearch:
    """Tree-structured Parzen estimators (Bergstra et al., 2011) over the space, for the best `Status.score`.

    Trial k is a function of (`sampler_seed`, k, the results so far). A job that fails is a failed trial; the search goes on.
    For Optuna it stays failed, also if the same command repeats the job and that finishes.

    Args:
        words: what was typed; a key in it takes the place of the same key in `space`.
        folder: of the sweep.
        trials: jobs in all, over all commands.
        space: overrides with several values.

    Raises ConfigError if Optuna is not installed, or if there is nothing to choose.
    """

    def __init__(self, words: Words, folder: Path, *, trials: int, sampler_seed: int, space: Sequence[str]) -> None:
        try:
            import optuna
        except ImportError as error:
            raise ConfigError("search=optuna: Optuna is not installed: pip install optuna") from error
        self._optuna = optuna
        typed = {*words.values, *words.open}
        both = parse([word for word in space if key_of(word) not in typed])
        values = {**both.values, **words.values}
        choices = {key: [*options] for key, options in values.items() if len(options) > 1}
        self._fixed = [options[0] for options in values.values() if len(options) == 1]
        open_ = {**both.open, **words.open}
        if not choices and not open_:
            raise ConfigError("search=optuna: nothing to choose; give a key several values, or an interval(<low>,<high>)")
        self._distributions: dict[str, Any] = {
            **{key: optuna.distributions.CategoricalDistribution(options) for key, options in choices.items()},
            **{key: self._interval(interval) for key, interval in open_.items()},
        }
        self._keys = {key: interval.key for key, interval in open_.items()}
        self.swept = list(self._distributions)
        self.number, self._seed, self._folder = trials, sampler_seed, folder
        ends = [{key: options[end] for key, options in choices.items()} for end in (0, -1)]
        for end, name in zip(ends, ("low", "high"), strict=True):
            end |= {key: getattr(self._distributions[key], name) for key in open_}
        self.examples = [self._overrides(end) for end in ends]
        self._study: Any = None
        self._trials: dict[tuple[str, ...], int] = {}
        self._earlier: list[tuple[str, ...]] = []

    def ask(self) -> Sequence[str] | None:
        if self._study is None:
            self._open()
        if self._earlier:
            return self._earlier.pop(0)
        while (number := sum(OVERRIDES in trial.user_attrs for trial in self._study.get_trials(deepcopy=False))) < self.number:
            self._study.sampler = self._optuna.samplers.TPESampler(seed=self._seed + number)
            trial = self._study.ask(self._distributions)
            overrides = tuple(self._overrides(trial.params))
            trial.set_user_attr(OVERRIDES, list(overrides))
            if overrides not in self._trials:
                self._trials[overrides] = trial.number
                return overrides
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)  # it has run, and would give the same result
        return None

    def tell(self, job: Job, status: Status) -> None:
        state = self._optuna.trial.TrialState
        told = {FINISHED: state.COMPLETE, PRUNED: state.PRUNED, FAILED: state.FAIL}
        number = self._trials.get(job.overrides)
        if number is None or status.state not in told:  # an interrupted one continues later
            return
        value = status.score if status.state == FINISHED else None  # the larger, the better
        if not self._study.get_trials(deepcopy=False)[number].state.is_finished():
            self._study.tell(number, value, state=told[status.state])

    def _open(self) -> None:
        """Opens the study, and takes up the trials that it has."""
        optuna = self._optuna
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        backend = optuna.storages.journal.JournalFileBackend(str(self._folder / PRIVATE / JOURNAL))
        storage = optuna.storages.JournalStorage(backend)
        self._study = optuna.create_study(storage=storage, study_name="sweep", direction="maximize", load_if_exists=True)
        for trial in self._study.get_trials(deepcopy=False):
            self._check_choices(trial.distributions)
            overrides = tuple(trial.user_attrs.get(OVERRIDES, ()))
            if overrides and overrides not in self._trials:
                self._trials[overrides] = trial.number
                self._earlier.append(overrides)

    def _check_choices(self, before: Mapping[str, Any]) -> None:
        """Raises ConfigError if a key has other values than in an earlier trial: Optuna allows other intervals only."""
        for key in before.keys() & self._distributions.keys():
            try:
                self._optuna.distributions.check_distribution_compatibility(before[key], self._distributions[key])
            except ValueError as error:
                raise ConfigError(f"{key}: {error}; restore the values of before, or take another sweep name") from error

    def _interval(self, interval: Interval) -> Any:
        low, high, is_log = interval.low, interval.high, interval.is_log
        if low is None or high is None or not low < high or (is_log and low <= 0):
            above = " above 0" if is_log else ""
            raise ConfigError(f"{interval.typed}: needs a lower and an upper bound{above}")
        if isinstance(low, int) and isinstance(high, int):
            return self._optuna.distributions.IntDistribution(low, high, log=is_log)
        return self._optuna.distributions.FloatDistribution(low, high, log=is_log)

    def _overrides(self, params: Mapping[str, Any]) -> list[str]:
        chosen = [f"{self._keys[key]}={_rounded(value)}" if key in self._keys else str(value) for key, value in params.items()]
        return [*self._fixed, *chosen]


def _rounded(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(float(f"{value:.{DIGITS}g}"))
