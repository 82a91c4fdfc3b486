"""Runs -> groups that are equal but for loss and seed, and what else differs between runs."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vgg_nll.comparison.keys import CHOICES, EXPECTED, NO_EFFECT
from vgg_nll.comparison.runs import Run

ABSENT = "absent"
MAX_CHARACTERS = 60  # of a value that is shown


@dataclass(frozen=True)
class Group:
    """Runs that share data set, model and settings."""

    data: str
    model: str
    settings: str
    split: str  # the images of their metrics: test, or val if the data set has no test split
    losses: Mapping[str, Mapping[int, Run]]  # loss (with its arguments, if runs of one loss differ in them) -> seed -> run

    @property
    def name(self) -> str:
        """Returns data set, model and settings, as a heading."""
        return f"{self.data}, {self.model}, {self.settings}"

    @property
    def runs(self) -> list[Run]:
        """Returns the runs of all losses."""
        return [run for by_seed in self.losses.values() for run in by_seed.values()]


def group_runs(runs: Sequence[Run]) -> tuple[list[Group], list[str]]:
    """Returns the groups in order of their names; and a line for each run that is a duplicate of another one.

    Two runs have the same settings if all leaves of their configs are equal, except those that cannot change a result. The
    name of the settings is made of overrides. If one seed ran on several machines, the machine is a part of the settings. Runs
    with equal group, loss and seed are duplicates: the last one counts.
    """
    arguments = _labels(runs, [run.loss for run in runs], "loss.", ())
    losses = [f"{run.loss} {given}".strip() for run, given in zip(runs, arguments, strict=True)]
    scopes = [f"{run.data}\n{run.model}\n{run.split}" for run in runs]
    settings = _labels(runs, scopes, "", (*NO_EFFECT, *EXPECTED))
    machines = defaultdict(set)
    for *key, run in zip(scopes, settings, losses, runs, strict=True):
        machines[*key, run.seed].add(run.machine)
    if any(len(names) > 1 for names in machines.values()):
        settings = _labels(runs, scopes, "", (*NO_EFFECT, *EXPECTED), with_machine=True)
    found: dict[tuple[str, str, str, str], dict[str, dict[int, Run]]] = defaultdict(lambda: defaultdict(dict))
    duplicates = []
    for run, loss, setting in zip(runs, losses, settings, strict=True):
        by_seed = found[run.data, run.model, setting or "default", run.split][loss]
        if run.seed in by_seed:
            duplicates.append(f"left out, same settings and seed: {by_seed[run.seed].folder} ({run.folder} counts)")
        by_seed[run.seed] = run
    groups = [
        Group(*key, {loss: dict(sorted(by_loss[loss].items())) for loss in sorted(by_loss)})
        for key, by_loss in sorted(found.items())
    ]
    return groups, duplicates


def config_differences(runs: Sequence[Run]) -> list[str]:
    """Returns what differs between runs, except loss and seed: "trainer.epochs: 4 (3 runs), 6 (3 runs)", ...

    Compares data set, model, every leaf of the config, device, precision, versions and commit.
    """
    tables: list[Sequence[Mapping[str, str]]] = [
        [{"data": run.data, "model": run.model, "numbers are of": run.split} for run in runs],
        [_leaves(run, "", EXPECTED) for run in runs],
        [run.provenance for run in runs],
    ]
    lines: list[str] = []
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for table in tables:
        for key in sorted({key for leaves in table for key in leaves}, key=lambda key: (key.count("."), key)):
            column = tuple(leaves.get(key, ABSENT) for leaves in table)
            last = key.rpartition(".")[2]
            if len(set(column)) > 1 and (last, column) not in seen:  # trainer.precision says what precision says
                seen.add((last, column))
                counts = ", ".join(f"{_short(value)} ({_runs(count)})" for value, count in sorted(Counter(column).items()))
                lines.append(f"{key}: {counts}")
    return lines + _loss_differences(runs)


def _loss_differences(runs: Sequence[Run]) -> list[str]:
    """Returns the arguments in which runs of one loss differ: "loss.eps of argmax: 0 (3 runs), 0.1 (3 runs)"."""
    lines = []
    for loss in sorted({run.loss for run in runs}):
        table = [_leaves(run, "loss.", ()) for run in runs if run.loss == loss]
        for key in sorted({key for leaves in table for key in leaves}):
            counts = Counter(leaves.get(key, ABSENT) for leaves in table)
            if len(counts) > 1:
                lines.append(f"{key} of {loss}: " + ", ".join(f"{_short(v)} ({_runs(n)})" for v, n in sorted(counts.items())))
    return lines


def shared_provenance(runs: Sequence[Run]) -> list[str]:
    """Returns those of device, precision and PyTorch's version that are equal in all runs."""
    keys = {"device": "", "precision": "", "versions.torch": "torch "}
    columns = {key: {run.provenance.get(key) for run in runs} for key in keys}
    return [f"{prefix}{value}" for key, prefix in keys.items() if len(columns[key]) == 1 for value in columns[key] if value]


def _leaves(run: Run, prefix: str, excluded: tuple[str, ...]) -> dict[str, str]:
    """Returns the leaves of the config under `prefix`."""
    return {key: value for key, value in run.config.items() if key.startswith(prefix) and not f"{key}.".startswith(excluded)}


def _labels(
    runs: Sequence[Run], scopes: Sequence[str], prefix: str, excluded: tuple[str, ...], with_machine: bool = False
) -> list[str]:
    """Returns a label per run: its overrides under `prefix`. Two runs of one scope have equal labels if their leaves are equal.

    If several overrides give equal leaves, the shortest ones are the label. If overrides do not distinguish all leaves of a
    scope (a default has changed between two commits), the leaves that differ follow in brackets.
    """
    leaves = [_leaves(run, prefix, excluded) | ({"on": run.machine} if with_machine else {}) for run in runs]
    labels: dict[str, dict[frozenset[tuple[str, str]], str]] = defaultdict(dict)  # scope -> leaves -> label
    for run, scope, own in zip(runs, scopes, leaves, strict=True):
        given = " ".join(
            f"{key}={value}"
            for key, value in sorted(run.overrides.items())
            if key.startswith(prefix) and key not in CHOICES and not f"{key}.".startswith(excluded)
        )
        by_leaves, key = labels[scope], frozenset(own.items())
        by_leaves[key] = min(by_leaves.get(key, given), given, key=lambda label: (len(label), label))
    found = []
    for scope, own in zip(scopes, leaves, strict=True):
        by_leaves = labels[scope]
        label = by_leaves[frozenset(own.items())]
        if len(set(by_leaves.values())) < len(by_leaves):
            common = frozenset.intersection(*by_leaves)
            differing = ", ".join(f"{key}={value}" for key, value in sorted(own.items()) if (key, value) not in common)
            label = f"{label} [{differing}]".strip()
        found.append(label)
    return found


def _short(value: str) -> str:
    return value if len(value) <= MAX_CHARACTERS else f"{value[:MAX_CHARACTERS]}..."


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"
