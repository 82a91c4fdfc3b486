"""What is typed: paths of any kind, sections as values, sweeps; plain words at once for what cannot be, and nothing left."""

import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from helpers.configs import TINY, compose_config
from helpers.pictures import FOLDER, write_folder
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from sweeps.fake import install

from vgg_nll.cli import arguments
from vgg_nll.config import compose, schema
from vgg_nll.config.rules import RULES
from vgg_nll.errors import ConfigError
from vgg_nll.run_folder.record import RunRecord

Command = Callable[..., int]
Captured = pytest.CaptureFixture[str]
QUICK = (*TINY, "trainer.steps=1", "tracking=none")
ODD_PATHS = (
    *(
        "Pictures (1)",
        "Fotos_ü",
        "写真",
        "it's",
        "a=b",
        "a,b",
        "a b",
        "[x]",
        "{y}",
        "a\\",
        "\\'",
        "$HOME",
        "a:b",
        "#1",
        "?",
        "1e3",
    ),
    *(
        "loss=argmax,seed=0/checkpoints",
        "x'y\"z",
        "@a",
        "~a~",
        "a;b|c&d",
        "true",
        "-m",
        "+",
        "nul",
        "\\\\'",
        "tab\t",
        "range(3)",
    ),
)


@pytest.mark.parametrize("name", ODD_PATHS)
@pytest.mark.parametrize("key", ["data.root", "model.weights", "hydra.run.dir"])
def test_a_path_is_taken_as_it_is_written(key: str, name: str) -> None:
    (word,) = arguments.prepare([f"{key}={name}"])
    assert OverridesParser.create().parse_override(word).value() == name


def test_a_path_that_looks_like_an_interpolation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one, unless there is such a folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA", "from the environment")
    typed = "data.root=${oc.env:DATA}"
    assert compose_config("data=image_folder", *arguments.prepare([typed])).data.root == "from the environment"
    Path("${oc.env:DATA}").mkdir()
    assert compose_config("data=image_folder", *arguments.prepare([typed])).data.root == "${oc.env:DATA}"


@pytest.mark.parametrize("text", ["a\\b", "${seed}", "\\${seed}", "\\\\${seed}", "a${b}\\${c}\\"])
def test_escaped_text_is_taken_literally(text: str) -> None:
    assert OmegaConf.create({"seed": 1, "text": arguments.escaped(text)}).text == text


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    cfg = compose_config(*TINY, f"model.weights={tmp_path}/none.pt")
    with pytest.raises(ConfigError, match=r"^model\.weights: .*/none\.pt: there is no such checkpoint$"):
        arguments.check_paths(cfg)
    (tmp_path / "none.pt").touch()
    arguments.check_paths(cfg)


def test_home_and_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/it's me")
    cfg = compose_config("data=image_folder", *arguments.prepare(["data.root=~/pictures", "name=2026"]))
    assert (cfg.data.root, cfg.name) == ("/home/it's me/pictures", "2026")
    assert arguments.prepare(["data.root='a b'", "model.weights=null"]) == ["data.root='a b'", "model.weights=null"]


def test_options_may_stand_anywhere() -> None:
    assert arguments.prepare(["seed=1", "-m", "loss=a,b"]) == ["seed=1", "loss=a,b", "-m"]
    assert arguments.prepare(["seed=1", "--cfg", "job"]) == ["seed=1", "--cfg", "job"]
    assert arguments.prepare(["--info", "all", "seed=1"]) == ["seed=1", "--info", "all"]
    assert arguments.prepare(["-m", "data.root=a b,c d"]) == ["data.root='a b','c d'", "-m"]


