"""A run folder from somebody else: whatever its files say, no code runs, nothing outside changes, and the error is one line."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.configs import TINY, compose_config
from helpers.pictures import FOLDER, write_folder
from helpers.runs import Bomb, edit_config, edit_record, train_config
from PIL import Image

import vgg_nll
from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.comparison import runs
from vgg_nll.run_folder import checked_json, paths
from vgg_nll.run_folder.record import RunRecord

Use = Callable[[str], tuple[int, str, str]]
COMMANDS = ("predict", "evaluate", "resume")


def first(name: str) -> list[Any]:
    """All commands for a parameter; but this one, the others are slow tests: they share the code that reads."""
    return [pytest.param(other, marks=[] if other == name else pytest.mark.slow) for other in COMMANDS]


HANG = 20  # seconds


@pytest.fixture
def theirs(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, in the working folder, as `theirs`."""
    return Path(shutil.copytree(finished, tmp_path / "theirs"))


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that appears if the module `evil` is imported, or if its function is called."""
    trace = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(
        f"import pathlib\npathlib.Path({str(trace)!r}).touch()\ndef run(*_, **__):\n    pathlib.Path({str(trace)!r}).touch()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield trace
    sys.modules.pop("evil", None)


@pytest.fixture
def use(
    command: Callable[..., int],
    script: Callable[..., int],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Use]:
    """Name of a command -> its exit code, stdout and stderr, for the folder `theirs`. A command that hangs is a failure."""
    Image.new("RGB", (40, 40)).save(tmp_path / "picture.png")

    def call(name: str) -> tuple[int, str, str]:
        capfd.readouterr()
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # `command` leaves it at 1
        signal.alarm(HANG)
        if name == "resume":
            code = command("resume=theirs", "trainer.epochs=3")
        elif name == "predict":
            code = script("predict", "theirs", "picture.png", "--device", "cpu")
        else:
            code = script(name, "theirs", *(["--device", "cpu"] if name == "evaluate" else []))
        signal.alarm(0)
        return code, *capfd.readouterr()

    yield call
    signal.alarm(0)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def is_one_line(error: str) -> bool:
    return error.startswith("error: ") and error.count("\n") == 1 and error.rstrip("\n").isprintable()


CALL = "${oc.create:{_target_: evil.run}}"
VALUES: dict[str, dict[str, Any]] = {
    "an interpolation": {"model.dropout": CALL},
    "an interpolation in a text": {"name": f"x{CALL}"},
    "an interpolation in a list": {"optimizer.betas": [0.9, CALL]},
    "an environment variable": {"name": "${oc.env:SECRET}"},
    "an escaped one": {"data.root": r"\${oc.env:SECRET}"},
    "a class": {"loss._target_": "evil.run"},
    "a function of numpy": {"loss._target_": "numpy.savetxt"},
    "a class that configs name elsewhere": {"loss._target_": "torch.optim.AdamW"},
    "a class in a value": {"model.dropout": {"_target_": "evil.run"}},
    "a class in a list": {"optimizer.betas": [{"_target_": "evil.run"}]},
    "a class in an added value": {"loss.helper": {"inner": {"_target_": "evil.run"}}},
    "a class in an added list": {"loss.helpers": [[{"_target_": "evil.run"}]]},
    "a source": {"data.source._target_": "evil.run"},
    "a list as a class": {"loss._target_": ["evil.run"]},
    "arguments by position": {"loss._args_": ["x"]},
    "another mode of Hydra": {"loss._mode_": "x", "loss._recursive_": True},
    "Hydra's own section": {"hydra": {"callbacks": {"x": {"_target_": "evil.run"}}}},
    "a list of defaults": {"defaults": ["evil"]},
    "an unknown section": {"evil": {"_target_": "evil.run"}},
    "an unknown key": {"trainer.evil": 1},
    "a package": {"tracking@hydra": {"callbacks": {"x": {"_target_": "evil.run"}}}},
    "no section": {"model": 3},
    "null for a section": {"model": None},
    "a section for a number": {"seed": {"x": 1}},
    "a missing section": {"optimizer": ...},
    "a missing key": {"trainer.batch_size": ...},
    "a missing class": {"loss._target_": ...},
    "a number of another type": {"trainer.batch_size": "many"},
    "a huge number": {"trainer.batch_size": 10**19},
    "a long text": {"name": "x" * 1_000_000},
}


@pytest.mark.parametrize("name", first("resume"))
@pytest.mark.parametrize("changes", VALUES.values(), ids=VALUES)
def test_a_config_is_values_only(
    theirs: Path, use: Use, trap: Path, name: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checksum is right: whoever makes a folder can make that, too."""
    monkeypatch.setenv("SECRET", "of-this-machine")
    edit_config(theirs, **changes)
    before = snapshot(theirs)
    code, out, error = use(name)
    if name == "predict" and not any(key.startswith("model") for key in changes):  # all that a network is built from
        assert code == 0, error
    else:
        assert (code, out) == (1, "")
        assert is_one_line(error), error
        assert "theirs/run.json: " in error
    assert "of-this-machine" not in error
    assert not trap.exists()
    assert snapshot(theirs) == before


