"""What a user mistyped or cannot have: one line per error, exit code 1, nothing left behind."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.processes import run_script

from vgg_nll.cli import error_messages
from vgg_nll.errors import LostRankError, TrainingError

Command = Callable[..., int]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["loss=argmx"], ["error: loss=argmx: there is no such loss; there are all_logit, argmax, argmax_prediction, "]),
        (["loss=argmx"], ["(did you mean argmax?)"]),
        (["model=resnet"], ["error: model=resnet: there is no such model; there are vgg16, vgg16_bn"]),
        (["data=svhn"], ["error: data=svhn: there is no such data; there are cifar10, cifar100, csv, digits, "]),
        (["trainer.epoch=3"], ["error: trainer.epoch: there is no such key (did you mean trainer.epochs?)"]),
        (["optimiser.lr=1"], ["error: optimiser.lr: there is no such key (did you mean optimizer.lr?)"]),
        (["los=argmax"], ["error: los: there is no such key (did you mean loss?)"]),
        (["data=synthetic", "data.num_class=3"], ["(did you mean data.num_classes?)"]),
        (["trainer.batch_size=0"], ["error: trainer.batch_size=0: must be an integer, at least 1"]),
        (
            ["trainer.batch_size=0", "optimizer.lr=-1", "trainer.epochs=abc"],
            [
                "error: trainer.batch_size=0: ",
                "error: optimizer.lr=-1: ",
                "error: trainer.epochs=abc: must be a number, more than 0",
            ],
        ),
        (["resume=nowhere"], ["error: resume=nowhere: there is no such folder"]),
        (["resume=."], ["error: resume=.: .: holds no run (there is no run.json)"]),
        (["resume="], ["error: resume=: is empty; it takes a run folder"]),
        (["-m", "resume=x", "seed=0,1"], ["error: resume=x: goes with one run; leave out -m"]),
        (["data=image_folder"], ["error: data.root=???: is required"]),
        (
            ["data=image_folder", "data.root=nowhere"],
            ["error: data.root=nowhere: there is no such folder; expected nowhere/train/"],
        ),
        (["trainer.batch_size=5000"], ["error: trainer.batch_size=5000 is more than the 1258 training images: lower it"]),
        (["+loss.gamma=2"], ["error: loss.gamma: there is no such setting: nothing would read it"]),
        (["loss"], ["error: ", "loss"]),
        (["hydra.run.dir=/proc/x/y"], ["error: /proc/x", "hydra.run.dir=<folder> takes another run folder"]),
    ],
)
def test_bad_input(
    command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], expected: list[str]
) -> None:
    assert command(*arguments) == 1
    error = capfd.readouterr().err
    assert all(words in error for words in expected), error
    assert all(line.startswith("error: ") for line in error.splitlines()), error
    assert len(error.splitlines()) == sum(words.startswith("error: ") for words in expected) or len(error.splitlines()) == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "something was left behind"


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["hydra.run.dir=run"], "; hydra.run.dir=<folder> takes another run folder"),
        (["-m", "seed=0,1"], "; hydra.sweep.dir=<folder> takes another folder"),
        (["resume=run"], ""),
    ],
)
def test_what_helps_where_the_disk_refuses(
    command: Command, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], advice: str
) -> None:
    """A sweep takes no hydra.run.dir, nor does a run that continues."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "there")

    monkeypatch.setattr("vgg_nll.cli.sweep._load", refuse)
    monkeypatch.setattr("vgg_nll.cli.resume.prepare", refuse)
    assert command(*arguments) == 1
    assert capfd.readouterr().err == f"error: there: Permission denied{advice}\n"


def test_a_rank_that_has_lost_another_says_so_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """torchrun ends it soon, and rank 0 may have been killed."""
    for name, value in {"RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    error_messages.show(LostRankError("stopped: another rank has ended"))
    assert not slept
    error_messages.show(TrainingError("what all ranks say"))
    assert slept
    assert capsys.readouterr().err == "rank 1: error: stopped: another rank has ended\nrank 1: error: what all ranks say\n"


def test_cuda_where_there_is_none(command: Command, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert command("device=cuda") == 1
    assert "error: device=cuda: PyTorch sees 0 CUDA devices here; use device=cpu or device=auto" in capfd.readouterr().err


def test_a_config_that_is_not_valid_yaml(command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text("# @package _global_\ntrainer: [1, 2\n")
    assert command("--config-dir", str(tmp_path), "experiment=mine") == 1
    error = capfd.readouterr().err
    assert re.fullmatch(r"error: a config is not valid YAML: .* in .*experiment/mine\.yaml.*, line \d+, column \d+\n", error), (
        error
    )


def test_full_error_shows_the_traceback(tmp_path: Path) -> None:
    """In a process of its own, from another working directory; without the variable there is none (test_bad_input)."""
    done = run_script(tmp_path, "train.py", "trainer.batch_size=0", HYDRA_FULL_ERROR="1")
    assert "Traceback" in done.stderr
    assert "ConfigError" in done.stderr
    assert done.returncode == 1
