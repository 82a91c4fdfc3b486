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


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 60])
def test_lines_fit(tmp_path: Path, columns: int) -> None:
    found = rows(on_terminal(tmp_path, columns))
    assert found[0] == "loading PyTorch ..."
    bars = [row for row in found if re.match(r" *\d+%\|", row)]
    assert bars and all(len(bar) < columns for bar in bars)
    last = bars[-1]
    assert re.search(r"40/40 .*  loss \d\.\d{4}  \d+\.\d% right", last), last
    assert ("images/s" in last) is (columns == 80)
    lines = [row for row in found if row not in bars and not row.startswith(WIDE)]
    assert max(map(len, lines)) <= 80
    assert any(re.fullmatch(r"test: \d+\.\d% right, \d+\.\d+% sure: .*", row) for row in lines)


@pytest.mark.slow
@pytest.mark.parametrize(("environment", "has_colours"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colours(tmp_path: Path, environment: dict[str, str], has_colours: bool) -> None:
    """The best validations are green on a terminal that has colours; the log never has any."""
    text = on_terminal(tmp_path, 80, **environment)
    assert bool(re.search("\x1b\\[32mepoch .*  best\x1b\\[0m", text)) is has_colours
    assert ("\x1b[3" in text) is has_colours
    log = (tmp_path / "run/train.log").read_text()
    assert "\x1b" not in log
    dated = re.findall(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  (\w+)", log, re.MULTILINE)
    assert {"data", "model", "training", "epoch", "trained"} <= set(dated)


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
    assert re.search(r"^step 40/40  loss \d\.\d{4}  \d+\.\d% right  \d+ images/s$", done.stdout, re.MULTILINE)
    assert re.search(r"^epoch 0  validation: loss ", done.stdout, re.MULTILINE)
