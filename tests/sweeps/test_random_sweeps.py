"""Random words after -m end in jobs, or in lines; never in a traceback, and a refused command leaves nothing."""

import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.test_arguments import JARGON, VALUES, draw_line
from sweeps.fake import FakeLauncher, begin, finish, install

from vgg_nll.config import compose, schema
from vgg_nll.config.rules import RULES
from vgg_nll.run_folder import paths

Command = Callable[..., int]
SWEPT = (
    *("seed=0,1", "seed=range(3)", "loss=argmax,all_logit", "loss=glob(*)", "optimizer.lr=1e-3,3e-3", "optimizer=adamw,sgd"),
    *("optimizer.lr=interval(1e-4,1e-2)", "optimizer.lr=tag(log,interval(1e-4,1e-2))", "optimizer.lr=tag(log,interval(0,1))"),
    *(
        "data.folds=3",
        "data.fold=0,1,2",
        "data.fold=0,5",
        "data=digits,synthetic",
        "data.root=a,b",
        "seed=0,0",
        "seed=",
        "seed=,",
    ),
    *("model.width=0.5,x", "trainer.epochs=choice(1,2,3)", "trainer.batch_size=4,0", "name=a,b/c,'d e'", "device=cpu,auto"),
    *("experiment=overfit,null", "tracking=none,tensorboard", "schedule=cosine,nope", "+loss.x=1,2", "~tracking", "seed=-1,1"),
)
OWN = (
    *(
        "sweep=s",
        "sweep=s",
        "sweep=a/b",
        "sweep=..",
        "sweep=",
        "sweep=null",
        "sweep=a,b",
        "sweep=ü",
        "sweep={a:1}",
        "sweep.name=x",
    ),
    *("sweep.prune=median", "sweep.prune=x", "sweep.fail_fast=true", "launcher=local", "launcher=slurm", "launcher=nope"),
    *("launcher.jobs=2", "launcher.jobs=auto", "launcher.jobs=0", "launcher.jobs=-1", "launcher.jobs=1e9", "launcher.jobs=[1]"),
    *("search=grid", "search=optuna", "search.trials=2", "search.trials=0", "search.space=[]", "search.space=[seed=0,1]"),
    *("hydra.sweep.dir=s", "hydra.sweep.dir=", "hydra.sweep.dir=/dev/null", "hydra/launcher=basic", "hydra.sweeper.x=1"),
    *("resume=s", "hydra.run.dir=s", "hydra.sweep.subdir=x", "-cd", "--cfg", "hydra.verbose=true"),
)


def draw_sweep(draw: random.Random) -> list[str]:
    """Returns random words of a sweep: its own settings, swept keys, and what a single run may get."""
    words = [draw.choice(SWEPT) for _ in range(draw.choice((0, 1, 2, 2, 3)))]
    words += [draw.choice(OWN) for _ in range(draw.choice((0, 0, 1, 1, 2)))]
    if draw.random() < 0.2:
        words += draw_line(draw)
    if draw.random() < 0.2:
        key = draw.choice([key for key in RULES if key.partition(".")[0] in schema.OF_SWEEPS])
        words.append(f"{key}={draw.choice(VALUES)}")
    draw.shuffle(words)
    return words


def check_sweeps(command: Command, fake: FakeLauncher, capfd: pytest.CaptureFixture[str], folder: Path, seeds: range) -> int:
    """Returns how many of the lines started jobs."""
    started = 0
    for seed in seeds:
        draw = random.Random(seed)
        words = draw_sweep(draw)
        ends = [draw.choice((finish, finish, fail, kill)) for _ in range(3)]
        fake.act = lambda place, _, ends=ends: ends[len(fake.calls) % 3](place)  # type: ignore[misc]
        fake.calls.clear()
        signal.alarm(60)
        code = command("-m", *words)
        signal.alarm(0)
        out, error = capfd.readouterr()
        told = f"{seed}: {words}: {code}: {error[-1500:]}"
        assert code in (0, 1), told
        assert "Traceback" not in out + error and not any(word in error for word in JARGON), told
        lines = [line for line in error.splitlines() if line.strip()]
        assert all(line.startswith(("error: ", "warning: ", "continue with: ")) for line in lines), told
        if code == 1 and not fake.calls:
            assert 1 <= len(lines) <= 11, told
            assert not list(folder.rglob("*")), (told, list(folder.rglob("*")))
        started += bool(fake.calls)
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return started


def fail(folder: Path) -> int:
    (folder / paths.FAILED).write_text("TrainingError: no\n")
    return 1


def kill(folder: Path) -> int:
    begin(folder)
    return -9


@pytest.mark.slow
def test_random_sweeps(
    command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_sweeps(command, install(monkeypatch), capfd, tmp_path, range(1000, 1030)) >= 3


@pytest.mark.soak
@pytest.mark.parametrize("first", range(0, 400, 100))
def test_400_random_sweeps(
    first: int, command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_sweeps(command, install(monkeypatch), capfd, tmp_path, range(first, first + 100)) >= 10


def test_every_choice_is_drawn() -> None:
    names = {f"{group}={path.stem}" for group in ("launcher", "search") for path in (compose.CONFIGS / group).glob("*.yaml")}
    assert names <= set(OWN)
