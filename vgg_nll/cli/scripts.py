"""What scripts/ are given, checked before they load PyTorch, which takes seconds."""

import argparse
import contextlib
import sys
from pathlib import Path

from vgg_nll.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE
from vgg_nll.config.rules import RULES
from vgg_nll.errors import ConfigError
from vgg_nll.run_folder import paths


def count(text: str, minimum: int = 1) -> int:
    """Reads an integer, as argparse's `type`."""
    if not text.isdecimal() or int(text) < minimum:
        raise argparse.ArgumentTypeError(f"{text}: must be an integer, at least {minimum}")
    return int(text)


def check_run(folder: Path, device: str, temperature: str) -> None:
    """Raises CheckpointError if a folder holds no run, ConfigError for a device or a temperature that cannot be."""
    paths.check_holds_run(folder)
    problem = RULES["device"].find_error(device)
    if problem:
        raise ConfigError(f"--device {device}: {problem}")
    if temperature in ("fit", "saved"):
        return
    value, low, high = 0.0, MIN_TEMPERATURE, MAX_TEMPERATURE
    with contextlib.suppress(ValueError):
        value = float(temperature)
    if not low <= value <= high:
        raise ConfigError(f"--temperature {temperature}: must be a number from {low:g} to {high:g}")


def temperature(text: str) -> str:
    """Reads the value of `--temperature`, which may be left out: a path is the next word, and not meant for it."""
    try:
        float(text)
    except ValueError:
        if text not in ("fit", "saved") and Path(text).exists():
            what = f"{text}: is a path, not a number; write --temperature after all paths, or --temperature=saved"
            raise argparse.ArgumentTypeError(what) from None
    return text


def fraction(text: str) -> float:
    """Reads a number in [0, 1] from the command line."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: must be from 0 to 1")
    return value


def warn_of_temperature(doubt: str) -> None:
    """Prints why a temperature should not be trusted, if anything speaks against it."""
    if doubt:
        print(f"warning: the temperature may make confidence worse: {doubt}", file=sys.stderr)
