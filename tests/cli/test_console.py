"""Standard output: no name of a class or a file ends a program half-way, whatever the encoding of the system."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.configs import ROOT
from omegaconf import OmegaConf

ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "cp1252"}
LINE = "from vgg_nll.cli.console import write_any_text; write_any_text(); print('caf\\u00e9 \\u732b \\udce9')"


def test_a_pipe_gets_utf_8() -> None:
    done = subprocess.run([sys.executable, "-c", LINE], capture_output=True, env=ENVIRONMENT)
    assert (done.stdout, done.stderr) == ("café 猫 ".encode() + b"\xe9\n", b"")


@pytest.mark.parametrize(("encoding", "shown"), [("cp1252", b"caf\xe9 \\u732b"), ("utf-8", "café 猫".encode())])
def test_a_terminal_gets_what_it_can_show(encoding: str, shown: bytes) -> None:
    screen, terminal = pty.openpty()
    environment = ENVIRONMENT | {"PYTHONIOENCODING": encoding}
    assert subprocess.run([sys.executable, "-c", LINE], stdout=terminal, env=environment).returncode == 0
    os.close(terminal)
    assert os.read(screen, 1 << 16) == shown + b" \\udce9\r\n"
    os.close(screen)


def test_a_closed_stream_and_one_of_others_stay() -> None:
    code = "import io, sys; sys.stderr = None; sys.stdout = io.StringIO(); " + LINE
    assert subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT).returncode == 0


@pytest.mark.parametrize("path", [*(ROOT / "scripts").glob("*.py"), ROOT / "vgg_nll/cli/launch.py"], ids=lambda path: path.stem)
def test_every_command_does_so_first(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    start = text.index("def main(")
    assert "write_any_text()\n" in text[start : text.index("\n\n\n", start)]
    assert "parse_args" not in text[start : text.index("write_any_text()", start)]


def test_the_log_of_a_run_is_utf_8() -> None:
    handler = OmegaConf.load(ROOT / "configs/hydra/runs.yaml").job_logging.handlers.file
    assert (handler.encoding, handler.errors) == ("utf-8", "backslashreplace")