@pytest.mark.slow
def test_odd_folders_of_pictures(command: Command, tmp_path: Path) -> None:
    for steps, name in enumerate(("Pictures (1)", "写真", "it's", "a=b,c"), 1):
        write_folder(tmp_path / name)
        options = ("data.num_workers=0", "model.width=0.0625", "device=cpu", "tracking=none", f"trainer.steps={steps}")
        assert command(*FOLDER, f"data.root={name}", *options, f"hydra.run.dir=run {name}") == 0
        assert (tmp_path / f"run {name}" / "DONE").exists()
        assert RunRecord.open(tmp_path / f"run {name}").config["data"]["root"] == str(
            tmp_path / name
        )  # from any working folder
        shutil.rmtree(tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["loss=null"], "loss=null: takes one name (all_logit, argmax, "),
        (["model=[vgg16,vgg16_bn]"], "takes one name (vgg16, vgg16_bn); several need -m"),
        (["trainer={}"], "trainer={}: takes one name"),
        (["checkpoint=null"], "checkpoint=null: is a section of settings, not one value"),
        (["checkpoint=3"], "checkpoint=3: is a section of settings, not one value"),
        (["data.source=null"], "data.source=null: is a section of settings"),
        (["~trainer.epochs"], "trainer.epochs: is missing"),
        (["~loss"], "~loss: every run needs loss; leave this word out"),
        (["~trainer", "trainer.steps=1"], "~trainer: every run needs trainer; leave this word out"),
        (["~trainer.epochs", "trainer.epochs=1"], "trainer.epochs: cannot be set and taken out at once; leave out the word"),
        (["--config-name", "loss/argmax"], "--config-name: a run is made of configs/train.yaml; <group>=<name> chooses"),
        (["-cp=x"], "-cp=x: a run is made of configs/train.yaml"),
        (
            ["--cfg", "job", "-p", "nope"],
            "-p nope: there is no such part of the config, or it is null; its parts are augment, ",
        ),
        (["--cfg", "job", "--package=trainer.steps"], "--package trainer.steps: there is no such part"),
        (["--cfg", "job", "-p", "hydra"], "-p hydra: there is no such part"),
        (["resume=x", "--cfg", "job", "-p", "nope"], "-p nope: there is no such part"),
        (["--info", "nope"], "--info nope: must be one of all, config, "),
        (["-m", "loss=null,argmax"], "loss=null,argmax: takes names (all_logit, argmax, "),
        (["-m", "-cd", "nowhere", "seed=0,1"], "-cd nowhere: there is no such folder"),
        (["-m", "launcher._target_=os.system", "seed=0,1"], "launcher._target_=os.system: is no class"),
        (["-m", "search._target_=nope", "seed=0,1"], "search._target_=nope: cannot be imported"),
        (["-m", "launcher.gpus=3", "seed=0,1"], "launcher.gpus: belongs to launcher=slurm, which is not chosen"),
        (
            ["optimizer.momentum=0.9"],
            "optimizer.momentum: belongs to optimizer=sgd, which is not chosen; choose that, or leave",
        ),
        (["schedule.decay.milestones=[0.5]"], "schedule.decay.milestones: belongs to schedule=step"),
        (["+hydra.callbacks.x._target_=os.system"], "hydra.callbacks.x._target_: is refused by Hydra"),
        (["seed={a:1}"], "seed={'a': 1}: must be one value"),
        (["optimizer.betas={a:1}"], "optimizer.betas={a:1}: is not a value that fits there"),
        (["+new=1"], "new: there is no such setting: nothing would read it"),
        (["+trainer.new=1"], "trainer.new: there is no such setting"),
        (["=1"], "=1: is not key=value"),
        (["@x=1"], "@x=1: is not key=value"),
        (["seed"], "seed: is not key=value"),
        (["seed=1;2"], "seed=1;2: cannot be read; special characters need quotes inside quotes: 'seed=\"1;2\"'"),
        (["seed=]"], "seed=]: cannot be read"),
        (["seed=0,1"], "seed=0,1: several values need -m; as a list they are seed=[0,1]"),
        (["seed=${nope}"], "seed: Interpolation key 'nope' not found"),
        (["-m", "seed=range(3,0)"], "seed=range(3,0): there is no value in it"),
        (["-m", "seed=range(0,2,0)"], "seed=range(0,2,0): range() arg 3 must not be zero"),
        (["--seed=1"], "--seed=1: there is no such option; write seed=1"),
        (["--multirun=seed"], "--multirun=seed: --multirun takes no value"),
        (["-m", "seed=0,1", "hydra.sweeper.max_batch_size=0"], "is for Hydra's own sweeps; search=optuna searches"),
        (["-x"], "-x: there is no such option; train.py --hydra-help lists the options"),
        (["--experimental-rerun", "x"], "--experimental-rerun: unpickles a file, which can run code; resume=<run folder>"),
        (["name="], "name=: is empty; it takes a name, of a folder in runs/"),
        (["name= "], "name= : is empty; it takes a name"),
        (["-m", "name=a,", "seed=0,1"], "name=a,: is empty; it takes a name"),
        *(
            ([f"name={name}"], f"name={name}: must be the name of a folder in runs/")
            for name in ("~", "~/x", "/x", "a/../../b", ".")
        ),
        (["-m", "name=a/b,../c"], "name=a/b,../c: must be the name of a folder in runs/"),
        (["data._target_=vgg_nll.data.FolderData"], "data.shift_pixels: there is no such setting: nothing"),
        (["--cfg"], "--cfg: needs a value: job, hydra, all"),
        (["--cfg", "nope"], "--cfg nope: must be one of job, hydra, all"),
        (["--resolve"], "--resolve flag can only be used"),
        (["hydra.run.dir="], "hydra.run.dir=: is empty; it takes a folder"),
        (["hydra=null"], "hydra=null: is not for runs, which take of Hydra hydra.run.dir, hydra.sweep.dir, hydra.job_logging"),
        (["hydra.job.chdir=true"], "hydra.job.chdir=true: cannot be set: the paths of a config are of the folder in which"),
        (["hydra.output_subdir=x"], "hydra.output_subdir=x: cannot be set: the run writes .hydra itself"),
        (["hydra.job.name=x"], "hydra.job.name=x: cannot be set: the log of a run is train.log"),
        (["~hydra.callbacks.start_run"], "~hydra.callbacks.start_run: cannot be set: it checks the config"),
        (["~hydra.callbacks"], "~hydra.callbacks: is not for runs"),
        (["hydra/job_logging=disabled"], "hydra/job_logging=disabled: cannot be set: only none can be chosen"),
        (["++hydra.mode=MULTIRUN"], "++hydra.mode=MULTIRUN: cannot be set: -m makes a sweep of it"),
        (["hydra.callbacks={start_run:null}"], "hydra.callbacks={start_run:null}: is not for runs"),
        (
            ["+hydra.job.env_set.A=1"],
            "+hydra.job.env_set.A=1: cannot be set: PyTorch is loaded before; set the variable in the shell",
        ),
        (
            ["loss.weight=[null,1]"],
            "loss.weight=[None, 1]: must be a list of any number, each class=number or a number, at least 0",
        ),
        (["data.mean=[auto,1,1]"], "data.mean=['auto', 1, 1]: must be a list of 3"),
        (
            ["loss._target_=vgg_nll.losses.nll.ArgmaxNLL"],
            "names a file, which may move; its public name is vgg_nll.losses.ArgmaxNLL",
        ),
        (["hydra.runtime.cwd=x"], "hydra.runtime.cwd=x: is not for runs"),
        (["hydra/launcher=basic"], "hydra/launcher=basic: is not for runs"),
        (
            ["hydra.job_logging.root.level=NOPE"],
            "hydra.job_logging.root.level=NOPE: cannot be used: Unknown level: 'NOPE'; leave",
        ),
        (["hydra.hydra_logging.root.level=NOPE"], "hydra.hydra_logging.root.level=NOPE: cannot be used: Unknown level"),
        (["hydra.job_logging.handlers.file.class=nope"], "hydra.job_logging.handlers.file.class=nope: cannot be used: "),
        (["hydra.job_logging.handlers.file.class=os.system"], "file.class=os.system: is refused by Hydra, since"),
        (["hydra.job_logging.version=2"], "hydra.job_logging.version=2: cannot be used: Unsupported version: 2"),
        (["hydra.verbose=3"], "hydra.verbose=3: cannot be used: this is no setting of it"),
        (
            ["hydra.job_logging.handlers.file.filename=no/x.log"],
            "filename=no/x.log: No such file or directory; name a file in a",
        ),
        (["hydra.job_logging.handlers.file.filename=x.log", *TINY, "trainer.batch_size=500"], "trainer.batch_size=500 is more"),
        (
            [*TINY, "trainer.steps=1", "schedule.warmup_epochs=1e9"],
            "schedule.warmup_epochs=1e+09: must not be more than the run",
        ),
        *(
            ([*TINY, f"{part}._target_=os.system"], f"{part}._target_=os.system: is refused by Hydra, since it could run any")
            for part in ("loss", "model", "optimizer", "data.source")
        ),
        ([*TINY, "loss._target_=os"], "loss._target_=os: cannot be used: Expected a callable target"),
        (["lr=0.1"], "lr: there is no such key (did you mean optimizer.lr?)"),
        (["device=tpu"], "device=tpu: must be one of auto, cpu, cuda, cuda:<number>\n"),
        (["device=mps"], "cuda, cuda:<number>; Apple's GPUs have no float64, in which every metric is computed"),
        (
            ["trainer.precision=float16"],
            "one of auto, float32, bfloat16; its small gradients become 0 unless the loss is scaled",
        ),
        (["data.shift_pixels=32"], "data.shift_pixels=32: must be less than data.image_size=32"),
        (["schedule.warmup_epochs=1e6"], "schedule.warmup_epochs=1000000.0: must not be more than trainer.epochs="),
        (["loss.label_smoothing=1.5"], "must be a number, at least 0 and at most 1"),
        (["loss.eps=1e30"], "must be a number, at least 0 and less than 1"),
        (["trainer.clip_norm=1e-300"], "must be a number, at least 1e-06"),
        (["+optimizer.fused=false"], "optimizer.fused: is set by the program; leave it out"),
        (["model.weights=nowhere/it's.pt"], "model.weights: nowhere/it's.pt: there is no such checkpoint"),
        (["data=image_folder", "data.root=~/no where"], "no where: there is no such folder; expected "),
    ],
)
def test_a_line_for_what_cannot_be(command: Command, capfd: Captured, tmp_path: Path, typed: list[str], words: str) -> None:
    """And nothing is left behind."""
    assert command(*typed) == 1
    error = capfd.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert words in error
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_default_experiment_may_be_typed(command: Command, tmp_path: Path) -> None:
    assert command(*QUICK, "experiment=null", "hydra.run.dir=run") == 0
    assert (tmp_path / "run/DONE").exists()


