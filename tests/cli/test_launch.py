"""`python train.py`: loads PyTorch late, begins no folder without a run, and runs sweeps."""

import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
import torch
from helpers.configs import ROOT, TINY, compose_config
from helpers.processes import run_script
from omegaconf import OmegaConf

from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.cli.launch import StartRun
from vgg_nll.config.compose import composed
from vgg_nll.errors import ConfigError
from vgg_nll.run_folder.record import RunRecord
from vgg_nll.training.trainer import Trainer

Command = Callable[..., int]
SCRIPTS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py"))
QUICK = (*TINY, "tracking=none")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["--help"], 0, "checkpoint.every_steps=500        besides one"),
        (["--cfg", "job", "optimizer.lr=7"], 0, "lr: 7"),
        (["-sc", "query=bash"], 0, "loss=argmax_prediction"),
        (["trainer.epoch=3"], 1, "(did you mean trainer.epochs?)"),
        (["loss=argmx", "hydra.run.dir=new"], 1, "(did you mean argmax?)"),
        (["seed=3"], 99, ""),
        (["-cd", ".", "seed=3"], 99, ""),
        (
            ["hydra.mode=MULTIRUN", "seed=0,x"],
            1,
            "error: seed=x: must be an integer, at least 0 (in 1 of 2 jobs, as in: seed=x)",
        ),
        (["-m", "seed=0,1"], 1, ""),
        (["resume=runs/a", "optimizer.momentum=0.5"], 1, "resume=runs/a: there is no such folder"),
        (["trainer.batch_size=0", "seed=x"], 1, "error: trainer.batch_size=0: must be an integer, at least 1"),
        (["data=image_folder", "data.root=none"], 1, "data.root=none: there is no such folder; expected none/train/"),
        (["model.weights=none.pt"], 1, "model.weights: none.pt: there is no such checkpoint"),
        (["device=tpu"], 1, "device=tpu: must be one of"),
    ],
)
def test_answers_without_pytorch(tmp_path: Path, arguments: list[str], code: int, expected: str) -> None:
    """In a second; to load PyTorch would take several, and here ends the process with code 99."""
    for name in ("torch", "torchvision", "matplotlib", "tensorboard"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(99)")
    typed = {"COMP_LINE": "python train.py loss=ar", "COMP_POINT": "23"}  # for the completion
    done = run_script(tmp_path, "train.py", *arguments, PYTHONPATH=str(tmp_path), PYTHONDONTWRITEBYTECODE="1", **typed)
    assert done.returncode == code, done.stderr
    assert expected in done.stdout + done.stderr
    assert {path.suffix for path in tmp_path.iterdir()} == {".py"}  # no folder of a run that did not begin


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        *((f"{script} --help", 0, "usage: ") for script in SCRIPTS),
        *((f"{script} --nope", 2, "usage: ") for script in SCRIPTS),
        *((script, 2, "the following arguments are required") for script in ("evaluate", "predict", "benchmark")),
        ("benchmark step --help", 0, "Measures images/s of a training step"),
        ("benchmark step --repeats 0", 2, "argument --repeats: 0: must be an integer, at least 1"),
        ("benchmark losses --sizes 3xx", 2, "3xx: must be two integers, as in 500x400"),
        ("benchmark step --out .", 2, ".: must be a file in a folder that exists"),
        ("benchmark step --out none/x.json", 2, "none/x.json: must be a file in a folder that exists"),
        ("benchmark checkpointing --folder none", 2, "none: there is no such folder"),
        ("evaluate none", 1, "error: none: holds no run (there is no run.json)"),
        ("evaluate run --split tset", 2, "invalid choice: 'tset'"),
        ("evaluate run --batch-size 0", 2, "0: must be an integer, at least 1"),
        ("evaluate run --temperature hot", 1, "error: --temperature hot: must be a number from 0.01 to 100"),
        ("evaluate run --device tpu", 1, "error: --device tpu: must be one of auto, cpu, cuda, cuda:<number>"),
        ("predict none x.png", 1, "error: none: holds no run"),
        ("predict run", 2, "name pictures, or folders of them"),
        ("predict run x.png", 1, "error: x.png: there is no such file or folder"),
        ("predict run . --temperature 0", 1, "error: --temperature 0: must be a number from 0.01 to 100"),
        ("predict run . --top 0", 2, "0: must be an integer, at least 1"),
        ("compare none", 1, "error: none: there is no such folder"),
    ],
)
def test_scripts_answer_without_pytorch(tmp_path: Path, arguments: str, code: int, expected: str) -> None:
    for name in ("torch", "torchvision", "matplotlib", "tensorboard"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(99)")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").touch()
    script, *others = arguments.split()
    done = run_script(tmp_path, f"scripts/{script}.py", *others, PYTHONPATH=str(tmp_path))
    assert done.returncode == code, done.stderr
    assert expected in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("-m", "seed=0,1")])
