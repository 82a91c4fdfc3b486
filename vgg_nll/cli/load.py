"""Loads what a run needs, PyTorch above all: seconds, after everything that can be checked without it."""

import sys


def load_training() -> None:
    """Loads what a run needs; if that fails, ends the process with a line."""
    if "torch" not in sys.modules:
        print("loading PyTorch ...", file=sys.stderr, flush=True)  # seconds without a sign of life
    try:
        from vgg_nll.run import train  # noqa: F401
    except ImportError as error:
        sys.exit(f"error: a library cannot be loaded ({error}); install the project again: pip install -e .")
