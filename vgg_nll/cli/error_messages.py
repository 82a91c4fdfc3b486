"""Errors as lines: what a user can fix ends a command with one line per error, without a traceback."""

import difflib
import os
import re
import sys
import traceback as traceback_module
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra.errors import ConfigCompositionException, HydraException, InstantiationException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from vgg_nll.cli import torchrun
from vgg_nll.cli.arguments import path_of
from vgg_nll.config.compose import CONFIGS, belongs_to, composed, key_of, why_not_called
from vgg_nll.config.schema import OF_SWEEPS, leaves
from vgg_nll.errors import CheckpointError, ConfigError, DataError, LostRankError, TrainingError
from vgg_nll.escapes import printable
from vgg_nll.training.signals import Interrupted

FULL_ERROR = "HYDRA_FULL_ERROR"
EXPECTED = (ConfigError, DataError, CheckpointError, TrainingError, HydraException, OmegaConfBaseException, YAMLError, OSError)
SHOWN = "shown as a line"
# What is typed for a loss -> what that is, and the name that it has here.
MEANT_LOSS = {
    **dict.fromkeys(("method1", "method_1", "nll"), ("method 1", "argmax")),
    **dict.fromkeys(("method2", "method_2"), ("method 2", "all_logit")),
    **dict.fromkeys(("ce", "crossentropy", "cross-entropy"), ("PyTorch's cross-entropy", "cross_entropy")),
    **dict.fromkeys(("bce", "binary_cross_entropy"), ("binary cross-entropy on sigmoids", "sigmoid")),
}
DATA_SETS = r"cifar-10.*|.*-ubyte(\.gz)?"  # files of data sets that have a choice of their own
READERS = ("hydra", "omegaconf", "antlr4", "logging")  # packages that read what is typed: an error there is an error of that


def wants_traceback() -> bool:
    """Returns whether the user asked for tracebacks: `HYDRA_FULL_ERROR=1`."""
    return os.environ.get(FULL_ERROR) == "1"


@contextmanager
def errors_as_lines(disk_hint: str = "", *, traceback: bool | None = None) -> Iterator[None]:
    """Ends the process with one line per error on stderr and exit code 1; after a signal, with a line and 128 + signal.

    Args:
        disk_hint: what to do if the disk refuses.
        traceback: shows the traceback instead; None: if the environment asks for it.
    """
    traceback = wants_traceback() if traceback is None else traceback
    _open_standard_streams()
    try:
        yield
        sys.stdout.flush()  # here, so that a closed pipe is noticed before the interpreter ends
    except Interrupted as end:
        print(end, file=sys.stderr)
        sys.exit(end.exit_code)
    except KeyboardInterrupt:  # nothing is trained
        sys.exit(130)
    except BrokenPipeError:  # the reader (`| head`) has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(128 + 13)
    except EXPECTED as error:
        if traceback:
            raise
        show(error, disk_hint)
        sys.exit(1)
    except Exception as error:
        expected = _as_expected(error)
        if traceback or expected is None:
            raise
        show(expected, disk_hint)
        sys.exit(1)


def _as_expected(error: Exception) -> Exception | None:
    """Returns what to show for an error that is not one of ours, but has a cause outside of the program; else None."""
    if isinstance(error, (RuntimeError, MemoryError)):
        from vgg_nll.hardware import is_out_of_memory  # here, since that loads PyTorch

        if is_out_of_memory(error):
            return ConfigError("out of memory: fewer images at once take less (--batch-size; in training, trainer.batch_size)")
    frames = list(traceback_module.walk_tb(error.__traceback__))
    names = [frame.f_code.co_name for frame, _ in frames]
    if "configure_log" in names:
        return _of_logging(error, "job_logging" if "run_job" in names else "hydra_logging")
    package = frames[-1][0].f_globals.get("__name__", "").partition(".")[0] if frames else ""
    what = " ".join(str(error).split()) or f"a setting of {package} cannot be used ({type(error).__name__})"
    return ConfigError(what) if package in READERS else None


def _of_logging(error: Exception, section: str) -> Exception:
    """Returns what to show for settings of logging that cannot be used: those that were typed, and why."""
    typed = [word for word in sys.argv[1:] if key_of(word).startswith((f"hydra.{section}.", "hydra.verbose"))]
    cause = error.__cause__ or error
    part = re.search(r"Unable to configure (\w+) (?:'(\w+)'|logger)", str(error))
    place = (f".{part[1]}s.{part[2]}." if part[2] else f".{part[1]}.") if part else "."
    of_part = [word for word in typed if place in word]
    if isinstance(cause, OSError):  # of a log that cannot be written
        names = [word for word in of_part if key_of(word).endswith("filename")]
        return ConfigError(f"{names[0]}: {cause.strerror}; name a file in a folder that is there") if names else cause
    shown = " ".join(of_part or typed) or f"hydra.{section}"
    why = why_not_called("this is no setting of it" if isinstance(cause, AssertionError) else str(cause))
    return ConfigError(f"{shown}: {why}; leave it out, or see logging.config of Python")


