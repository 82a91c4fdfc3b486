"""A run on a terminal, on a pipe, and in its log."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers.configs import ROOT, TINY

COMMAND = [sys.executable, str(ROOT / "train.py"), *TINY, "trainer.steps=40", "hydra.run.dir=run", "trainer.log_every_steps=20"]
WIDE = ("curves: ", "http://", "trained in ")  # a command, a link and a path stay whole: a terminal wraps them


def on_terminal(folder: Path, columns: int, **environment: str) -> str:
    """Returns what a run writes to a terminal of this width."""
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    env = inherited | {"OMP_NUM_THREADS": "1", "TERM": "xterm-256color"} | environment
    process = subprocess.Popen(COMMAND, stdin=terminal, stdout=terminal, stderr=terminal, cwd=folder, env=env)
    os.close(terminal)
    text = b""
    while True:
        try:
            text += os.read(screen, 1 << 16)
        except OSError:  # the other end is closed
            break
    os.close(screen)
    assert process.wait() == 0, text.decode()
    return text.decode()


def rows(text: str) -> list[str]:
    """Returns the lines that were drawn, without colours and movements of the cursor."""
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    return [row.rstrip() for row in re.split(r"[\r\n]+", plain) if row.strip()]


class Shown(NamedTuple):
    """A terminal's columns, whether it has colours, what a run wrote to it, and the run's folder."""

    columns: int
    has_colours: bool
    text: str
    folder: Path


@pytest.fixture(scope="module", params=[(80, {}), (60, {"NO_COLOR": "1"})], ids=["wide", "narrow, no colours"])
def shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    columns, environment = request.param
    folder = tmp_path_factory.mktemp("terminal")
    return Shown(columns, not environment, on_terminal(folder, columns, **environment), folder)


@pytest.mark.slow
def test_lines_fit(shown: Shown) -> None:
    columns, found = shown.columns, rows(shown.text)
    assert found[0] == "loading PyTorch ..."
    bars = [row for row in found if re.match(r" *\d+%\|", row)]
    assert bars and all(len(bar) < columns for bar in bars)
    last = bars[-1]
    assert re.search(r"40/40 .*  train loss \d\.\d{4}  accuracy \d+\.\d%", last), last
    assert ("images/s" in last) is (columns == 80)
    lines = [row for row in found if row not in bars and not row.startswith(WIDE)]
    assert max(map(len, lines)) <= 80
    assert any(re.fullmatch(r"test: accuracy \d+\.\d% .*  confidence \d+\.\d+%", row) for row in lines)


@pytest.mark.slow
def test_colours(shown: Shown) -> None:
    """The best validations are green on a terminal that has colours; the log never has any."""
    assert bool(re.search("\x1b\\[32mepoch .* \\(best\\).*\x1b\\[0m", shown.text)) is shown.has_colours
    assert ("\x1b[3" in shown.text) is shown.has_colours
    log = (shown.folder / "run/train.log").read_text()
    assert "\x1b" not in log
    dated = re.findall(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  (\w+)", log, re.MULTILINE)
    assert {"data", "model", "training", "epoch", "trained"} <= set(dated)


@pytest.mark.slow
def test_a_dumb_terminal_has_no_colours(tmp_path: Path) -> None:
    assert "\x1b[3" not in on_terminal(tmp_path, 80, TERM="dumb")


@pytest.mark.slow
def test_a_pipe_gets_plain_lines(tmp_path: Path) -> None:
    """And the run a folder of its own, named by time, model and loss."""
    line = [word for word in COMMAND if not word.startswith("hydra.run.dir")]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs/train").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}_vgg16_argmax", folder.name)
    assert done.stderr == "loading PyTorch ...\n"
    assert "\x1b" not in done.stdout
    assert re.search(r"^step 40/40  train loss \d\.\d{4}  accuracy \d+\.\d%  \d+ images/s$", done.stdout, re.MULTILINE)
    assert re.search(r"^epoch 0  val loss ", done.stdout, re.MULTILINE)
