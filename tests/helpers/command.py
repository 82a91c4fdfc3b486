"""`python train.py <arguments>`, run in this process."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.configs import ROOT


def make_command(patch: pytest.MonkeyPatch, folder: Path) -> Callable[..., int]:
    """Returns arguments -> exit code of the command, with `folder` as the working directory."""
    from hydra.core.global_hydra import GlobalHydra

    from vgg_nll.cli import launch

    patch.chdir(folder)
    # `main` sets it to 1: set here first, so that it is removed after the test
    patch.setenv("HYDRA_FULL_ERROR", "0")
    handlers, level = list(logging.root.handlers), logging.root.level

    def run(*arguments: str) -> int:
        patch.setattr(sys, "argv", [str(ROOT / "train.py"), *arguments])
        patch.setenv("HYDRA_FULL_ERROR", "0")
        try:
            launch.main()
        except SystemExit as end:
            return int(end.code or 0)
        finally:
            GlobalHydra.instance().clear()
            logging.root.handlers[:] = handlers
            logging.root.setLevel(level)
        return 0

    return run
