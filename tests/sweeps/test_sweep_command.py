"""`python train.py -m`, with jobs that end at once: which are run, continued, repeated, left alone; exit codes."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sweeps.fake import FakeLauncher, begin, finish, install, table

from vgg_nll.run_folder import paths
from vgg_nll.sweeps import record
from vgg_nll.sweeps.status import FAILED, FINISHED, INTERRUPTED, PRUNED, WAITING

Command = Callable[..., int]
SWEEP = Path("runs/sweeps/s")
KEPT = "checkpoint.keep=best"  # a finished job is never continued


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> FakeLauncher:
    """Takes the place of the local launcher; its jobs finish at once."""
    return install(monkeypatch)


@pytest.mark.slow
def test_states_stay_if_they_are_asked_for(command: Command, launcher: FakeLauncher) -> None:
    assert command("-m", "sweep=s", "data=synthetic", "checkpoint.keep=all", "seed=0,1") == 0
    assert [word for word in launcher.calls[0] if word.startswith("checkpoint")] == ["checkpoint.keep=all"]


@pytest.mark.slow
def test_each_job_once_then_never_again(
    command: Command, launcher: FakeLauncher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ("-m", "sweep=s", "data=synthetic", "loss=argmax,all_logit", "seed=0,1")
    assert command(*line) == 0
    names = [f"loss={loss},seed={seed}" for loss in ("argmax", "all_logit") for seed in (0, 1)]
    assert launcher.names() == names
    assert launcher.calls[0] == ["data=synthetic", "loss=argmax", "seed=0", f"hydra.run.dir={SWEEP / names[0]}", KEPT]
    printed = capsys.readouterr().out
    assert "sweep s: 4 jobs, at once; in runs/sweeps/s\n" in printed
    assert (
        "[1/4] loss=argmax,seed=0: starts\n[1/4] loss=argmax,seed=0: finished after 0 s, validation accuracy 0.5000\n"
        in printed
    )
    assert "4 finished; all in runs/sweeps/s/sweep.csv\n" in printed
    assert printed.count("tensorboard --logdir runs/sweeps/s --samples_per_plugin images=100\nhttp://localhost:6006/?") == 2
    assert command(*line) == 0
    assert len(launcher.calls) == 4
    assert "[4/4] loss=all_logit,seed=1: finished before, validation accuracy 0.5000\n" in capsys.readouterr().out
    assert command(*line[:-1], "seed=0,1,2") == 0
    assert launcher.names()[4:] == ["loss=argmax,seed=2", "loss=all_logit,seed=2"]
    rows = table(tmp_path / SWEEP)
    assert [row["job"] for row in rows] == [*names, "loss=argmax,seed=2", "loss=all_logit,seed=2"]
    assert rows[0] == {
        "job": names[0],
        "overrides": "data=synthetic loss=argmax seed=0",
        "state": FINISHED,
        "objective": "0.5",
        "seconds": "1.5",
        "error": "",
        "test/accuracy": "0.25",
        "test/ece": "0.25",
        "val/accuracy": "0.5",
    }


def test_without_a_name(command: Command, launcher: FakeLauncher, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A time is the name, and the command that is printed continues that sweep."""
    assert command("-m", "seed=0,1") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("continue with: ")]
    (folder,) = (tmp_path / "runs/sweeps").iterdir()
    assert line.endswith(f"train.py -m sweep={folder.name} seed=0,1")
    assert command(*line.split("train.py ")[1].split()) == 0
    assert len(launcher.calls) == 2


def test_a_folder_of_ones_own(command: Command, launcher: FakeLauncher, tmp_path: Path) -> None:
    for _ in range(2):
        assert command("-m", "seed=0,1", "hydra.sweep.dir=here/s") == 0
    assert [folder.parent for folder in map(Path, launcher.names())] == [Path()] * 2
    assert (tmp_path / "here/s" / record.RECORD).exists()


