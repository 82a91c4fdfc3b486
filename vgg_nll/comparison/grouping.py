"""Runs -> set-ups: what is alike but for loss and seed, and what else differs."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vgg_nll.comparison.runs import Run

GROUPS = ("data", "model", "loss")  # overrides with a column of their own
# What has no part in the result of a run.
NO_EFFECT = (
    *("tracking.", "checkpoint.", "trainer.log_every_steps.", "trainer.figures_every_epochs."),
    *("data.num_workers.", "data.download."),
)
# What may differ without a word at the top of the report.
EXPECTED = ("seed.", "loss.", "name.", "device.", "resume.", "resume_strict.")
MAX_CHARACTERS = 60  # of a value that is shown


@dataclass(frozen=True)
class Group:
    """Runs that share data set, model and settings."""

    data: str
    model: str
    settings: str
    split: str  # what their metrics are of: test, or val where there is no test split
    losses: Mapping[str, Mapping[int, Run]]  # by loss (and its arguments, where runs of one loss differ in them), by seed

    @property
    def name(self) -> str:
        """As a heading."""
        return f"{self.data}, {self.model}, {self.settings}"

    @property
    def runs(self) -> list[Run]:
        """All of them."""
        return [run for by_seed in self.losses.values() for run in by_seed.values()]


def group_runs(runs: Sequence[Run]) -> tuple[list[Group], list[str]]:
    """Set-ups in order of their names; and a line for each run that another one with the same seed takes the place of.

    Settings are equal where every leaf of the config is that can change a result, however it was given: by name they are
    the overrides. Where a run does not hold its config, overrides stand for it. Machines are settings where one seed ran
    on several of them. Of runs that are alike in all that, the last one counts.
    """
    arguments = _labels(runs, [run.loss for run in runs], "loss.", ())
    losses = [f"{run.loss} {given}".strip() for run, given in zip(runs, arguments, strict=True)]
    scopes = [f"{run.data}\n{run.model}\n{run.split}" for run in runs]
    settings = _labels(runs, scopes, "", (*NO_EFFECT, *EXPECTED))
    places = defaultdict(set)
    for scope, setting, loss, run in zip(scopes, settings, losses, runs, strict=True):
        places[scope, setting, loss, run.seed].add(run.machine)
    if any(len(machines) > 1 for machines in places.values()):
        settings = _labels(runs, scopes, "", (*NO_EFFECT, *EXPECTED), machines=True)
    found: dict[tuple[str, str, str, str], dict[str, dict[int, Run]]] = defaultdict(lambda: defaultdict(dict))
    lines = []
    for run, loss, setting in zip(runs, losses, settings, strict=True):
        by_seed = found[run.data, run.model, setting or "default", run.split][loss]
        if run.seed in by_seed:
            lines.append(f"left out, the same settings and seed again: {by_seed[run.seed].folder} ({run.folder} counts)")
        by_seed[run.seed] = run
    return [
        Group(*key, {loss: dict(sorted(by_loss[loss].items())) for loss in sorted(by_loss)})
        for key, by_loss in sorted(found.items())
    ], lines


def config_differences(runs: Sequence[Run]) -> list[str]:
    """What is not the same in all runs, but for loss and seed: "trainer.epochs: 4 (3 runs), 6 (3 runs)", ...

    Compares data set, model, every leaf of the config (overrides, where a run does not hold its config), device, precision,
    versions and commit.
    """
    by_config = without_config(runs) == 0
    tables: list[tuple[Sequence[Mapping[str, str]], str]] = [
        ([{"data": run.data, "model": run.model, "numbers are of": run.split} for run in runs], ""),
        ([_leaves(run, by_config, "", EXPECTED) for run in runs], "absent" if by_config else "default"),
        ([run.provenance for run in runs], "unknown"),
    ]
    lines: list[str] = []
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for table, missing in tables:
        for key in sorted({key for leaves in table for key in leaves}, key=lambda key: (key.count("."), key)):
            column = tuple(leaves.get(key, missing) for leaves in table)
            last = key.rpartition(".")[2]
            if len(set(column)) > 1 and (last, column) not in seen:  # data.source.x is made from data.x
                seen.add((last, column))
                counts = ", ".join(f"{_short(value)} ({_runs(count)})" for value, count in sorted(Counter(column).items()))
                lines.append(f"{key}: {counts}")
    return lines


def shared(runs: Sequence[Run]) -> list[str]:
    """Where all runs were trained, and with what: those of device, precision and PyTorch's version that are the same."""
    keys = {"device": "", "precision": "", "versions.torch": "torch "}
    columns = {key: {run.provenance.get(key) for run in runs} for key in keys}
    return [f"{prefix}{value}" for key, prefix in keys.items() if len(columns[key]) == 1 for value in columns[key] if value]


def without_config(runs: Sequence[Run]) -> int:
    """How many runs do not hold their config."""
    return sum(not run.config for run in runs)


def _leaves(run: Run, by_config: bool, prefix: str, without: tuple[str, ...]) -> dict[str, str]:
    """The leaves under `prefix` of its config, or of its overrides."""
    leaves = run.config if by_config else {key: value for key, value in run.overrides.items() if key not in GROUPS}
    return {key: value for key, value in leaves.items() if key.startswith(prefix) and not f"{key}.".startswith(without)}


def _labels(
    runs: Sequence[Run], scopes: Sequence[str], prefix: str, without: tuple[str, ...], machines: bool = False
) -> list[str]:
    """Per run, its overrides under `prefix`: equal for two runs of one scope exactly where their leaves are.

    The leaves that differ follow in brackets, where the overrides do not tell all runs of a scope apart (what was not given
    may have another default in another version). Of several ways to give the same leaves, the shortest.
    """
    by_config = without_config(runs) == 0
    leaves = [_leaves(run, by_config, prefix, without) | ({"on": run.machine} if machines else {}) for run in runs]
    named: dict[str, dict[frozenset[tuple[str, str]], str]] = defaultdict(dict)  # scope -> leaves -> name
    for run, scope, own in zip(runs, scopes, leaves, strict=True):
        given = [
            f"{key}={value}"
            for key, value in sorted(run.overrides.items())
            if key.startswith(prefix) and key not in GROUPS and not f"{key}.".startswith(without)
        ]
        names, key, name = named[scope], frozenset(own.items()), " ".join(given)
        names[key] = min(names.get(key, name), name, key=lambda name: (len(name), name))
    labels = []
    for scope, own in zip(scopes, leaves, strict=True):
        names = named[scope]
        name = names[frozenset(own.items())]
        if len(set(names.values())) < len(names):
            same = frozenset.intersection(*names)
            differing = ", ".join(f"{key}={value}" for key, value in sorted(own.items()) if (key, value) not in same)
            name = f"{name} [{differing}]".strip()
        labels.append(name)
    return labels


def _short(value: str) -> str:
    return value if len(value) <= MAX_CHARACTERS else f"{value[:MAX_CHARACTERS]}..."


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"
