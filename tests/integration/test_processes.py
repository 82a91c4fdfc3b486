"""Runs as processes: signals, kills, a disk that is really full."""

import functools
import itertools
import random
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.configs import TINY
from helpers.pictures import FOLDER, write_folder
from helpers.processes import Run
from helpers.runs import outcome

from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.run_folder import paths

RUN = (
    *TINY,
    "model.width=0.25",  # so that a checkpoint takes long enough to be killed in
    *("data.shift_pixels=2", "trainer.steps=12", "trainer.validate_every_epochs=0.5", "checkpoint.every_steps=1"),
    *("optimizer=sgd", "optimizer.momentum=0", "optimizer.nesterov=false", "optimizer.lr=0.01", "hydra.run.dir=run"),
)
RESUME = "resume=run"
TO = ("hydra.run.dir=run", "checkpoint.every_steps=1")
ENDLESS = (*RUN, "trainer.steps=100000", "trainer.validate_every_epochs=10000")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """The result of an undisturbed run."""
    folder = tmp_path_factory.mktemp("whole")
    run = Run(folder, *RUN)
    assert run.end() == 0, run.text()
    return outcome(folder / "run")


def resume_to_the_end(folder: Path, whole: tuple[object, ...]) -> None:
    run = Run(folder, RESUME)
    assert run.end() == 0, run.text()
    assert outcome(folder / "run") == whole
    assert not list((folder / "run/checkpoints").glob(".*")), "a half-written file was left"


def unfinished(folder: Path) -> list[Path]:
    return list((folder / "run/checkpoints").glob(".*.tmp"))