@pytest.mark.slow
def test_what_is_not_finished_is_continued_or_repeated(command: Command, launcher: FakeLauncher, tmp_path: Path) -> None:
    def act(folder: Path, arguments: list[str]) -> int:
        seed = int(folder.name.removeprefix("seed="))
        if seed == 0:
            (folder / paths.FAILED).write_text("TrainingError: step 3: loss nan\n")  # before its first checkpoint
            return 1
        if seed == 1:
            begin(folder)
            (folder / paths.FAILED).write_text("TrainingError: out of memory\n")
            return 1
        if seed == 2:
            begin(folder)
            return -9
        if seed == 3:
            (folder / paths.PRUNED).write_text("epoch 2: worse\n")
            return 0
        return finish(folder)

    launcher.act = act
    line = ("-m", "sweep=s", "seed=0,1,2,3,4", "device=cpu")
    assert command(*line) == 1
    rows = {row["job"]: (row["state"], row["error"]) for row in table(tmp_path / SWEEP)}
    assert rows == {
        "seed=0": (FAILED, "TrainingError: step 3: loss nan"),
        "seed=1": (FAILED, "TrainingError: out of memory"),
        "seed=2": (INTERRUPTED, "killed by SIGKILL"),
        "seed=3": (PRUNED, "epoch 2: worse"),
        "seed=4": (FINISHED, ""),
    }
    launcher.act = lambda folder, _: finish(folder)
    launcher.calls.clear()
    assert command(*line) == 0
    places = [f"hydra.run.dir={SWEEP}/seed=0", f"resume={SWEEP}/seed=1", f"resume={SWEEP}/seed=2"]
    assert [call for call in launcher.calls if places[0] in call] == [["seed=0", "device=cpu", places[0], KEPT]]
    assert launcher.calls[1:] == [[place, "device=cpu"] for place in places[1:]]
    assert not list((tmp_path / SWEEP).glob("*/FAILED"))


