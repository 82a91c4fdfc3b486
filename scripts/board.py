"""Starts TensorBoard on a folder of runs, and prints the link that opens it: `python scripts/board.py runs`."""

import argparse
import os
import socket
import sys
from pathlib import Path

from vgg_nll.cli.console import write_any_text
from vgg_nll.cli.error_messages import errors_as_lines
from vgg_nll.cli.scripts import count
from vgg_nll.config.compose import names_of
from vgg_nll.errors import ConfigError
from vgg_nll.run_folder import paths
from vgg_nll.tracking import dashboard

PORTS = 10  # that are tried, one after another


def main() -> None:
    write_any_text()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs"), help="a folder of runs (runs)")
    parser.add_argument("--port", type=count, help=f"of the page (the first free one from {dashboard.PORT} on)")
    args = parser.parse_args()
    with errors_as_lines():
        paths.check_folders([args.folder])
        ports = range(dashboard.PORT, dashboard.PORT + PORTS) if args.port is None else [args.port]
        port = next((port for port in ports if is_free(port)), None)
        if port is None:
            raise ConfigError(f"--port {ports[0]}: another program has it; name a free one")
    print(f"open {dashboard.link(names_of('loss'), port)}\n({dashboard.RELOAD})", flush=True)
    options = ["--logdir", str(args.folder), *dashboard.OPTIONS, "--port", str(port)]
    os.execv(sys.executable, [sys.executable, "-m", "tensorboard.main", *options])


def is_free(port: int) -> bool:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("localhost", port))
        except (OSError, OverflowError):  # above 65535
            return False
    return True


if __name__ == "__main__":
    main()
