"""Compares over another key than the loss, and chooses each loss's best value of a key."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from vgg_nll.comparison.keys import EXPECTED, NO_EFFECT
from vgg_nll.comparison.runs import Run
from vgg_nll.errors import ConfigError
from vgg_nll.evaluation.best_step import score

GROUPS = ("model", "optimizer", "schedule")  # config groups that runs may be compared over
DEFAULT = "default"


def compare_over(runs: Sequence[Run], key: str) -> list[Run]:
    """Returns the runs with the value of `key` in the place of the loss, and the loss as a part of the model's name.

    Args:
        key: "loss", a group of `GROUPS`, or a key of the config, or the end of one.

    Raises ConfigError, with the keys that do differ, if this one is unknown or equal in all runs.
    """
    if key == "loss":
        return list(runs)
    key = key if key in GROUPS else _full_key(runs, key, f"--by {key}")
    changed = []
    for run in runs:
        given = run.overrides.get(key, DEFAULT) if key in GROUPS else run.config.get(key, "absent")
        given_loss = {name: value for name, value in sorted(run.overrides.items()) if name.startswith("loss.") and name != key}
        arguments = [f"{name}={value}" for name, value in given_loss.items()]
        model = " ".join([run.loss, *arguments] if key == "model" else [f"{run.model}, {run.loss}", *arguments])
        label = run.model if key == "model" else f"{key.rpartition('.')[2]}={given}"
        config = {name: value for name, value in run.config.items() if _stays(run, name, key) and not name.startswith("loss.")}
        overrides = {name: value for name, value in run.overrides.items() if name != key and not name.startswith("loss.")}
        changed.append(replace(run, loss=label, model=model, config=config, overrides=overrides))
    if len({run.loss for run in changed}) < 2:
        raise ConfigError(f"--by {key}: is equal in all runs; {_what_differs(runs)}")
    return changed


def at_best(runs: Sequence[Run], key: str) -> tuple[list[Run], list[str]]:
    """Returns the runs whose value of `key` is the best one of their loss, without that key; and a line per loss.

    The best value has the best mean over seeds, on the validation images, of what `trainer.best` names (the accuracy); of equal
    ones, the lower mean NLL of method 1. The test images have no part in it. Runs are of one loss if they differ in nothing but
    seed and this key.

    Raises ConfigError as `compare_over` does.
    """
    key = _full_key(runs, key, f"--best {key}")
    found: dict[tuple[str, ...], dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    kept, lines = [], []
    for run in runs:
        if {"accuracy", "nll_argmax"} <= run.validation.keys():
            found[_identity(run, key)][run.config.get(key, "absent")].append(run)
        else:
            lines.append(f"left out, it has no metrics of the validation images: {run.folder}")
    for by_value in found.values():
        seeds = max(map(len, by_value.values()))
        tried = sorted((value for value, of_value in by_value.items() if len(of_value) == seeds), key=_as_number)
        best = max(tried, key=lambda value: _score(by_value[value]))
        first = by_value[best][0]
        line = f"{first.model}, {first.loss}: {key}={best}, best of {', '.join(tried)} on validation"
        if len(tried) > 1 and best in (tried[0], tried[-1]):
            line += "; it is the first or the last one: a wider range may have a better one"
        fewer = sorted(by_value.keys() - set(tried), key=_as_number)
        lines.append(line + (f"; {', '.join(fewer)} left out: fewer seeds than {seeds}" if fewer else ""))
        kept += [_without(run, key) for run in by_value[best]]
    return sorted(kept, key=lambda run: run.folder), sorted(lines)


def _score(runs: Sequence[Run]) -> tuple[float, float]:
    """Returns the means over the runs of what `trainer.best` chose their best step by."""
    scores = [score(run.validation, run.config.get("trainer.best", "accuracy")) for run in runs]
    return fmean(first for first, _ in scores), fmean(second for _, second in scores)


def _identity(run: Run, key: str) -> tuple[str, ...]:
    """Returns what makes two runs comparable here: all leaves but the seed, this key and what changes no result."""
    leaves = (f"{name}={value}" for name, value in sorted(run.config.items()) if _counts(name) and name != key)
    return run.data, run.model, run.loss, run.split, *leaves


def _counts(name: str) -> bool:
    others = tuple(prefix for prefix in (*NO_EFFECT, *EXPECTED) if prefix != "loss.")
    return not f"{name}.".startswith(others)


def _stays(run: Run, name: str, key: str) -> bool:
    """Returns whether a leaf still tells runs apart if they are compared over `key`: of a group, what was typed does."""
    return name != key and (not name.startswith(f"{key}.") or name in run.overrides)


def _without(run: Run, key: str) -> Run:
    """Returns a run without a key, so that runs that differ in it count as equal."""
    config, overrides = ({name: value for name, value in part.items() if name != key} for part in (run.config, run.overrides))
    return replace(run, config=config, overrides=overrides)


def _full_key(runs: Sequence[Run], key: str, option: str) -> str:
    """Returns the key that differs between runs and is, or ends in, what was typed."""
    differing = _differing(runs)
    fitting = [name for name in differing if name == key] or [name for name in differing if name.rpartition(".")[2] == key]
    if len(fitting) != 1:
        found = f"could be {' or '.join(fitting)}" if fitting else "does not differ between these runs"
        raise ConfigError(f"{option}: {found}; {_what_differs(runs)}")
    return fitting[0]


def _differing(runs: Sequence[Run]) -> list[str]:
    """Returns the keys that differ between runs; an argument of a loss only if runs of that loss differ in it."""
    names = sorted({name for run in runs for name in run.config if _counts(name)})
    return [name for name in names if any(len(values) > 1 for values in _values(runs, name))]


def _values(runs: Sequence[Run], name: str) -> list[set[str | None]]:
    """Returns the values of a key; those of an argument of a loss, for each loss."""
    scopes = {run.loss for run in runs} if name.startswith("loss.") else {None}
    return [{run.config.get(name) for run in runs if scope in (None, run.loss)} for scope in scopes]


def _what_differs(runs: Sequence[Run]) -> str:
    differing = [*(name for name in ("loss", "model") if len({getattr(run, name) for run in runs}) > 1), *_differing(runs)]
    return f"these do: {', '.join(differing)}" if differing else "the runs differ in nothing but seed"


def _as_number(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text
