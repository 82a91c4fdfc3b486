"""The scripts in a pipe whose reader has gone (`| head`): they end as if by SIGPIPE, without a traceback."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.configs import ROOT
from PIL import Image


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("evaluate", []),
        ("predict", ["picture.png"]),
        pytest.param("predict", ["picture.png", "--json"], marks=pytest.mark.soak),
        pytest.param("predict", ["picture.png", "--csv"], marks=pytest.mark.soak),
        ("compare", ["--output", "comparison"]),
    ],
)
def test_a_closed_pipe(finished: Path, tmp_path: Path, script: str, arguments: list[str]) -> None:
    """Exit code 141, also if all of the output fits into Python's buffer, which is written at the end."""
    Image.new("RGB", (32, 32)).save(tmp_path / "picture.png")
    folder = shutil.copytree(finished, tmp_path / "run")  # evaluate.py writes there
    reader, writer = os.pipe()
    os.close(reader)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    line = [sys.executable, str(ROOT / f"scripts/{script}.py"), str(folder), *arguments]
    done = subprocess.run(line, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
