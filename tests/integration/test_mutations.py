"""Random changes of any file of a run folder: every command gives the same result, a warning, or an error of one line."""

import json
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.configs import TINY, compose_config
from helpers.runs import outcome, train_config
from PIL import Image

from vgg_nll.checkpoints import file as checkpoint_file
from vgg_nll.comparison import runs
from vgg_nll.run_folder import checked_json

Call = Callable[..., int]
Results = Callable[[], dict[str, tuple[int, Any, str]]]
Change = Callable[[Path, Path, random.Random], str]
HANG = 30  # seconds


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs that differ in nothing but the seed, with a temperature each."""
    folders = []
    for seed in (0, 1):
        folder = tmp_path_factory.mktemp("run")
        cfg = compose_config(*TINY, "loss=all_logit", "data.noise=1.0", "trainer.steps=6", f"seed={seed}")
        choices = {"data": "synthetic", "model": "vgg16", "loss": "all_logit"}
        train_config(cfg, folder, choices, ("loss=all_logit", f"seed={seed}"))
        folders.append(folder)
    return folders[0], folders[1]


def flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes() or b"\0")
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def overwrite(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    start = draw.randrange(len(content) + 1)
    content[start : start + 64] = draw.randbytes(draw.randint(0, 64))
    path.write_bytes(content)


def truncate(path: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content) + 1)])


def append(path: Path, draw: random.Random) -> None:
    path.write_bytes(path.read_bytes() + draw.randbytes(draw.randint(1, 64)))


def change_a_digit(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    digits = [i for i, byte in enumerate(content) if chr(byte).isdigit()]
    if digits:
        content[draw.choice(digits)] = ord(str(draw.randrange(10)))
        path.write_bytes(content)


def repeat_a_line(path: Path, draw: random.Random) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    if lines:
        k = draw.randrange(len(lines))
        path.write_bytes(b"".join([*lines[:k], lines[k], *lines[k:]]))


def drop_a_line(path: Path, draw: random.Random) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    if lines:
        lines.pop(draw.randrange(len(lines)))
        path.write_bytes(b"".join(lines))


def delete(path: Path, draw: random.Random) -> None:
    path.unlink()


def put_a_folder(path: Path, draw: random.Random) -> None:
    path.unlink()
    path.mkdir()


def put_a_link(path: Path, draw: random.Random) -> None:
    path.rename(path.parent / "moved")
    path.symlink_to(path.parent / "moved")


def put_a_pipe(path: Path, draw: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


BYTES = (flip, flip, flip, overwrite, truncate, append, change_a_digit, repeat_a_line, drop_a_line)
NAMES = (delete, put_a_folder, put_a_link, put_a_pipe)


def mutate(folder: Path, other: Path, draw: random.Random) -> str:
    """Changes a file, or puts that of the other run in its place; returns what it did."""
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    place = draw.choice(files)
    if draw.random() < 0.15:
        theirs = other / place if not place.name.startswith("events.") else next(other.glob("events.*"))
        shutil.copy(theirs, folder / place)
        return f"{place}: of the other run"
    change = draw.choice(BYTES if draw.random() < 0.8 else NAMES)
    change(folder / place, draw)
    return f"{place}: {change.__name__}"


ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        10**19,
        10**400,
        1e308,
        -0.5,
        "",
        "x" * 5_000,
        "${oc.env:HOME}",
        "os.system",
        "\x1b[2J\n",
        "/etc",
        "nan",
    ),
    *([], {}, [[1]], [1.0, 2.0], {"_target_": "os.system"}, ["a", 1]),
)
ODD_TENSORS: tuple[Callable[[torch.Tensor], Any], ...] = (
    *(
        lambda t: t.sum(),
        lambda t: t.flatten(),
        lambda t: t[None],
        lambda t: t.double(),
        lambda t: t * torch.nan,
        lambda t: None,
    ),
    *(lambda t: t.to_sparse(), lambda t: t.bool(), lambda t: torch.zeros(1).as_strided(t.shape, [0] * t.dim()), lambda t: []),
    *(lambda t: torch.empty(t.shape, device="meta"), lambda t: t.to(torch.complex64), lambda t: t.tolist()),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Returns the path of every value in dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, item in items for place in places(item, (*path, key))]


def change_a_value(content: Any, draw: random.Random) -> str:
    *path, last = draw.choice(places(content))
    for key in path:
        content = content[key]
    value = draw.choice(ODD)
    if isinstance(content[last], torch.Tensor) and draw.random() < 0.8:
        k = draw.randrange(len(ODD_TENSORS))
        content[last] = ODD_TENSORS[k](content[last])
        return f"{path}, {last}: tensor {k}"
    if draw.random() < 0.1:
        del content[last]
        return f"{path}, {last}: gone"
    content[last] = value
    return f"{path}, {last}: {str(value)[:40]}"


def forge(folder: Path, other: Path, draw: random.Random) -> str:
    """Changes a value in a file, and makes its checksum fit."""
    names = ("run.json", "run.json", "metrics.json", "checkpoints/last.pt", "checkpoints/best.pt")
    name = draw.choice(names)
    path = folder / name
    if path.suffix == ".pt":
        state = checkpoint_file.load(path)
        what = change_a_value(state, draw)
        checkpoint_file.save(path, state)
        return f"{name}: {what}"
    content, run_id = checked_json.read_with_id(path)
    what = change_a_value(content, draw)
    checked_json.write(path, content, run_id)
    return f"{name}: {what}"


@pytest.fixture
def results(
    command: Call, script: Call, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Results:
    """The four commands on the folder `run`: name -> exit code, result, and what was printed."""
    draw = random.Random(0)
    Image.frombytes("RGB", (32, 32), draw.randbytes(32 * 32 * 3)).save(tmp_path / "picture.png")
    monkeypatch.setattr("vgg_nll.inference.evaluate.evaluation_summaries.figures", lambda *_, **__: {})

    def use(call: Call, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # `command` leaves it at 1
        capfd.readouterr()
        signal.alarm(HANG)
        code = call(*arguments)
        signal.alarm(0)
        return code, *capfd.readouterr()

    def all_four() -> dict[str, tuple[int, Any, str]]:
        code, out, error = use(script, "predict", "run", "picture.png", "--device", "cpu")
        done: dict[str, tuple[int, Any, str]] = {"predict": (code, out if code == 0 else None, error)}
        code, out, error = use(script, "evaluate", "run", "--device", "cpu")
        made = tmp_path / "run/evaluation/synthetic_test/evaluation.json"
        content = json.loads(made.read_text()) if code == 0 else {}
        done["evaluate"] = code, {name: content.get(name) for name in ("test", "step", "classes")} if content else None, error
        shutil.rmtree(made.parent, ignore_errors=True)
        found, left_out = runs.find([Path("run")])
        done["compare"] = 1 - len(found), found[0] if found else None, "".join(f"error: {line}\n" for line in left_out)
        code, out, error = use(command, "resume=run", "trainer.steps=8")
        done["resume"] = (
            code,
            outcome(tmp_path / "run") if code == 0 and (tmp_path / "run/DONE").exists() else None,
            error + (out if code == 0 else ""),
        )
        return done

    return all_four


def check(two_runs: tuple[Path, Path], results: Results, seeds: range, change: Change = mutate) -> None:
    """A forged value may be another setting, and so give another result."""
    mine, other = two_runs
    shutil.copytree(mine, "run")
    expected = results()
    assert [code for code, _, _ in expected.values()] == [0, 0, 0, 0]
    for seed in seeds:
        shutil.rmtree("run")
        shutil.copytree(mine, "run")
        what = change(Path("run"), other, random.Random(seed))
        for name, (code, result, text) in results().items():
            told = f"{seed}: {what}: {name}: {code}: {text[-2000:]}"
            assert "Traceback" not in text, told
            if code == 0:
                assert change is forge or result == expected[name][1] or "warning: " in text, told
            else:
                assert code == 1, told
                assert text.startswith("error: ") and text.count("\n") == 1 and text.rstrip("\n").isprintable(), told


@pytest.mark.slow
@pytest.mark.parametrize("change", [mutate, forge])
def test_some_mutations(two_runs: tuple[Path, Path], results: Results, change: Change) -> None:
    check(two_runs, results, range(10), change)


@pytest.mark.soak
@pytest.mark.parametrize("change", [mutate, forge])
@pytest.mark.parametrize("first", range(0, 300, 50))
def test_300_mutations(two_runs: tuple[Path, Path], results: Results, change: Change, first: int) -> None:
    check(two_runs, results, range(first, first + 50), change)
