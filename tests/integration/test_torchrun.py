"""torchrun as people type it: it restarts a run whose rank was killed, and one signal to it stops all ranks, saved once."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from helpers.configs import ROOT, TINY
from helpers.processes import free_port, start_ranks
from helpers.runs import outcome

from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.run_folder import paths

pytestmark = pytest.mark.slow

RUN = (*TINY, "trainer.batch_size=8", "trainer.steps=60", "trainer.validate_every_epochs=2", "hydra.run.dir=run")


TWO = ("--nproc-per-node=2", "--standalone")


class Torchrun:
    """`torchrun <options> train.py <overrides>`, as a group of processes of its own."""

    def __init__(self, folder: Path, *overrides: str, options: Sequence[str], name: str) -> None:
        self.printed = folder / f"{name}.txt"
        torchrun = [sys.executable, "-m", "torch.distributed.run", *options]
        with self.printed.open("w") as out:
            self.process = subprocess.Popen(
                [*torchrun, str(ROOT / "train.py"), *overrides],
                cwd=folder,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )

    def text(self) -> str:
        return self.printed.read_text()

    def until(self, words: str, times: int = 1) -> None:
        end = time.monotonic() + 120
        while self.text().count(words) < times:
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < end, self.text()
            time.sleep(0.005)

    def ranks(self) -> list[int]:
        """The process numbers of the ranks, rank 0 first."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [pid for _, pid in sorted((_variable(int(child), "RANK"), int(child)) for child in children)]


def _variable(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return next((line.partition("=")[2] for line in lines if line.startswith(f"{name}=")), "")


@contextlib.contextmanager
def torchrun(folder: Path, *overrides: str, options: Sequence[str] = TWO, name: str = "printed") -> Iterator[Torchrun]:
    folder.mkdir(exist_ok=True)
    started = Torchrun(folder, *overrides, options=options, name=name)
    try:
        yield started
    finally:
        ranks = started.ranks() if started.process.poll() is None else []  # they have sessions of their own
        for pid in [started.process.pid, *ranks]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        started.process.wait()


@pytest.mark.parametrize("victims", [(0,), pytest.param((1, 0, 1), marks=pytest.mark.soak)])
def test_a_killed_rank_costs_what_was_done_since_the_last_checkpoint(tmp_path: Path, victims: tuple[int, ...]) -> None:
    """The restarted run gives what one gives that nobody disturbs, and the run folder is one."""
    run = (*RUN, "model=vgg16_bn")
    (tmp_path / "whole").mkdir()
    whole = start_ranks(tmp_path / "whole", 2, *run)
    assert [rank.end() for rank in whole] == [0, 0], whole[0].text()
    with torchrun(tmp_path / "killed", *run, options=(*TWO, "--max-restarts=3", "--monitor-interval=0.1")) as killed:
        for attempt, rank in enumerate(victims, 1):
            killed.until(f"epoch {4 * attempt}  val loss")
            os.kill(killed.ranks()[rank], signal.SIGKILL)
            killed.until(f"restarted: continues {tmp_path}/killed/run", attempt)
        assert killed.process.wait(120) == 0, killed.text()
    if victims == (0,):
        assert "rank 1: error: stopped: another rank has ended" in killed.text()
    assert outcome(tmp_path / "killed/run") == outcome(tmp_path / "whole/run")
    assert [path.name for path in (tmp_path / "killed").iterdir() if path.is_dir()] == ["run"]


def test_a_signal_to_torchrun_saves_once(tmp_path: Path) -> None:
    """Whether it ends the run or its continuation."""
    steps = [0]
    endless = (*RUN, "checkpoint.every_steps=1000", "trainer.steps=100000")
    for number, words in ((signal.SIGTERM, endless), (signal.SIGINT, (f"resume={tmp_path}/run",))):
        with torchrun(tmp_path, *words, name=number.name) as cut:
            cut.until("  val loss")
            cut.process.send_signal(number)
            assert cut.process.wait(60) != 0
            said = [line for line in cut.text().splitlines() if "stopped by" in line]
        assert len(said) == 1, cut.text()
        steps.append(checkpoint_file.load(tmp_path / "run" / paths.LAST)["step"])
        assert f"after step {steps[-1]} of 100000, which is saved" in said[0]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("victim", [pytest.param("one", marks=pytest.mark.soak), "two"])
def test_two_machines_meet(tmp_path: Path, victim: str) -> None:
    """Two torchruns of one rank each, which see one disk, as the page has it; and again, if a rank of one is killed."""
    options: tuple[str, ...] = (
        "--nnodes=2",
        "--nproc-per-node=1",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint=localhost:{free_port()}",
        "--rdzv-id=x",
    )
    options += ("--max-restarts=3", "--monitor-interval=0.1")
    run = (*RUN, "checkpoint.every_steps=2")
    with (
        torchrun(tmp_path, *run, options=options, name="one") as one,
        torchrun(tmp_path, *run, options=options, name="two") as two,
    ):
        both = {"one": one, "two": two}
        while not any("epoch 4  val loss" in each.text() for each in both.values()):
            assert one.process.poll() is None and two.process.poll() is None, one.text() + two.text()
            time.sleep(0.01)
        os.kill(both[victim].ranks()[0], signal.SIGKILL)
        assert one.process.wait(120) == 0, one.text()
        assert two.process.wait(120) == 0, two.text()
    assert sum(each.text().count("on 2 ranks with 4 images each") for each in (one, two)) == 2
    assert sum(each.text().count("restarted: continues") for each in (one, two)) == 1
    assert (tmp_path / "run" / paths.DONE).exists()
