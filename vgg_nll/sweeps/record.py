"""The folder of a sweep: which jobs it has, what they share, and who may change it."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vgg_nll.comparison.keys import IGNORED
from vgg_nll.config import schema, upgrade
from vgg_nll.errors import CheckpointError, ConfigError
from vgg_nll.run_folder import checked_json, paths
from vgg_nll.run_folder.record import RunRecord
from vgg_nll.sweeps import job_names
from vgg_nll.sweeps.job_names import ALWAYS_OPEN, Job

RECORD = "sweep.json"  # the jobs, and the settings that they share
TABLE = "sweep.csv"  # what became of them
PRIVATE = ".sweep"  # locks, and what running jobs print
LOCK = f"{PRIVATE}/lock"
LOCK_SECONDS = 60
MAX_SHOWN = 5


@dataclass
class Sweep:
    """A sweep's folder and what its record holds.

    Attributes:
        shared: leaves that all jobs have in common, and must keep; swept: keys that have had several values.
        jobs: identity of the config -> job, in the order in which they were asked for.
    """

    folder: Path
    sweep_id: str
    shared: dict[str, Any] = field(default_factory=dict)
    swept: list[str] = field(default_factory=list)
    jobs: dict[str, Job] = field(default_factory=dict)

    def folder_of(self, job: Job) -> Path:
        """The run folder of a job."""
        return self.folder / job.name

    def private(self, name: str) -> Path:
        """A file of the sweep's own."""
        return self.folder / PRIVATE / name

    def claim(self, job: Job) -> AbstractContextManager[bool]:
        """Returns whether this process may run the job, and holds it for the block; a claim ends with its process."""
        return paths.try_lock(self.private(f"{job.name}.lock"))


def check_folder(folder: Path) -> None:
    """Raises ConfigError if a folder holds something else than a sweep."""
    if not os.path.lexists(folder):
        return
    for path in (*folder.glob("*"), *(folder / PRIVATE).glob("*"), folder / PRIVATE):
        if path.is_symlink():
            raise ConfigError(f"{path}: is a link, which no sweep makes: what is written there would go elsewhere; remove it")
    if (folder / RECORD).exists():
        return
    if not folder.is_dir() or any(path.name != PRIVATE for path in folder.iterdir()):
        raise ConfigError(f"{folder}: is not the folder of a sweep (there is no {RECORD}); choose another name")


def open_sweep(folder: Path, swept: Sequence[str]) -> Sweep:
    """Returns the sweep of a folder; a new one, which is not written yet, if there is none. Errors are those of `read`."""
    if (folder / RECORD).exists():
        sweep = read(folder)
        sweep.swept += [key for key in swept if key not in sweep.swept]
        return sweep
    return Sweep(folder, checked_json.new_run_id(), swept=list(swept))


def read(folder: Path) -> Sweep:
    """Returns the sweep of a folder. Raises CheckpointError if its record is missing, damaged, or of a newer program."""
    path = folder / RECORD
    content = checked_json.read(path)
    written = upgrade.checked_format(path, content)
    if written is None:
        raise CheckpointError(f"{path}: is of a sweep from before records had a format; take another name")
    match content:
        case {"shared": dict(shared), "swept": list(swept), "jobs": list(items), "sweep": str(sweep_id)}:
            found = {}
            for item in items:
                match item:
                    case {"name": str(name), "identity": str(identity), "overrides": list(overrides)}:
                        if Path(name).name == name and name not in ("", ".", "..") and _are_texts(overrides):
                            found[identity] = Job(name, tuple(overrides))
                            continue
                raise CheckpointError(f"{path}: is damaged: it holds a job that no sweep writes")
            if _are_texts(swept):
                sweep = Sweep(folder, sweep_id, shared, swept, found)
                return sweep if written == upgrade.FORMAT else _in_words_of_today(sweep, written)
    raise CheckpointError(f"{path}: is damaged: it does not hold what a sweep writes")


def _in_words_of_today(sweep: Sweep, written: int) -> Sweep:
    """Returns a sweep of an older format: keys have other names since, and jobs other identities, as their own records say.

    Jobs that have not begun are left out; the command that asks for them adds them again.
    """
    swept = [upgrade.renamed(key, written) for key in sweep.swept]
    found = []
    for job in sweep.jobs.values():
        with suppress(CheckpointError):
            leaves = schema.leaves(RunRecord.open(sweep.folder_of(job)).config)
            overrides = tuple(upgrade.renamed_override(word, written) for word in job.overrides)
            found.append((Job(job.name, overrides), leaves))
    return Sweep(
        sweep.folder,
        sweep.sweep_id,
        shared=_common([leaves for _, leaves in found], {*swept, *ALWAYS_OPEN}) if found else {},
        swept=swept,
        jobs={job_names.identity(leaves, swept): job for job, leaves in found},
    )