def _open_standard_streams() -> None:
    """Opens closed ones (`2>&-`) as a device that takes everything: else the next file gets the number, and what is printed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one
            setattr(sys, name, os.fdopen(handle, "w" if number else "r", encoding="utf-8", errors="backslashreplace"))


def show(error: Exception, disk_hint: str = "") -> None:
    """Prints an error as lines, once: a second call with the same error prints nothing."""
    if SHOWN in getattr(error, "__notes__", []):
        return
    error.add_note(SHOWN)
    text = explain(error, sys.argv[1:], disk_hint)
    if not isinstance(error, LostRankError):  # which the first may not be there any more to say
        torchrun.wait_for_first()
    where = f"rank {torchrun.rank()}: " if torchrun.rank() > 0 else ""
    print("\n".join(f"{where}error: {printable(line)}" for line in text.split("\n")), file=sys.stderr)


def explain(error: Exception, arguments: Sequence[str], disk_hint: str = "") -> str:
    """Returns a line per error: what was misspelt, what there is, what was probably meant.

    Args:
        arguments: of the command line; disk_hint: what to do if the disk refuses.
    """
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        there = ", ".join(sorted(error.options))
        if group == "loss" and name.lower() in MEANT_LOSS:
            what, loss = MEANT_LOSS[name.lower()]
            return f"{group}={name}: there is no such {group}; {what} is loss={loss} (there are {there})"
        return f"{group}={name}: there is no such {group}; there are {there}{_nearest(name, error.options)}"
    if isinstance(error, OSError) and isinstance(error, HydraException):
        return str(error).partition("\n")[0]
    if isinstance(error, OSError):
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        cannot_write = isinstance(error, (PermissionError, NotADirectoryError, FileExistsError, FileNotFoundError))
        return what + (f"; {disk_hint}" if cannot_write and disk_hint else "")
    message = " ".join(str(error).split())
    if isinstance(error, YAMLError):
        return f"a config is not valid YAML: {message}"
    if not isinstance(error, (HydraException, OmegaConfBaseException)):
        return str(error)
    unknown = re.search(r"Could not override '([^']+)'", message)
    if isinstance(error, ConfigCompositionException) and unknown:
        key = unknown.group(1)
        known = _known_keys(arguments)
        if key in known:
            return f"{key}: cannot be set and taken out at once; leave out the word that begins with ~"
        if "@" not in key and (belongs := belongs_to(key)):
            return f"{key}: {_meant_data(key, arguments)}{belongs}"
        close = "" if "@" in key else _nearest(key, known)
        return f"{key}: there is no such key{close}; --help lists them all"
    if isinstance(error, InstantiationException) and (key := re.search(r"full_key: (\S+)", message)):  # of a callback
        return f"{key[1]}._target_: {why_not_called(message)}"
    unfit = re.search(r"Error merging override (.+)", message)
    if unfit:
        return f"{unfit.group(1)}: is not a value that fits there"
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key}: {str(error).splitlines()[0]}"
    return message


def _meant_data(key: str, arguments: Sequence[str]) -> str:
    """Returns a question if a folder of pictures was named, and not that it is one; else ""."""
    root = path_of("data.root", arguments)
    if key != "data.root" or root is None or not root.is_dir():
        return ""
    if any(re.fullmatch(DATA_SETS, path.name) for path in root.iterdir()):
        return ""
    choice = "csv" if path_of("data.labels", arguments) is not None else "image_folder"
    return f"did you mean data={choice}? it "


def _known_keys(arguments: Sequence[str]) -> list[str]:
    """Returns every key and group of the config that the group choices among the arguments give."""
    groups = [path.name for path in CONFIGS.iterdir() if path.is_dir()]
    choices = [item for item in arguments if key_of(item) in groups and item.partition("=")[2].isidentifier()]
    of_sweep = [choice for choice in choices if key_of(choice) in OF_SWEEPS]
    configs = composed([choice for choice in choices if choice not in of_sweep]), composed(of_sweep, "sweep")
    return [*groups, *(key for cfg in configs for key in leaves(cfg))]


def _nearest(word: str, words: Sequence[str]) -> str:
    close = [known for known in words if known.rpartition(".")[2] == word] if "." not in word else []
    close = close or difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""
