"""Mean, minimum and maximum over the seeds of a setting, as TensorBoard runs beside the jobs."""

import contextlib
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from vgg_nll.config.compose import key_of
from vgg_nll.errors import CheckpointError
from vgg_nll.escapes import printable
from vgg_nll.files import atomic_write
from vgg_nll.run_folder import checked_json, checksums, paths
from vgg_nll.sweeps import job_names, record
from vgg_nll.sweeps.job_names import ALWAYS_OPEN, OWN_RUNS, Job
from vgg_nll.sweeps.local_launcher import new_process
from vgg_nll.sweeps.record import Sweep
from vgg_nll.tracking import tags

if TYPE_CHECKING:  # it loads PyTorch
    from vgg_nll.tracking.event_files import Curve

MEMBERS = "runs.txt"  # in the folder of a mean: the jobs that it is of
ALL = "all"  # the name of the only setting of a sweep over seeds
WAIT_SECONDS = 600.0  # for another process that writes means of this sweep
WITHOUT = "speed/"  # tags that say something of the machine


class Means:
    """Keeps the means of a sweep up to date, in a process of its own: reading and writing event files loads PyTorch.

    A setting has means once two of its jobs are finished.
    """

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._due: dict[str, None] = {}
        self._process: BaseProcess | None = None

    def update(self, job: Job) -> None:
        """Writes the means of a job's setting again, soon."""
        self._due[setting_of(job, self._sweep)] = None
        if self._process is None or not self._process.is_alive():
            self._start()

    def finish(self) -> None:
        """Waits until all means are written."""
        if self._process is not None:
            self._process.join()
        self._start()
        if self._process is not None:
            self._process.join()

    def _start(self) -> None:
        """Starts the process, if there is something to write."""
        found: dict[str, list[str]] = {}
        for job in self._sweep.jobs.values():
            setting = setting_of(job, self._sweep)
            if setting in self._due and (self._sweep.folder_of(job) / paths.DONE).is_file():
                found.setdefault(setting, []).append(job.name)
        self._due.clear()
        new = {setting: names for setting, names in found.items() if len(names) > 1 and not self._are_written(setting, names)}
        if new:
            self._process = new_process(_write_all, self._sweep.folder, new)
            self._process.start()

    def _are_written(self, setting: str, names: Sequence[str]) -> bool:
        path = self._sweep.folder / OWN_RUNS[0] / setting / MEMBERS
        return path.is_file() and path.read_text(encoding="utf-8").splitlines() == sorted(names)


def setting_of(job: Job, sweep: Sweep) -> str:
    """Returns what a job shares with those that differ from it in the seed or the fold alone, as a folder name."""
    words = sorted(_plain(word) for word in job.overrides if key_of(word) in sweep.swept and key_of(word) not in ALWAYS_OPEN)
    return job_names.name_job(words, sweep.swept, checked_json.checksum(words), ()) if words else ALL


def _plain(word: str) -> str:
    """0.001 for 1e-3: seeds may have been added with another spelling."""
    key, equals, value = word.partition("=")
    with contextlib.suppress(ValueError):
        value = f"{float(value):g}" if not value.lstrip("+-").isdecimal() else value
    return f"{key}{equals}{value}"


def _write_all(folder: Path, settings: dict[str, list[str]]) -> None:
    """Runs in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the sweep, which waits for this
    # Not the lock of the record: many runs take longer than a job should wait for that.
    with paths.try_lock(folder / record.PRIVATE / "means.lock", WAIT_SECONDS) as is_free:
        for setting, names in settings.items() if is_free else ():
            _write(folder, setting, sorted(names))


def _at_one_step(curves: "Mapping[str, Curve]") -> "dict[str, Curve]":
    """Returns the curves of a run; of its best network one point at the last step, since the best steps of seeds differ."""
    end = max((curve[-1][0] for curve in curves.values() if curve), default=0)
    of_best = (tags.TEST, tags.BEST)
    return {tag: [(end, curve[-1][1])] if tag.startswith(of_best) else curve for tag, curve in curves.items()}


def _identity(folder: Path) -> tuple[str, int]:
    """Returns the identity of a run, and the step up to which its event files go; "" and 0 where its files do not say."""
    with contextlib.suppress(CheckpointError):
        content, run_id = checked_json.read_with_id(folder / paths.METRICS)
        files = checksums.other_files(content, str(run_id or ""))
        return files.run_id, files.step
    return "", 0


def _write(folder: Path, setting: str, names: Sequence[str]) -> None:
    from vgg_nll.comparison.statistics import mean_over_runs  # these load PyTorch
    from vgg_nll.tracking.event_files import read_checked, write_curves

    found = [read_checked(folder / name, *_identity(folder / name)) for name in names]
    for problem in (line for _, problems in found for line in problems):
        print(printable(f"warning: {problem}"), file=sys.stderr, flush=True)
    curves = [_at_one_step(by_tag) for by_tag, _ in found]
    names_of_curves = sorted({tag for by_tag in curves for tag in by_tag if not tag.startswith(WITHOUT)})
    points = {tag: mean_over_runs(curves, tag) for tag in names_of_curves}
    if not any(points.values()):  # tracking=none
        return
    for column, own in enumerate(OWN_RUNS, start=1):
        place = folder / own / setting
        place.mkdir(parents=True, exist_ok=True)
        write_curves(place, {tag: [(point.step, point[column]) for point in values] for tag, values in points.items()})
        atomic_write(place / MEMBERS, "".join(f"{name}\n" for name in names))
