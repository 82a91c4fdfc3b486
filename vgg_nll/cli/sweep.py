"""`python train.py -m ...`: words -> jobs, all checked before the first one starts; then the loop, a table, an exit code."""

import functools
import inspect
import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra._internal.utils import _locate
from omegaconf import DictConfig

from vgg_nll.cli import arguments, error_messages
from vgg_nll.cli.load import load_training
from vgg_nll.config import rules, schema, sweep_overrides
from vgg_nll.config.compose import SEARCH_PATH, composed, is_override, key_of
from vgg_nll.config.schema import OF_SWEEPS
from vgg_nll.errors import ConfigError
from vgg_nll.escapes import printable
from vgg_nll.progress import track
from vgg_nll.run_folder.record import RunRecord
from vgg_nll.sweeps import record
from vgg_nll.sweeps.display import Display
from vgg_nll.sweeps.grid import Search
from vgg_nll.sweeps.job_names import Job
from vgg_nll.sweeps.local_launcher import Launcher, new_process
from vgg_nll.sweeps.loop import Loop
from vgg_nll.sweeps.means import Means
from vgg_nll.sweeps.record import Sweep
from vgg_nll.sweeps.status import DONE_WITH
from vgg_nll.sweeps.summary import print_dashboard, print_summary
from vgg_nll.training.signals import Signals

SWEEPS = Path("runs/sweeps")
DIRECTORY = "hydra.sweep.dir"
NAME = re.compile(r"\w[\w.=+ -]{0,99}")
# What Hydra's own sweeps take, and what takes its place here.
REPLACED = {
    "hydra/launcher": "launcher=local launcher.jobs=<number> runs jobs side by side",
    "hydra/sweeper": "search=optuna searches",
    "hydra.launcher": "launcher.jobs=<number> runs jobs side by side",
    "hydra.sweeper": "search=optuna searches",
    "hydra.run.dir": f"{DIRECTORY}=<folder> is that of a sweep",
    "hydra.sweep.subdir": "jobs are named by the overrides that differ",
}
MAX_ERRORS = 10
Leaves = Mapping[str, Any]  # of a config


@dataclass(frozen=True)
class Request:
    """What a person has typed for a sweep: its settings, its folder, the words for its jobs."""

    cfg: DictConfig
    folder: Path
    words: list[str]
    command: str  # that continues it


def main(typed: Sequence[str], run_one: Callable[..., None], *, traceback: bool) -> None:
    """Runs the sweep that these words, ready for Hydra, describe. Ends the process with 1 if a job did not finish.

    Args:
        run_one: what a job does with its command line; importable.
    """
    request = read(typed)
    cfg, folder = request.cfg, request.folder
    search: Search = _make("search", cfg.search, words=sweep_overrides.parse(request.words), folder=folder)
    checked = _check_all(search.examples, search.swept)
    device = str(next(iter(checked.values()))["device"])
    run_job = functools.partial(run_one, traceback=traceback)
    launcher: Launcher = _make("launcher", cfg.launcher, main=run_job, device=device, folder=folder)
    if cfg.sweep.prune is not None and cfg.launcher.get("ranks", 1) > 1:
        raise ConfigError("sweep.prune: jobs of several ranks cannot be stopped early; leave it out, or set launcher.ranks=1")
    record.check_folder(folder)
    _load()
    sweep, register = _open(folder, search, checked)
    number = f"{search.number} job{'s' * (search.number > 1)}"
    print(printable(f"sweep {folder.name}: {number}, {launcher.describe()}; in {folder}"))
    print(printable(f"continue with: {request.command}"))
    print_dashboard(folder)
    with Signals() as signals:
        signals.defer()
        loop = Loop(
            sweep=sweep,
            search=search,
            launcher=launcher,
            display=Display(search.number, launcher.slots),
            signals=signals,
            means=Means(sweep),
            register=register,
            arguments=[f"trainer.prune_against={folder.absolute()}"] if cfg.sweep.prune == "median" else [],
            fail_fast=cfg.sweep.fail_fast,
        )
        statuses = loop.run()
        print_summary(sweep, statuses, search.number, request.command)
    if signals.stop is not None:
        sys.exit(128 + signals.stop)
    sys.exit(any(status.state not in DONE_WITH for status in statuses.values()))


def _load() -> None:
    """Loads PyTorch in the process that jobs are forked from. If it cannot be loaded, nothing has begun."""
    process = new_process(load_training)
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(1)