def test_a_broken_library_is_one_line(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so: cannot open shared object file')")
    done = run_script(tmp_path, "train.py", *options, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == (
        "loading PyTorch ...\nerror: a library cannot be loaded (libcudart.so: cannot open shared object file); "
        "install the project again: pip install -e .\n"
    )
    assert {path.name for path in tmp_path.iterdir()} <= {"torch.py", "__pycache__"}


@pytest.mark.slow
def test_an_interrupt_while_pytorch_loads_leaves_nothing(tmp_path: Path) -> None:
    """A Ctrl-C in these seconds ends a run without a folder and without a traceback."""
    (tmp_path / "torch.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)")
    for options in ((), ("hydra.run.dir=new",)):
        done = run_script(tmp_path, "train.py", *options, *TINY, PYTHONPATH=str(tmp_path))
        assert (done.returncode, done.stderr) == (-signal.SIGINT, "loading PyTorch ...\n")
    assert {path.name for path in tmp_path.iterdir()} <= {"torch.py", "__pycache__"}


def test_the_installed_command_prints_the_config(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("vgg-nll")
    done = subprocess.run([program, "--cfg", "job", "optimizer.lr=7"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    printed = OmegaConf.create(done.stdout)
    assert OmegaConf.is_dict(printed)
    assert printed == compose_config("optimizer.lr=7")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("inside", ["our code", "a library that makes an error of it"])
def test_a_signal_before_the_first_step_leaves_nothing(
    command: Command,
    number: signal.Signals,
    inside: str,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.getsignal(number)

    def make_data(*_: object) -> None:
        try:
            signal.raise_signal(number)
        except BaseException as end:
            raise end if inside == "our code" else ImportError("initialization failed") from end

    monkeypatch.setattr("vgg_nll.run.build.make_data", make_data)
    assert command(*TINY, "hydra.run.dir=run") == 128 + number
    assert capfd.readouterr().err == f"stopped by {number.name}: before the first step\n"
    assert not (tmp_path / "run").exists()
    assert signal.getsignal(number) is before


def test_what_an_earlier_start_left_stays_there(command: Command, tmp_path: Path) -> None:
    """The log, curves and config of a run killed before its first checkpoint; a start with a bad setting removes none."""
    (tmp_path / "run").mkdir()
    for name in ("train.log", "events.out.tfevents.1", "run.json"):
        (tmp_path / "run" / name).write_text("of the other run")
    assert command(*TINY, "data.num_classes=1", "hydra.run.dir=run") == 1
    for name in ("train.log", "events.out.tfevents.1", "run.json"):
        assert (tmp_path / "run" / name).read_text().startswith("of the other run")


@pytest.mark.slow
@pytest.mark.parametrize("left", ["checkpoints", "metrics.json"])
def test_a_refused_start_changes_nothing(
    command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path, left: str
) -> None:
    """Also if only Hydra knows the folder's name, and if only the numbers of a run are left."""
    assert command(*QUICK, "trainer.steps=1", "hydra.run.dir=${name}", "name=run") == 0
    if left == "metrics.json":
        shutil.rmtree(tmp_path / "run/checkpoints")
        (tmp_path / "run/DONE").unlink()
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    for more in ((), ("data.num_classes=1",)):
        assert command(*TINY, "seed=5", "loss=all_logit", "hydra.run.dir=${name}", "name=run", *more) == 1
        assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    words = "holds a run already" if left == "checkpoints" else "holds the results of a run without checkpoints: remove it"
    assert words in capfd.readouterr().err


def test_other_ranks_look_at_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Rank 0 alone refuses one that holds a run: by the time that another rank looks, rank 0 may have begun there."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/metrics.json").write_text("{}")
    cfg = composed(TINY, with_hydra=True)
    OmegaConf.update(cfg, "hydra.run.dir", str(tmp_path / "run"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    StartRun()._check(cfg)
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match="holds results of a run whose record"):
        StartRun()._check(cfg)


@pytest.mark.slow
def test_a_callback_may_change_the_config(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the check: what it sets is checked again, trained, and recorded."""
    (tmp_path / "my_callback.py").write_text(
        "from hydra.experimental.callback import Callback\n"
        "class Seed(Callback):\n    def on_run_start(self, config, **_):\n        config.seed = 7\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert command(*QUICK, "trainer.steps=1", "+hydra.callbacks.mine._target_=my_callback.Seed", "hydra.run.dir=run") == 0
    assert RunRecord.open(tmp_path / "run").config["seed"] == 7


def test_what_was_there_stays_there(command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """After a bad setting, only what the run put into the folder is removed; a folder with a run in it stays as it is."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert command("hydra.run.dir=mine", "trainer.batch_size=0") == 1
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    (tmp_path / "mine/checkpoints").mkdir()
    checkpoint_file.save(tmp_path / "mine/checkpoints/last.pt", {"step": 1})
    assert command("hydra.run.dir=mine", *TINY) == 1
    assert "error: hydra.run.dir=mine: holds results of a run whose record, run.json, is gone" in capfd.readouterr().err
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"thesis.txt", "checkpoints"}


def test_two_runs_in_one_second_have_two_folders() -> None:
    """The default folder is a time, down to the microsecond."""
    text = (ROOT / "configs/hydra/runs.yaml").read_text()
    (form,) = re.findall(r"^run:\n  dir: .*\$\{now:([^}]+)\}", text, re.MULTILINE)
    one = datetime(2026, 1, 1, 12, 0, 0, 1)
    assert one.strftime(form) != one.replace(microsecond=2).strftime(form)


def test_a_log_that_cannot_be_written(command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "run/train.log").mkdir(parents=True)
    assert command(*TINY, "hydra.run.dir=run") == 1
    assert capfd.readouterr().err == f"error: {tmp_path}/run/train.log: Is a directory\n"


def test_a_working_folder_that_reads_as_an_interpolation(
    command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run would go somewhere else: into the home folder, here."""
    home, here = tmp_path / "home", tmp_path / "${oc.env:HOME}"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    assert command(*QUICK, "trainer.steps=1", "hydra.run.dir=run") == 1
    assert "Hydra takes ${ in a folder's name for an interpolation; start in another folder" in capfd.readouterr().err
    assert not list(home.iterdir()) and not list(here.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("gone", ["removed", "renamed"])
def test_a_folder_that_goes_away(
    command: Command, capfd: pytest.CaptureFixture[str], tmp_path: Path, gone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer._step

    def step(self: Trainer, *args: torch.Tensor) -> None:
        original(self, *args)
        if self.state.step == 2:
            shutil.rmtree(self.saver.folder) if gone == "removed" else self.saver.folder.rename(tmp_path / "elsewhere")

    monkeypatch.setattr(Trainer, "_step", step)
    assert command(*TINY, "trainer.steps=4", "checkpoint.every_steps=1", "hydra.run.dir=run") == 1
    error = capfd.readouterr().err
    assert error == f"error: step 3: {tmp_path}/run was removed or renamed; nothing can be saved there\n"
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.rglob("DONE"))


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["2>&-", pytest.param(">&-", marks=pytest.mark.soak), "0<&- >&- 2>&-"])
def test_closed_standard_streams(tmp_path: Path, closed: str) -> None:
    """The next files that are opened would get their numbers, and what is printed."""
    line = [sys.executable, str(ROOT / "train.py"), *QUICK, "trainer.steps=2", "hydra.run.dir=run"]
    assert subprocess.run(f"{shlex.join(line)} {closed}", shell=True, cwd=tmp_path).returncode == 0
    assert (tmp_path / "run/DONE").exists()
    assert checkpoint_file.load(tmp_path / "run/checkpoints/last.pt")["step"] == 2
    assert subprocess.run(f"{shlex.join(line)} {closed}", shell=True, cwd=tmp_path).returncode == 1