TEXTS = {
    "a deep nesting": '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "nine megabytes": '{"a": "' + "x" * (9 << 20) + '"}',
    "a huge number": '{"a": 1' + "0" * 10_000 + "}",
    "not JSON": "seed: !!python/object/apply:evil.run []",
    "no dict": "[1]",
    "nothing": "",
    "zeros": "\0" * 100,
}


@pytest.mark.parametrize("name", first("predict"))
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_record_is_plain_json(theirs: Path, use: Use, trap: Path, name: str, text: str) -> None:
    (theirs / paths.RUN).write_text(text)
    code, out, error = use(name)
    assert (code, out) == (1, "")
    assert is_one_line(error), error[:1000]
    assert "theirs/run.json: is damaged: " in error
    assert not trap.exists()


@pytest.mark.slow
def test_the_copies_for_people_are_read_by_nothing(
    theirs: Path, use: Use, trap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of-this-machine")
    (tmp_path / "evil.yaml").write_text("# @package hydra.callbacks\nx:\n  _target_: evil.run\n")
    lines = (
        *("loss._target_=evil.run", "+loss.helper={_target_: evil.run}", "hydra/launcher=evil", "--config-dir=evil"),
        *("experiment=../../evil", "+tracking@hydra.callbacks.x=tensorboard", f"model.dropout='{CALL}'"),
        *("+zz='${oc.env:SECRET}'", "~hydra.sweeper", "+hydra.callbacks.x._target_=evil.run"),
    )
    (theirs / paths.OVERRIDES).write_text("".join(f"- {json.dumps(line)}\n" for line in lines))
    (theirs / paths.CONFIG).write_text("loss:\n  _target_: evil.run\n")
    for name in COMMANDS:
        code, _, error = use(name)
        assert code == 0, error
    assert not trap.exists()
    assert not any(b"of-this-machine" in content for content in snapshot(theirs).values())


@pytest.mark.slow
def test_a_secret_typed_as_an_interpolation_is_the_persons_own(
    command: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is typed is resolved once; the folder keeps the value, so that the run is the same elsewhere."""
    monkeypatch.setenv("NAME", "first")
    assert command(*TINY, "name=${oc.env:NAME}", "tracking=none", "trainer.steps=1", "hydra.run.dir=run") == 0
    monkeypatch.setenv("NAME", "other")
    assert command("resume=run", "trainer.steps=2") == 0
    for file in (".hydra/config.yaml", "run.json"):
        text = (tmp_path / "run" / file).read_text()
        assert "first" in text and "other" not in text.partition("\n")[2]


@pytest.mark.parametrize("name", first("predict"))
@pytest.mark.parametrize("file", ["best", "last", "previous"])
def test_code_in_a_checkpoint(theirs: Path, use: Use, trap: Path, name: str, file: str) -> None:
    for path in theirs.glob("checkpoints/*.pt"):
        run_id = checkpoint_file.load(path)["run"]
        torch.save({"format_version": 1, "run": run_id, "model": Bomb(trap), "step": 12}, path)
    code, _, error = use(name)
    assert code == 1
    assert is_one_line(error), error
    assert not trap.exists()


LINKS = (
    *("train.log", "metrics.json", "DONE", ".lock", "projector_config.pbtxt", "events.out.tfevents.9", "temperature.json"),
    *("checkpoints/last.pt", "checkpoints/best.pt", "checkpoints/.last.pt.1.tmp", ".hydra/config.yaml"),
    *("evaluation", "evaluation/reliability_diagram.png", "5", "profile", "checkpoints", ".hydra", "18"),
)


@pytest.mark.parametrize("name", first("resume"))
@pytest.mark.parametrize("place", LINKS)
def test_links_are_refused(theirs: Path, use: Use, tmp_path: Path, name: str, place: str) -> None:
    """What would be written, or deleted, through them is somewhere else."""
    outside, path = tmp_path / "outside", theirs / place
    for file in ("thesis.txt", "last.pt", "tensors.tsv", "reliability_diagram.png"):
        outside.mkdir(exist_ok=True)
        (outside / file).write_text("years of work")
    path.parent.mkdir(exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(outside if not path.suffix and place not in ("DONE", ".lock") else outside / "thesis.txt")
    before = snapshot(outside)
    code, _, error = use(name)
    assert code == 1
    assert is_one_line(error), error
    assert "is a link" in error or "holds no run" in error
    assert snapshot(outside) == before


@pytest.mark.parametrize("name", first("predict"))
@pytest.mark.parametrize("place", ["run.json", "checkpoints/best.pt", "checkpoints/last.pt", "5"])
def test_pipes_do_not_wait(theirs: Path, use: Use, name: str, place: str) -> None:
    (theirs / place).unlink(missing_ok=True)
    os.mkfifo(theirs / place)
    code, _, error = use(name)
    assert code == 1
    assert is_one_line(error), error


def test_a_new_run_does_not_write_through_links(command: Callable[..., int], tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/checkpoints").symlink_to(tmp_path / "outside")
    for folder in ("run", "./run/", str(tmp_path / "run")):
        assert command(*TINY, "trainer.steps=1", f"hydra.run.dir={folder}") == 1
    assert not list((tmp_path / "outside").iterdir())
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoints"]


ODD_CLASSES = (os.fsdecode(b"caf\xe9"), "\x1b[2J\x9bred", "two\nlines", "=HYPERLINK(1)", "$x^{$", "_hidden", "\u202eback")


@pytest.mark.slow
def test_odd_class_names(
    tmp_path: Path, command: Callable[..., int], script: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    """Bytes that are no text, terminal commands, newlines, formulas: trained, evaluated, shown on one line each."""
    for split in ("train", "val", "test"):
        write_folder(tmp_path / "one", (split,), classes=1)
        for name in ODD_CLASSES:
            shutil.copytree(tmp_path / "one" / split / "zero", tmp_path / "data" / split / name)
    options = ("data.num_workers=0", "model.width=0.0625", "device=cpu", "trainer.steps=2")
    assert command(*FOLDER, f"data.root={tmp_path / 'data'}", *options, "hydra.run.dir=run") == 0
    assert command("resume=run", "trainer.steps=3") == 0
    assert script("evaluate", "run", "--device", "cpu") == 0
    picture = tmp_path / "\x1b[31m\n=1+1.png"
    shutil.copy(next(tmp_path.glob("one/test/zero/*.png")), picture)
    assert script("predict", "run", picture, "--top", "7", "--device", "cpu") == 0
    out, error = capfd.readouterr()
    assert all(line.isprintable() for line in (out + error).splitlines())
    assert out.splitlines()[-2].split()[-1] == "margin"  # the head of the table, then one line
    assert script("predict", "run", picture, "--top", "7", "--csv", "--device", "cpu") == 0
    table = capfd.readouterr().out
    assert all(line.isprintable() for line in table.splitlines())
    assert len(table.splitlines()) == 1 + 7
    assert ",'=HYPERLINK(1)," in table
    assert script("compare", ".") == 0
    assert all(line.isprintable() for line in capfd.readouterr().out.splitlines())


@pytest.mark.slow
def test_a_bad_folder_does_not_stop_a_comparison(
    theirs: Path, finished: Path, script: Callable[..., int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever its metrics are, the others are compared; with a right checksum, they may be anything that JSON can say."""
    good = shutil.copytree(finished, tmp_path / "mine")
    sound = checked_json.read(good / paths.METRICS)
    run_id = RunRecord.open(good).run_id
    nested: Any = 1
    for _ in range(200):
        nested = [nested]
    contents: list[dict[str, Any]] = [
        *(
            {**sound, key: value}
            for key in ("test", "val", "seconds", "device", "versions", "reliability")
            for value in (None, [1], "x")
        ),
        {**sound, "device": "x" * 1_000_000},
        {**sound, "test": {"accuracy": [0.1, 0.2]}},
        {**sound, "versions": {"a": nested}},
        {**sound, "test": sound["test"] | {"accuracy": 1e400}},
        {"a": 1},
    ]
    texts = [
        "",
        "[]",
        "3",
        "{",
        "\0",
        "[" * 100_000,
        '{"test": 1' + "0" * 5000 + "}",
        '{"seed": NaN}',
        "{" + '"a": 1, ' * 3 + '"a": 2}',
    ]
    for content in (*texts, *contents):
        if isinstance(content, str):
            (theirs / paths.METRICS).write_text(content)
        else:
            checked_json.write(theirs / paths.METRICS, content, run_id)
        found, left_out = runs.find([good, theirs])
        assert good in {each.folder for each in found}
        assert all(line.startswith("left out: ") and line.isprintable() and len(line) < 1000 for line in left_out)
        assert len(found) + len(left_out) == 2
        assert all(len(each.loss) < 5000 and len(str(each.config)) < 50_000 for each in found)
    checked_json.write(theirs / paths.METRICS, sound, run_id)
    edit_record(theirs, choices={"loss": "\x1b[2J\nall $1.0"})
    assert script("compare", good, theirs, "--output", tmp_path / "out") == 0
    assert all(line.isprintable() for line in capfd.readouterr().out.splitlines())


def test_the_network_is_opened_for_evaluation(finished: Path) -> None:
    """Else batch norm would take its means from the batch, and dropout would be active."""
    loaded = vgg_nll.load(finished, device="cpu")
    assert not any(module.training for module in loaded.model.modules())
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(loaded.model(images)[:1], loaded.model(images[:1]), atol=1e-6)


@pytest.mark.slow
def test_a_run_of_another_folder(finished: Path, tmp_path: Path, use: Use) -> None:
    """A file of another run, sound as it is, is not taken for this one's."""
    cfg = compose_config(*TINY, "trainer.epochs=2", "loss=all_logit", "data.noise=1.0", "seed=1")
    (tmp_path / "other").mkdir()
    train_config(cfg, tmp_path / "other")
    for place, names in (
        ("checkpoints/best.pt", {"predict", "evaluate"}),
        ("run.json", set(COMMANDS)),
    ):
        shutil.rmtree(tmp_path / "theirs", ignore_errors=True)
        shutil.copytree(finished, tmp_path / "theirs")
        shutil.copy(tmp_path / "other" / place, tmp_path / "theirs" / place)
        for name in names:
            code, _, error = use(name)
            assert code == 1
            assert is_one_line(error), error
            assert "is of another run" in error