def add(sweep: Sweep, planned: Sequence[tuple[tuple[str, ...], Mapping[str, Any]]]) -> dict[tuple[str, ...], Job]:
    """Adds jobs to the record; returns those that are planned, by their overrides, with the folder that each has or gets.

    Jobs with equal configs are one job.

    Args:
        planned: overrides and leaves of the config, of each job.

    Raises ConfigError with the differences if a planned job differs from the others in a setting that is not swept.
    """
    open_keys = {*sweep.swept, *ALWAYS_OPEN}
    common = _common([leaves for _, leaves in planned], open_keys)
    if sweep.jobs:
        _check_same(sweep, [leaves for _, leaves in planned], open_keys)
        common = {key: value for key, value in common.items() if sweep.shared.get(key, value) == value}
        common |= {key: value for key, value in sweep.shared.items() if key not in common and not _is_open(key, open_keys)}
    sweep.shared = common
    wanted: dict[tuple[str, ...], Job] = {}
    taken = {job.name for job in sweep.jobs.values()}
    for overrides, leaves in planned:
        identity = job_names.identity(leaves, sweep.swept)
        before = sweep.jobs.get(identity)
        name = job_names.name_job(overrides, sweep.swept, identity, taken) if before is None else before.name
        taken.add(name)
        # What changes no result (the device, ...) is as it was typed last.
        wanted[overrides] = sweep.jobs[identity] = Job(name, overrides)
    return wanted


def write(sweep: Sweep) -> None:
    """Writes the record, whole."""
    items = [{"name": job.name, "identity": key, "overrides": list(job.overrides)} for key, job in sweep.jobs.items()]
    content = {"format": upgrade.FORMAT, "shared": sweep.shared, "swept": sweep.swept, "jobs": items, "sweep": sweep.sweep_id}
    checked_json.write(sweep.folder / RECORD, content, sweep.sweep_id)


def remove_empty(folder: Path) -> None:
    """Removes the folder of a sweep that did not begin."""
    (folder / LOCK).unlink(missing_ok=True)
    for path in (folder / PRIVATE, folder):
        with suppress(OSError):  # not empty
            path.rmdir()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lets one process at a time change the sweep's own files."""
    (folder / PRIVATE).mkdir(parents=True, exist_ok=True)
    with paths.try_lock(folder / LOCK, LOCK_SECONDS) as is_free:
        if not is_free:
            raise ConfigError(f"{folder}: another process has held the sweep for {LOCK_SECONDS} s; stop it, or wait")
        yield


def _check_same(sweep: Sweep, planned: Sequence[Mapping[str, Any]], open_keys: set[str]) -> None:
    changed = {
        key: (value, leaves[key])
        for leaves in planned
        for key, value in sweep.shared.items()
        if key in leaves and leaves[key] != value and not _is_open(key, open_keys)
    }
    if changed:
        shown = [f"{key}={before} (now {now})" for key, (before, now) in list(changed.items())[:MAX_SHOWN]]
        rest = f", and {len(changed) - MAX_SHOWN} more" if len(changed) > MAX_SHOWN else ""
        raise ConfigError(
            f"sweep={sweep.folder.name}: was made with {', '.join(shown)}{rest}; restore it, sweep over both values, or take "
            "another name"
        )


def _common(planned: Sequence[Mapping[str, Any]], open_keys: set[str]) -> dict[str, Any]:
    """Returns the leaves that all jobs have in common, without those that may vary."""
    first, *others = planned
    return {
        key: value
        for key, value in first.items()
        if not _is_open(key, open_keys) and all(other.get(key, ...) == value for other in others)
    }


def _is_open(key: str, open_keys: set[str]) -> bool:
    """Returns whether a leaf may vary: it is swept, lies in a group that is, or changes no result."""
    swept = any(key == name or key.startswith(f"{name}.") for name in open_keys)
    return swept or f"{key}.".startswith(IGNORED) or "experiment" in open_keys


def _are_texts(items: Sequence[Any]) -> bool:
    return all(isinstance(item, str) for item in items)
