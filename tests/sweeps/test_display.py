"""What a sweep shows while it runs: on a terminal, a live line per job and a bar; on a pipe, plain lines."""

import io
import sys
from pathlib import Path

import pytest

from vgg_nll.run_folder import paths
from vgg_nll.sweeps.display import Display
from vgg_nll.sweeps.job_names import Job
from vgg_nll.sweeps.status import FAILED, FINISHED, INTERRUPTED, Status

A, B, C = (Job(f"seed={seed}", (f"seed={seed}",)) for seed in range(3))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    display = Display(3, 2)
    display.started(A, resumed=False)
    display.started(B, resumed=True)
    display.refresh({A: tmp_path, B: tmp_path})
    display.ended(B, Status(FAILED, "TrainingError: no\x1b[2J"), 61.0)
    display.ended(A, Status(FINISHED, objective=0.5), 3.0)
    display.known(C, Status(FINISHED, objective=0.25))
    display.close()
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "[1/3] seed=0: starts",
        "[2/3] seed=1: continues",
        "[2/3] seed=1: failed after 61 s: TrainingError: no\\x1b[2J",
        "[1/3] seed=0: finished after 3 s, validation accuracy 0.5000",
        "[3/3] seed=2: finished before, validation accuracy 0.2500",
    ]
    assert captured.err == ""


def test_a_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The last line of each running job's log, and a bar that counts jobs; a job that has no log yet loads."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    for name, text in (("a", "step 1/9  loss 1.5\nstep 2/9  loss 0.5\n\n"), ("b", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / paths.LOG).write_text(text)
    display = Display(3, 2)
    display.started(A, resumed=False)
    display.refresh({A: tmp_path / "a", B: tmp_path / "b"})
    shown = terminal.getvalue()
    assert "[1/3] seed=0: step 2/9  loss 0.5" in shown and "loss 1.5" not in shown
    assert "[2/3] seed=1: loads" in shown
    assert "0/3 jobs" in shown
    display.ended(A, Status(INTERRUPTED, "killed by SIGKILL"), 1.0)
    display.refresh({B: tmp_path / "none"})
    display.close()
    assert "1/3 jobs" in terminal.getvalue() and "1 not finished" in terminal.getvalue()


def test_long_names_and_many_jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No line is wider than the terminal, and no more lines than it has."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "10")
    (tmp_path / paths.LOG).write_text("x" * 3000)
    jobs = [Job(f"{'name' * 30}{k}", ()) for k in range(50)]
    display = Display(50, 50)
    display.refresh(dict.fromkeys(jobs, tmp_path))
    display.close()
    lines = [line for line in terminal.getvalue().replace("\x1b[A", "\n").replace("\r", "\n").split("\n") if "name" in line]
    assert 1 <= len({line.split("]")[0] for line in lines}) <= 6
    assert max(len(line.strip()) for line in lines) <= 80
