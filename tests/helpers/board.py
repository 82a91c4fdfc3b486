"""A TensorBoard that answers."""

import json
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def tensorboard(folder: Path, *options: str) -> Iterator[str]:
    """Starts TensorBoard on a folder of runs, and yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port), *options]
    server = subprocess.Popen(line, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/data/runs")
                break
            except OSError:
                time.sleep(0.3)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def ask(address: str, path: str, **query: str) -> Any:
    """Returns what the server says, as the page gets it: `ask(address, "plugin/scalars/scalars", run=..., tag=...)`."""
    with urllib.request.urlopen(f"{address}/data/{path}?{urllib.parse.urlencode(query)}") as answer:
        return json.load(answer)
