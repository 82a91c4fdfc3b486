"""Searches with Optuna: what is chosen, what is told, and that a search that was stopped continues."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from sweeps.fake import FakeLauncher, finish, install, table

from vgg_nll.config.compose import composed
from vgg_nll.config.sweep_overrides import parse
from vgg_nll.errors import ConfigError
from vgg_nll.run_folder import paths
from vgg_nll.sweeps.optuna_search import OptunaSearch
from vgg_nll.sweeps.status import FAILED, FINISHED, PRUNED

pytest.importorskip("optuna")
Command = Callable[..., int]
SPACE = list(composed(["search=optuna"], "sweep").search.space)
LINE = ("-m", "sweep=s", "search=optuna", "data=synthetic")


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> FakeLauncher:
    return install(monkeypatch)


def value(overrides: Sequence[str], key: str) -> str:
    (found,) = [word.partition("=")[2] for word in overrides if word.startswith(f"{key}=")]
    return found


def accuracy(words: list[str]) -> float:
    """The highest one is at a learning rate of 1e-3."""
    return 1 / (1 + abs(float(value(words, "optimizer.lr")) - 1e-3) * 1e3)


def test_the_space(tmp_path: Path) -> None:
    """What is typed takes the place of what is configured."""
    (tmp_path / ".sweep").mkdir()
    search = OptunaSearch(
        parse(["seed=3", "loss=sigmoid", "optimizer.lr=interval(0.5,1)", "model.width=0.25,0.5"]),
        tmp_path,
        trials=20,
        sampler_seed=0,
        space=SPACE,
    )
    assert set(search.swept) == {"model.width", "optimizer.lr", "optimizer.weight_decay", "schedule.warmup_epochs"}
    while (overrides := search.ask()) is not None:
        assert overrides[:2] == ("seed=3", "loss=sigmoid")
        assert 0.5 <= float(value(overrides, "optimizer.lr")) <= 1
        assert value(overrides, "model.width") in ("0.25", "0.5")
        assert 1e-5 <= float(value(overrides, "optimizer.weight_decay")) <= 0.1


@pytest.mark.parametrize(
    ("words", "space", "expected"),
    [
        (["loss=argmax"], [], "nothing to choose"),
        (["optimizer.lr=tag(log,interval(0,1))"], [], "needs a lower and an upper bound above 0"),
        (["optimizer.lr=interval(1,1)"], [], "needs a lower and an upper bound"),
    ],
)
def test_bad_spaces(tmp_path: Path, words: list[str], space: list[str], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        OptunaSearch(parse(words), tmp_path, trials=2, sampler_seed=0, space=space)


@pytest.mark.slow
def test_a_search_that_is_cut_short_equals_the_whole_one(command: Command, launcher: FakeLauncher, tmp_path: Path) -> None:
    """The same trials in the same order; a job that was stopped is continued; nothing finished is repeated."""
    launcher.act = lambda folder, words: finish(folder, accuracy(words))
    assert command(*LINE, "search.trials=14") == 0
    whole = launcher.names()
    assert len(set(whole)) == 14
    launcher.calls.clear()

    def stopping(folder: Path, words: list[str]) -> int:
        return -9 if len(launcher.calls) % 5 == 0 else finish(folder, accuracy(words))

    launcher.act = stopping
    line = [word.replace("sweep=s", "sweep=t") for word in LINE]
    assert command(*line, "search.trials=7") == 1
    assert len(launcher.names()) == 7
    launcher.act = lambda folder, words: finish(folder, accuracy(words))
    assert command(*line, "search.trials=14") == 0
    names = launcher.names()
    assert [name for k, name in enumerate(names) if name not in names[:k]][:7] == whole[:7]
    assert len(names) == 15 and len(set(names)) == 14
    assert launcher.calls[7][0].startswith("data=synthetic")  # it had no checkpoint: it starts again


@pytest.mark.slow
def test_trials_that_fail_or_are_pruned_do_not_end_the_search(command: Command, launcher: FakeLauncher, tmp_path: Path) -> None:
    def act(folder: Path, words: list[str]) -> int:
        number = len(launcher.calls)
        if number % 3 == 0:
            (folder / paths.FAILED).write_text("TrainingError: loss nan\n")
            return 1
        if number % 3 == 1:
            (folder / paths.PRUNED).write_text("worse\n")
            return 0
        return finish(folder, accuracy(words))

    launcher.act = act
    assert command(*LINE, "search.trials=9") == 1
    states = [row["state"] for row in table(tmp_path / "runs/sweeps/s")]
    assert states == [PRUNED, FINISHED, FAILED] * 3
    launcher.act = lambda folder, words: finish(folder, accuracy(words))
    launcher.calls.clear()
    assert command(*LINE, "search.trials=9") == 0
    assert len(launcher.calls) == 3  # those that failed


@pytest.mark.slow
def test_it_finds_the_best_learning_rate(command: Command, launcher: FakeLauncher, tmp_path: Path) -> None:
    """The last ten trials lie nearer to the optimum than the first ten, which are random."""
    launcher.act = lambda folder, words: finish(folder, accuracy(words))
    assert command(*LINE, "search.trials=40") == 0
    found = [accuracy(call) for call in launcher.calls]
    assert sum(found[-10:]) / 10 > sum(found[:10]) / 10


@pytest.mark.slow
def test_other_choices_than_before(
    command: Command, launcher: FakeLauncher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher.act = lambda folder, words: finish(folder, accuracy(words))
    assert command(*LINE, "search.trials=2", "loss=argmax,all_logit") == 0
    assert command(*LINE, "search.trials=3", "loss=argmax,sigmoid") == 1
    error = capsys.readouterr().err
    assert "take another sweep name" in error and "Traceback" not in error
    assert command(*LINE, "search.trials=3", "loss=argmax,all_logit", "optimizer.lr=tag(log,interval(0.1,0.2))") == 0
    assert len(launcher.calls) == 3


@pytest.mark.slow
def test_optuna_is_optional(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["optuna"] = sys.modules["submitit"] = None
from vgg_nll.cli import launch
sys.argv[1:] = ["-m", "seed=0,1", sys.argv[1]]
launch.main()
"""
    for word, expected in (
        ("search=optuna", "error: search=optuna: Optuna is not installed: pip install optuna\n"),
        ("launcher=slurm", "error: launcher=slurm: submitit is not installed: pip install submitit\n"),
    ):
        done = subprocess.run([sys.executable, "-c", code, word], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (1, expected)
    assert not list(tmp_path.iterdir())