@pytest.mark.slow
def test_a_sweep_over_no_experiment_and_one(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    assert command("-m", *QUICK, "sweep=a", "experiment=null,overfit") == 0
    names = {path.parent.name for path in tmp_path.rglob("runs/sweeps/a/*/DONE")}
    assert names == {"experiment=null", "experiment=overfit"}


@pytest.mark.slow
def test_a_warm_up_that_a_config_makes_longer_than_the_run_is_cut(command: Command, tmp_path: Path) -> None:
    """It is an epoch long, or five, whatever `trainer.steps` makes of it; and a run that was once begun so goes on."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/long.yaml").write_text("# @package _global_\nschedule:\n  warmup_epochs: 5\n")
    assert command(*QUICK, "-cd", str(tmp_path), "experiment=long", "hydra.run.dir=run") == 0
    assert command("resume=run", "trainer.steps=2", "schedule.warmup_epochs=3") == 0


@pytest.mark.slow
def test_a_sweep_without_a_job_that_begins_leaves_nothing(command: Command, tmp_path: Path) -> None:
    assert command("-m", *TINY, "trainer.batch_size=0,5000") == 1
    assert not list(tmp_path.iterdir())
    (tmp_path / "runs").mkdir()  # the user's own
    assert command(*TINY, "trainer.batch_size=5000") == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["runs"]


GROUPS = (*schema.groups(), "experiment", "hydra", "nope")
VALUES = (
    *(
        "0",
        "1",
        "-1",
        "2.5",
        "1e400",
        "nan",
        "inf",
        "null",
        "true",
        "abc",
        "''",
        '""',
        "",
        "[]",
        "[1,2]",
        "{}",
        "{a:1}",
        "[{a:1}]",
    ),
    *(
        "${seed}",
        "${nope}",
        "${oc.env:HOME}",
        "${",
        "$",
        "a b",
        "a=b",
        "1,2",
        "range(3)",
        "range(3,0)",
        "choice(1,2)",
        "glob(*)",
    ),
    *(
        "(",
        ")",
        "]",
        "'",
        '"',
        "\\",
        "\n",
        "\x00"[:0],
        "ü",
        "写真",
        "99999999999999999999",
        "1_000",
        "0x10",
        "~",
        "~/x",
        "/dev/null",
    ),
    *(
        "int(3)",
        "str(3)",
        "shuffle(1,2)",
        "sort(3,1)",
        "interval(0,1)",
        "tag(a,1)",
        "extend_list(1)",
        "???",
        "os.system",
        "a/b/../c",
    ),
)
PREFIXES = ("", "", "", "", "+", "++", "~", "--", "-", "@", "=")
FLAGS = (
    "-m",
    "--multirun",
    "-r",
    "--cfg",
    "--resolve",
    "--package=x",
    "-cd",
    "--config-name=x",
    "--info",
    "--experimental-rerun",
)


def draw_line(draw: random.Random) -> list[str]:
    """Returns random words: keys and groups with values of every type, odd prefixes, options, sweeps, odd paths."""
    keys = [
        *RULES,
        *(f"{group}._target_" for group in GROUPS),
        "trainer",
        "checkpoint",
        "data.source",
        "hydra.run.dir",
        "new",
        "a.b",
    ]
    words = []
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        kind = draw.random()
        if kind < 0.55:
            key, value = draw.choice([key for key in keys if key != "resume_strict"]), draw.choice((*VALUES, *ODD_PATHS))
            words.append(f"{draw.choice(PREFIXES)}{key}{draw.choice(('=',) * 9 + ('',))}{value}")
        elif kind < 0.8:
            group = draw.choice(GROUPS)
            files = [path.stem for path in (compose.CONFIGS / group).glob("*.yaml")] or ["x"]
            value = draw.choice((*files, *VALUES, ",".join(files[:2])))
            words.append(f"{draw.choice(PREFIXES[:6])}{group}{draw.choice(('', '', '', '@x', '@_global_', '/x'))}={value}")
        elif kind < 0.9:
            words.append(draw.choice(FLAGS))
        else:
            words.append("".join(draw.choice("abc=.,:;@~+-${}[]()'\"\\/ \t#") for _ in range(draw.randint(1, 8))))
    return words


def check_lines(command: Command, capfd: Captured, folder: Path, seeds: range) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for seed in seeds:
        line = draw_line(random.Random(seed))
        capfd.readouterr()
        signal.alarm(60)
        code = command("--cfg", "job") if not line else command(*TINY_STEPS, *line)
        signal.alarm(0)
        out, error = capfd.readouterr()
        told = f"{seed}: {line}: {code}: {error[-1500:]}"
        assert "Traceback" not in out + error, told
        assert code in (0, 1), told
        if code == 1 and ": starts" not in out:
            lines = [text for text in error.splitlines() if text.strip()]
            assert 1 <= len(lines) <= 3, told
            assert all(text.startswith(("error: ", "warning: ")) for text in lines), told
            assert not any(word in error for word in JARGON), told
            left = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            assert left == before, (told, set(left) - set(before))
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


JARGON = (
    "Lexer",
    "mismatched input",
    "extraneous input",
    "EOF",
    "DictConfig",
    "object_type",
    "_Deferred",
    "alloc_cpu",
    "in struct",
)
TINY_STEPS = ("experiment=null", *QUICK)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run ends where its training would begin, and so do the jobs of a sweep."""
    monkeypatch.setattr("vgg_nll.run.train.train", lambda *_: 0.5)
    install(monkeypatch)


@pytest.mark.slow
@pytest.mark.usefixtures("no_training")
def test_random_lines(command: Command, capfd: Captured, tmp_path: Path) -> None:
    check_lines(command, capfd, tmp_path, range(25))


@pytest.mark.soak
@pytest.mark.parametrize("first", range(0, 500, 100))
def test_500_random_lines(command: Command, capfd: Captured, tmp_path: Path, first: int) -> None:
    check_lines(command, capfd, tmp_path, range(first, first + 100))


def test_every_value_is_yaml_or_text() -> None:
    """The generator's values are of every type."""
    kinds = set()
    for value in VALUES:
        try:
            kinds.add(type(yaml.safe_load(value)))
        except yaml.YAMLError:
            kinds.add(yaml.YAMLError)
    assert kinds >= {int, float, bool, str, list, dict, type(None)}
    with pytest.raises(ConfigError):
        arguments.prepare(["="])
