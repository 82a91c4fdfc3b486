"""The loop of a sweep: what an earlier attempt at a job left, and what the end of its process means."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sweeps.fake import FakeJob, FakeLauncher

from vgg_nll.run_folder import paths
from vgg_nll.sweeps import record
from vgg_nll.sweeps.display import Display
from vgg_nll.sweeps.job_names import Job
from vgg_nll.sweeps.loop import Loop
from vgg_nll.sweeps.means import Means
from vgg_nll.sweeps.record import Sweep
from vgg_nll.sweeps.status import FAILED, INTERRUPTED, Status
from vgg_nll.training.signals import Signals

JOB = Job("a", ("seed=0",))


@dataclass
class OneJob:
    """A search that asks for one job."""

    number: int = 1
    swept: Sequence[str] = ()
    examples: Sequence[Sequence[str]] = ()
    left: list[Sequence[str]] = field(default_factory=lambda: [JOB.overrides])

    def ask(self) -> Sequence[str] | None:
        return self.left.pop() if self.left else None

    def tell(self, job: Job, status: Status) -> None:
        pass


@dataclass
class Printing(FakeLauncher):
    """A launcher whose jobs print this; nothing: they do not touch the file of their errors."""

    printed: str = ""

    def start(self, arguments: Sequence[str], errors: Path) -> FakeJob:
        if self.printed:
            errors.write_text(self.printed)
        self.jobs.append(FakeJob(self.act(Path(), list(arguments))))
        return self.jobs[-1]


@pytest.mark.parametrize(
    ("code", "printed", "expected"),
    [
        (1, "", Status(FAILED, "the process ended with exit code 1")),
        (-9, "", Status(INTERRUPTED, "killed by SIGKILL")),
        (137, "", Status(INTERRUPTED, "killed by exit code 137")),  # as a shell says it
        (-9, "error: no picture\n", Status(FAILED, "no picture")),
    ],
)
def test_a_job_is_judged_by_its_last_attempt(tmp_path: Path, code: int, printed: str, expected: Status) -> None:
    sweep = Sweep(tmp_path, "x", jobs={JOB.name: JOB})
    record.write(sweep)
    sweep.folder_of(JOB).mkdir()
    (sweep.folder_of(JOB) / paths.FAILED).write_text("of an earlier attempt\n")
    errors = sweep.private(f"{JOB.name}.err")
    errors.parent.mkdir(exist_ok=True)
    errors.write_text("error: of an earlier attempt\n")
    loop = Loop(
        sweep=sweep,
        search=OneJob(),
        launcher=Printing(lambda *_: code, printed=printed),
        display=Display(1, 1),
        signals=Signals(),
        means=Means(sweep),
        register=lambda _: JOB,
        arguments=[],
        fail_fast=False,
    )
    assert loop.run() == {JOB: expected}
