"""What is answered to a process that torchrun has started, or seems to have."""

import re
from pathlib import Path

import pytest

from vgg_nll.cli import torchrun
from vgg_nll.distributed import restart
from vgg_nll.errors import ConfigError
from vgg_nll.run_folder import paths

WHOLE = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*WHOLE, "TORCHELASTIC_RUN_ID", "TORCHELASTIC_ERROR_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_what_another_rank_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of Hydra's own settings, but its options; they come last, or argparse would not take the rest."""
    typed = ["seed=1", "hydra.run.dir=x", "+hydra.verbose=true", "hydra.searchpath=[a]", "-cd", "hydra_configs"]
    assert torchrun.of_rank(typed) == typed
    for name, value in WHOLE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout", None)
    assert torchrun.of_rank(typed) == ["hydra=other_rank", "seed=1", "hydra.searchpath=[a]", "-cd", "hydra_configs"]


@pytest.mark.parametrize(
    ("environment", "typed", "message"),
    [
        *(
            ({"WORLD_SIZE": size}, [], f"WORLD_SIZE={size}: is not a number of processes; torchrun sets it, or unset it")
            for size in ("two", "", "0", "-1", "1.5")
        ),
        *(
            (
                WHOLE | {name: value},
                [],
                f"{name}={value}: is not a number from {span}; start with torchrun --nproc-per-node=2 train.py, or unset "
                "WORLD_SIZE",
            )
            for name, value, span in (
                ("RANK", "x", "0 to 1"),
                ("RANK", "2", "0 to 1"),
                ("LOCAL_WORLD_SIZE", "0", "1 to 2"),
                ("LOCAL_WORLD_SIZE", "3", "1 to 2"),
                ("LOCAL_RANK", "2", "0 to 1"),
                ("LOCAL_RANK", "-1", "0 to 1"),
                ("MASTER_PORT", "abc", "1 to 65535"),
                ("MASTER_PORT", "70000", "1 to 65535"),
            )
        ),
        (
            {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"},
            [],
            "WORLD_SIZE=2 without LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT: start with torchrun --nproc-per-node=2 "
            "train.py, or unset WORLD_SIZE",
        ),
        (
            WHOLE,
            ["-m", "seed=0,1"],
            "-m: torchrun trains one network on several processes; start a sweep with python train.py -m, which gives every "
            "job a GPU of its own",
        ),
    ],
)
def test_refused(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], typed: list[str], message: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        torchrun.check(typed)
    assert torchrun.rank() >= 0  # whoever shows the error asks for it


def test_a_sweep_of_one_process_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its jobs would take each other for a restart."""
    torchrun.check(["-m", "seed=0,1"])
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(ConfigError, match=r"^-m: torchrun trains one network"):
        torchrun.check(["-m", "seed=0,1"])


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1"}, WHOLE])
def test_allowed(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    torchrun.check(["loss=argmax"])
    assert torchrun.rank() == (1 if environment is WHOLE else 0)


def test_a_restart_continues_the_run_if_it_has_a_checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Once there is one, and with what was typed for the resume alone; the first start leaves the note."""
    for name, value in (WHOLE | {"RANK": "0", "LOCAL_RANK": "0"}).items():
        monkeypatch.setenv(name, value)
    errors, folder = tmp_path / "launch/attempt_0/0/error.json", tmp_path / "run"
    errors.parent.mkdir(parents=True)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(errors))
    typed = ["loss=argmax", "resume_strict=false"]
    restart.remember_folder(folder)
    assert torchrun.continued(typed) == typed
    (folder / "checkpoints").mkdir(parents=True)
    (folder / paths.LAST).touch()
    assert torchrun.continued(typed) == ["resume_strict=false", f"resume={folder}"]
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE")
    assert torchrun.continued(typed) == typed


def test_other_ranks_give_the_first_one_time_to_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    torchrun.wait_for_first()
    assert not slept
    for name, value in WHOLE.items():
        monkeypatch.setenv(name, value)
    torchrun.wait_for_first()
    assert slept == [torchrun.SECONDS_OF_FIRST]