def validated(run: Run) -> bool:
    return "  val loss" in run.text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "moment"),
    [(signal.SIGTERM, "training"), (signal.SIGINT, "saving"), (signal.SIGHUP, "training")],
)
def test_a_signal_stops_a_run_and_loses_nothing(
    tmp_path: Path, whole: tuple[object, ...], number: signal.Signals, moment: str
) -> None:
    run = Run(tmp_path, *RUN)
    run.until(lambda: validated(run) if moment == "training" else unfinished(tmp_path))
    run.send(number)
    assert run.end() == 128 + number, run.text()
    step = checkpoint_file.load(tmp_path / "run/checkpoints/last.pt")["step"]
    assert step < 12, "the run came to its end"
    assert f"stopped by {number.name}: after step {step} of 12, which is saved; resume={tmp_path}/run continues\n" in run.text()
    assert "Traceback" not in run.text()
    assert not (tmp_path / "run/DONE").exists()
    resume_to_the_end(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_stops_a_run_that_has_workers(tmp_path: Path, number: signal.Signals) -> None:
    """As schedulers and terminals send it: the processes that read pictures get it, too, and may end before the run does."""
    write_folder(tmp_path / "pictures")
    options = (*FOLDER, "data.root=pictures", "data.num_workers=2", "model.width=0.0625", "device=cpu", "tracking=none")
    run = Run(tmp_path, *options, "trainer.steps=100000", "trainer.validate_every_epochs=10000", *TO, own_group=True)
    run.until(lambda: paths.has_checkpoint(tmp_path / "run") and len(run.group()) > 2)  # with what starts the two workers
    run.send_to_group(number)
    assert run.end() == 128 + number, run.text()
    step = checkpoint_file.load(tmp_path / "run/checkpoints/last.pt")["step"]
    assert f"stopped by {number.name}: after step {step} of 100000, which is saved" in run.text()
    assert "Traceback" not in run.text() and "error" not in run.text()
    again = Run(tmp_path, RESUME, f"trainer.steps={step + 2}", "data.num_workers=0")
    assert again.end() == 0, again.text()


@pytest.mark.slow
def test_sigusr1_saves_and_continues(tmp_path: Path) -> None:
    run = Run(tmp_path, *ENDLESS, "checkpoint.every_steps=100000", "tracking=none")
    last = tmp_path / "run/checkpoints/last.pt"
    run.until(lambda: "untrained loss" in run.text())
    steps: list[int] = []
    for _ in range(2):
        run.send(signal.SIGUSR1)
        run.until(lambda: last.exists() and checkpoint_file.load(last)["step"] not in steps)
        steps.append(checkpoint_file.load(last)["step"])
    run.send(signal.SIGTERM)
    assert run.end() == 143
    assert 0 < steps[0] < steps[1] <= checkpoint_file.load(last)["step"]


@pytest.mark.slow
def test_a_second_sigint_stops_at_once(tmp_path: Path) -> None:
    """Within a step of 24 parts of milliseconds each, between which Python sees signals."""
    run = Run(tmp_path, *ENDLESS, "trainer.batch_size=24", "trainer.accumulation_steps=24", "tracking=none")
    run.until(lambda: paths.has_checkpoint(tmp_path / "run"))
    while run.is_alive():  # two signals before Python sees the first one would count as one
        run.send(signal.SIGINT)
        time.sleep(0.01)
    assert run.end() == 130
    assert "stopped by" not in run.text()
    assert checkpoint_file.load_newest(tmp_path / "run")[0]["step"] >= 1


@pytest.mark.slow
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """Files of 1 MB at most: no checkpoint (4 MB) fits. The run ends with its numbers, and with an error."""
    run = Run(tmp_path, *RUN, "trainer.steps=2", file_limit=1 << 20)
    assert run.end() == 1
    assert run.text().count("was not saved, training continues") >= 2
    assert "best of validation: step 2" in run.text()
    assert "run/checkpoints: no checkpoint could be written: " in run.text()
    assert "Traceback" not in run.text()
    assert not unfinished(tmp_path)
    assert "CheckpointError" in (tmp_path / "run/FAILED").read_text()


@pytest.mark.slow
def test_killed_at_every_moment(tmp_path: Path, whole: tuple[object, ...]) -> None:
    """`kill -9` of one run, again and again: the checkpoints are valid, and the result is that of the undisturbed run."""
    before: list[Path] = []
    moments: dict[str, Callable[[Run], object]] = {
        "starting": lambda _: (tmp_path / "run/.hydra").exists(),
        "training": has_begun,
        "saved": lambda _: (tmp_path / "run" / paths.PREVIOUS).exists(),
        "saving again": lambda _: set(unfinished(tmp_path)) - set(before),  # the kill before may have left one
    }
    for moment, has_come in moments.items():
        before[:] = unfinished(tmp_path)
        run = Run(tmp_path, *start(tmp_path))
        run.until(functools.partial(has_come, run))
        run.send(signal.SIGKILL)
        assert run.end() == -signal.SIGKILL, f"{moment}: {run.text()}"
        assert_valid(tmp_path, moment)
    assert "resumed" in run.text()
    assert 0 < checkpoint_file.load_newest(tmp_path / "run")[0]["step"] < 12
    resume_to_the_end(tmp_path, whole)


@pytest.mark.soak
def test_killed_at_random_moments(tmp_path: Path, whole: tuple[object, ...]) -> None:
    """A hundred times. If a run comes to its end, another one follows."""
    kills, seed = 100, random.randrange(1 << 30)
    draw = random.Random(seed)
    moments = {"starting": 0, "training": 0, "saving": 0}
    for number in itertools.count():
        folder = tmp_path / str(number)
        folder.mkdir()
        while not (folder / "run/DONE").exists():
            run = Run(folder, *start(folder))
            if sum(moments.values()) < kills:
                kill(run, draw)
            code = run.end()
            assert code in (0, -signal.SIGKILL), f"seed {seed}: {run.text()}"
            if code != 0:
                moments["saving" if unfinished(folder) else "training" if has_begun(run) else "starting"] += 1
            assert_valid(folder, f"seed {seed}")
        assert outcome(folder / "run") == whole, f"seed {seed}"
        shutil.rmtree(folder)
        if sum(moments.values()) >= kills:
            break
    print(f"seed {seed}: {number + 1} runs came to the result of the undisturbed one, after kills {moments}")


@pytest.mark.parametrize(
    "device",
    [
        pytest.param("cpu", marks=pytest.mark.soak),
        pytest.param(
            "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
        ),
    ],
)
def test_a_killed_run_on_each_device(tmp_path: Path, device: str) -> None:
    """With `trainer.deterministic=true` and bfloat16, a run that was killed and resumed twice equals the undisturbed one."""
    arguments = (*RUN, f"device={device}", "trainer.deterministic=true", "trainer.precision=bfloat16", "trainer.steps=60")
    results = []
    for name, kills in (("whole", 0), ("killed", 2)):
        (tmp_path / name).mkdir()
        run = Run(tmp_path / name, *arguments)
        for number in range(kills):
            run.until(functools.partial(is_at, run, f"epoch {3 * number + 2}  val loss"))
            run.send(signal.SIGKILL)
            assert run.end() == -signal.SIGKILL
            run = Run(tmp_path / name, RESUME)
        assert run.end() == 0, run.text()
        results.append(outcome(tmp_path / name / "run"))
    assert results[0] == results[1]


def start(folder: Path) -> tuple[str, ...]:
    """The arguments that begin the run of a folder, or continue it if it has a checkpoint."""
    return (RESUME,) if paths.has_checkpoint(folder / "run") else RUN


def assert_valid(folder: Path, when: str) -> None:
    if paths.has_checkpoint(folder / "run"):
        _, damage = checkpoint_file.load_newest(folder / "run")
        assert not damage or "there is no such" in damage, f"{when}: {damage}"  # killed between two renames


def is_at(run: Run, words: str) -> bool:
    return words in run.text()


def has_begun(run: Run) -> bool:
    return re.search("resumed|untrained", run.text()) is not None


def kill(run: Run, draw: random.Random) -> None:
    """Kills a run within a second of its start, or, four times in five, of its first step."""
    if draw.random() < 0.8:
        run.until(lambda: has_begun(run))
    time.sleep(draw.uniform(0, 1.0))
    run.send(signal.SIGKILL)