def test_errors_before_the_first_step_are_kept(
    command: Command,
    launcher: FakeLauncher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A run that does not begin removes its folder: what it said stays in sweep.csv, its log and on the terminal."""

    def start(arguments: list[str], errors: Path) -> object:
        errors.write_text("error: loss.eps=2: too large\nerror: seed: no\n")
        (tmp_path / SWEEP / "seed=0").rmdir()
        return type("Ended", (), {"exit_code": lambda _: 1, "stop": lambda _: None})()

    monkeypatch.setattr(launcher, "start", start)
    assert command("-m", "sweep=s", "seed=0") == 1
    assert table(tmp_path / SWEEP)[0]["error"] == "loss.eps=2: too large; seed: no"
    assert (tmp_path / SWEEP / "seed=0" / paths.LOG).read_text() == "error: loss.eps=2: too large\nerror: seed: no\n"
    printed = capsys.readouterr()
    assert "seed=0: failed after 0 s: loss.eps=2: too large; seed: no" in printed.out
    assert "error: seed=0: loss.eps=2: too large; seed: no\n" in printed.err
    assert "continue with: " in printed.err


def test_cells_that_a_spreadsheet_would_run(command: Command, launcher: FakeLauncher, tmp_path: Path) -> None:
    def act(folder: Path, _: list[str]) -> int:
        (folder / paths.FAILED).write_text("=cmd|' /C calc'!A1\n")
        return 1

    launcher.act = act
    assert command("-m", "sweep=s", "+loss.x=1,2") == 1
    row, _ = table(tmp_path / SWEEP)
    assert (row["overrides"], row["error"]) == ("'+loss.x=1", "'=cmd|' /C calc'!A1")


def test_fail_fast(command: Command, launcher: FakeLauncher, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first failure stops the other jobs, which keep their state; no new one starts."""

    def act(folder: Path, _: list[str]) -> int | None:
        begin(folder)
        if folder.name == "seed=1":
            (folder / paths.FAILED).write_text("TrainingError: diverged\n")
            return 1
        return None

    launcher.act = act
    assert command("-m", "sweep=s", "seed=0,1,2,3", "launcher.jobs=2", "sweep.fail_fast=true") == 1
    assert [row["state"] for row in table(tmp_path / SWEEP)] == [INTERRUPTED, FAILED, WAITING, WAITING]
    assert launcher.names() == ["seed=0", "seed=1"] and launcher.jobs[0].stopped
    assert "sweep.fail_fast=true: 1 jobs save their state" in capsys.readouterr().out


def test_a_launcher_that_hides_how_a_job_was_stopped(command: Command, launcher: FakeLauncher, tmp_path: Path) -> None:
    """Slurm's may say 0: a job without DONE that was asked to stop is interrupted, not failed."""

    def act(folder: Path, _: list[str]) -> int:
        begin(folder)
        signal.raise_signal(signal.SIGTERM)
        return 0

    launcher.act = act
    assert command("-m", "sweep=s", "seed=0,1") == 128 + signal.SIGTERM
    assert [row["state"] for row in table(tmp_path / SWEEP)] == [INTERRUPTED, WAITING]


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal that is not ignored: nohup, and the & of a shell, ignore some, and a process that they start leaves it so."""
    before = signal.signal(request.param, signal.default_int_handler)
    yield request.param
    signal.signal(request.param, before)


def test_a_signal_stops_all_jobs(
    command: Command, launcher: FakeLauncher, tmp_path: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    def act(folder: Path, _: list[str]) -> int | None:
        begin(folder)
        if len(launcher.calls) == 2:
            signal.raise_signal(number)
        return None

    launcher.act = act
    assert command("-m", "sweep=s", "seed=0,1,2", "launcher.jobs=2") == 128 + number
    assert all(job.stopped for job in launcher.jobs) and len(launcher.jobs) == 2
    assert [row["state"] for row in table(tmp_path / SWEEP)] == [INTERRUPTED, INTERRUPTED, WAITING]
    assert "2 interrupted, 1 not started" in capsys.readouterr().out


@pytest.mark.slow
def test_jobs_of_another_process_are_awaited(command: Command, launcher: FakeLauncher, tmp_path: Path) -> None:
    """A job that is claimed elsewhere is left alone; once it is finished there, its result counts; if not, it is run here."""
    assert command("-m", "sweep=s", "seed=0,1", "sweep.prune=median") == 0
    assert launcher.calls[0][-1] == f"trainer.prune_against={tmp_path / SWEEP}"
    sweep = record.read(tmp_path / SWEEP)
    elsewhere, lost = sweep.jobs.values()
    for job in (elsewhere, lost):
        for name in (paths.DONE, paths.METRICS):
            (sweep.folder_of(job) / name).unlink()
    held = [sweep.claim(job) for job in (elsewhere, lost)]
    for claim in held:
        claim.__enter__()
    launcher.calls.clear()

    def act(folder: Path, _: list[str]) -> int:
        if folder.name == "seed=2":  # meanwhile, elsewhere
            finish(sweep.folder_of(elsewhere), 0.75)
            for claim in held:
                claim.__exit__(None, None, None)
        return finish(folder)

    launcher.act = act
    assert command("-m", "sweep=s", "seed=0,1,2") == 0
    assert launcher.names() == ["seed=2", lost.name]
    assert [row["objective"] for row in table(tmp_path / SWEEP)] == ["0.75", "0.5", "0.5"]


BAD = [
    (["sweep=a/b", "seed=0,1"], "sweep=a/b: must be a name: letters, digits, and . _ - = +, no / and at most 100 of them"),
    (["sweep=..", "seed=0,1"], "sweep=..: must be a name"),
    (["sweep=", "seed=0,1"], "sweep=: must be a name"),
    (["sweep=file", "seed=0,1"], "runs/sweeps/file: is not the folder of a sweep (there is no sweep.json)"),
    (["hydra.sweep.dir=.", "seed=0,1"], "is not the folder of a sweep"),
    (["seed=0,1", "loss=argmax,argmx"], "loss=argmx: there is no such loss; there are all_logit, argmax, "),
    (["seed=0,1", "loss=argmax,argmx"], "(in 2 of 4 jobs, as in: seed=0 loss=argmx)"),
    (
        ["seed=0,1", "optimizer.lr=0.1,-1"],
        "optimizer.lr=-1: must be a number, more than 0 (in 2 of 4 jobs, as in: seed=0 optim",
    ),
    (["seed=0,1", "trainer.epoch=3"], "trainer.epoch: there is no such key (did you mean trainer.epochs?)"),
    (["seed=0,1", "data=image_folder", "data.root=none"], "data.root=none: there is no such folder"),
    (["seed=0,1", "data=image_folder"], "data.root=???: is required"),
    (["launcher.jobs=0", "seed=0,1"], "launcher.jobs=0: must be an integer, at least 1, or auto"),
    (["launcher.jobs=two", "seed=0,1"], "launcher.jobs=two: must be an integer"),
    (["launcher=slrm", "seed=0,1"], "launcher=slrm: there is no such launcher; there are local, slurm (did you mean slurm?)"),
    (["+launcher.x=1", "seed=0,1"], "launcher.x: there is no such setting"),
    (["launcher.x=1", "seed=0,1"], "launcher.x: there is no such key"),
    (["search=optun", "seed=0,1"], "search=optun: there is no such search; there are grid, optuna"),
    (["sweep.prune=mean", "seed=0,1"], "sweep.prune=mean: must be one of median, null"),
    (["sweep.fail_fast=3", "seed=0,1"], "sweep.fail_fast=3: must be true or false"),
    (["sweep.nme=x", "seed=0,1"], "sweep.nme: there is no such key (did you mean sweep.name?)"),
    (["optimizer.lr=interval(0,1)"], "optimizer.lr=interval(0,1): needs search=optuna"),
    (["hydra/launcher=joblib", "seed=0,1"], "is for Hydra's own sweeps; launcher=local launcher.jobs=<number>"),
    (["hydra.sweeper.max_batch_size=1", "seed=0,1"], "is for Hydra's own sweeps; search=optuna searches"),
    (["hydra.run.dir=x", "seed=0,1"], "hydra.sweep.dir=<folder> is that of a sweep"),
    (["resume=x", "seed=0,1"], "goes with one run; leave out -m; a sweep continues with -m sweep=<name>"),
    (["-cn", "other", "seed=0,1"], "-cn: a run is made of configs/train.yaml"),
    (["seed=range(100000)"], "these values make more than 10,000 jobs"),
    (["data.fold=0,1"], "data.fold=1: needs data.folds=<number of folds>"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("words", "expected"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input(
    command: Command,
    launcher: FakeLauncher,
    words: list[str],
    expected: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line, before the first job starts, and nothing left."""
    (tmp_path / "runs/sweeps").mkdir(parents=True)
    (tmp_path / "runs/sweeps/file").touch()
    before = sorted(tmp_path.rglob("*"))
    assert command("-m", *words) == 1
    error = capsys.readouterr().err
    assert expected in error and error.startswith("error: ") and "Traceback" not in error
    assert launcher.calls == []
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("word", ["sweep=x", "sweep.prune=median", "launcher.jobs=2", "search=optuna"])
def test_settings_of_sweeps_need_a_sweep(command: Command, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(word) == 1
    assert f"error: {word}: is a setting of sweeps, which begin with -m" in capsys.readouterr().err


@pytest.mark.slow
def test_another_base_is_refused_and_changes_nothing(
    command: Command, launcher: FakeLauncher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("-m", "sweep=s", "seed=0,1") == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert command("-m", "sweep=s", "seed=0,1", "trainer.epochs=2") == 1
    assert "error: sweep=s: was made with trainer.epochs=6 (now 2); restore it, sweep over both" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_sweep_prints_its_config(command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("-m", "sweep=s", "--cfg", "job", "trainer.epochs=9") == 0
    assert "epochs: 9" in capsys.readouterr().out and not (tmp_path / "runs").exists()


def test_configs_of_ones_own(command: Command, launcher: FakeLauncher, tmp_path: Path) -> None:
    (tmp_path / "mine/loss").mkdir(parents=True)
    (tmp_path / "mine/loss/other.yaml").write_text("_target_: vgg_nll.losses.ArgmaxNLL\n")
    assert command("-m", "sweep=s", "-cd", "mine", "loss=other,argmax") == 0
    assert launcher.names() == ["loss=other", "loss=argmax"]
    assert all(f"hydra.searchpath=['file://{tmp_path}/mine']" in call for call in launcher.calls)


def test_a_class_of_ones_own_is_typed_again(command: Command, launcher: FakeLauncher, tmp_path: Path) -> None:
    """A record alone may not name it, so a job that continues gets the word; what the record holds is not repeated."""

    def stop(folder: Path, arguments: list[str]) -> int:
        begin(folder)
        return -9

    launcher.act = stop
    own = "loss._target_=torch.nn.CrossEntropyLoss"
    line = ("-m", "sweep=s", "seed=0", "loss=argmax", own, "optimizer.lr=1e-3")
    assert command(*line) == 1
    launcher.act = lambda folder, _: finish(folder)
    assert command(*line) == 0
    assert launcher.calls[-1] == [f"resume={SWEEP}/seed=0", own]