def read(typed: Sequence[str]) -> Request:
    """Returns what is typed, sorted. Raises ConfigError for what a sweep does not take."""
    overrides = [word for word in typed if is_override(word)]
    options = [word for word in typed if not is_override(word) and word not in arguments.SWEEP]
    if options[:1] in (["-cd"], ["--config-dir"]) and len(options) == 2:
        if not Path(options[1]).is_dir():
            raise ConfigError(f"{options[0]} {options[1]}: there is no such folder")
        overrides.append(f"{SEARCH_PATH}=['file://{Path(options[1]).absolute()}']")
    elif options:
        raise ConfigError(f"{options[0]}: goes with one run; leave out -m")
    for word in overrides:
        key = next((key for key in REPLACED if key_of(word) == key or key_of(word).startswith(f"{key}.")), None)
        if key is not None:
            raise ConfigError(f"{word}: is for Hydra's own sweeps; {REPLACED[key]}")
        if key_of(word) == "resume":
            raise ConfigError(f"{word}: goes with one run; leave out -m; a sweep continues with -m sweep=<name>")
    own = [word for word in overrides if key_of(word).partition(".")[0] in OF_SWEEPS]
    names = [word.partition("=")[2].strip("'\"") for word in own if key_of(word) in ("sweep", "sweep.name")]
    cfg = composed([word for word in own if key_of(word) not in ("sweep", "sweep.name")], "sweep")
    errors = [f"sweep={name}: must be a name: letters, digits, and . _ - = +, no / and at most 100 of them" for name in names]
    errors = [error for error, name in zip(errors, names, strict=True) if not NAME.fullmatch(name) and name != "null"]
    errors += rules.find_errors(schema.leaves(cfg))
    if errors:
        raise ConfigError("\n".join(errors))
    directory = arguments.path_of(DIRECTORY, overrides)
    name = names[-1] if names and names[-1] != "null" else f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    folder = SWEEPS / name if directory is None else directory
    rest = [word for word in sys.argv[1:] if key_of(word) not in ("sweep", "sweep.name") and word not in arguments.SWEEP]
    program = sys.argv[0] if sys.argv[0].endswith(".py") else Path(sys.argv[0]).name
    named = [f"sweep={name}"] if directory is None else []
    command = shlex.join([*(["python"] if program.endswith(".py") else []), program, "-m", *named, *rest])
    used = {*own, *(word for word in overrides if key_of(word) in (DIRECTORY, "hydra.mode"))}
    return Request(cfg, folder, [word for word in overrides if word not in used], command)


def _make(group: str, settings: DictConfig, **given: Any) -> Any:
    """Returns the object of a config group, made with its settings and with what the program gives."""
    options = {str(key): value for key, value in settings.items() if not str(key).startswith("_")}
    try:
        constructor = _class_of(group, settings["_target_"])
        unknown = options.keys() - inspect.signature(constructor).parameters.keys()
        if unknown:
            raise ConfigError(f"{group}.{min(unknown)}: there is no such setting")
        return constructor(**options, **given)
    except (TypeError, ImportError) as error:
        raise ConfigError(f"{group}: {error}") from error


def _class_of(group: str, target: str) -> Any:
    try:
        found = _locate(target)  # `hydra.utils.get_class` prints the error, too
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{group}._target_={target}: cannot be imported") from error
    if not isinstance(found, type):
        raise ConfigError(f"{group}._target_={target}: is no class; configs/{group}/ names those that there are")
    return found


def _check_all(examples: Sequence[Sequence[str]], swept: Sequence[str]) -> dict[tuple[str, ...], Leaves]:
    """Returns the leaves of every job's config. Raises ConfigError with a line for every error, and the jobs that have it."""
    found: dict[tuple[str, ...], Leaves] = {}
    errors: Counter[str] = Counter()
    example: dict[str, str] = {}
    for overrides in track(examples, len(examples), "checks"):
        try:
            found[tuple(overrides)] = _check(overrides)
        except error_messages.EXPECTED as error:
            for line in error_messages.explain(error, overrides).split("\n"):
                errors[line] += 1
                example.setdefault(line, " ".join(word for word in overrides if key_of(word) in swept))
    if errors:
        number = len(examples)
        lines = [
            line if count == number else f"{line} (in {count} of {number} jobs, as in: {example[line]})"
            for line, count in errors.items()
        ]
        rest = [f"and {len(lines) - MAX_ERRORS} more"] if len(lines) > MAX_ERRORS else []
        raise ConfigError("\n".join([*lines[:MAX_ERRORS], *rest]))
    return found


def _check(overrides: Sequence[str]) -> Leaves:
    cfg = composed(overrides)
    record = RunRecord.new(cfg)
    arguments.check_paths(cfg)
    return schema.leaves(record.stored_config)


def _open(
    folder: Path, search: Search, checked: Mapping[tuple[str, ...], Leaves]
) -> tuple[Sweep, Callable[[Sequence[str]], Job]]:
    """Returns the sweep, with all jobs that are known now in its record; and a function that adds one."""
    fresh = not folder.exists()
    known: dict[tuple[str, ...], Job] = {}
    try:
        with record.locked(folder):
            sweep = record.open_sweep(folder, search.swept)
            if len(checked) == search.number:
                known = record.add(sweep, list(checked.items()))
            record.write(sweep)
    except ConfigError:
        if fresh:
            record.remove_empty(folder)
        raise

    def register(overrides: Sequence[str]) -> Job:
        job = tuple(overrides)
        if job not in known:
            leaves = _check(job)
            with record.locked(folder):
                sweep.jobs |= record.read(folder).jobs  # those of other processes
                known.update(record.add(sweep, [(job, leaves)]))
                record.write(sweep)
        return known[job]

    return sweep, register
