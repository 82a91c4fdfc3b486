"""The command line around Hydra: questions and misspelt keys answered before PyTorch is loaded, and errors as one line."""

import difflib
import hashlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from vgg_nll.config.compose import CONFIGS, composed, flatten, key_of
from vgg_nll.errors import CheckpointError, ConfigError, DataError, TrainingError
from vgg_nll.training.signals import Interrupted

FULL_ERROR = "HYDRA_FULL_ERROR"
WANTS_TRACEBACK = os.environ.get(FULL_ERROR) == "1"  # read before `call` sets it
EXPECTED = (ConfigError, DataError, CheckpointError, TrainingError, HydraException, OmegaConfBaseException, YAMLError, OSError)
# Options of Hydra with which nothing is trained.
QUESTIONS = {"--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc"}
MAX_NAME_BYTES = 200
OTHER_FOLDER = "hydra.run.dir=<folder> takes another run folder"
SHOWN = "shown as a line"


def call(main: Callable[[], None]) -> None:
    """Runs a Hydra main on `sys.argv`, with a run's own overrides where it is resumed, and errors as lines."""
    os.environ[FULL_ERROR] = "1"  # Hydra hands its errors on instead of printing them in its own way
    logging.raiseExceptions = False  # a pipe that is closed (| head) is no reason for pages of errors
    OmegaConf.register_new_resolver("short", _short, replace=True)
    if not QUESTIONS & {argument.partition("=")[0] for argument in sys.argv[1:]}:
        _load()
    with errors_as_lines(OTHER_FOLDER):
        if {key_of(argument) for argument in sys.argv[1:]} & {"resume", "hydra.run.dir"}:
            from vgg_nll.cli.resume import with_resumed_overrides

            sys.argv[1:] = with_resumed_overrides(sys.argv[1:])
        main()


def _load() -> None:
    """What training needs. That takes seconds: they come after a look at the keys, and before Hydra makes a folder."""
    if "vgg_nll.run" not in sys.modules:
        with errors_as_lines():
            arguments, later = sys.argv[1:], ("resume", "hydra.mode")
            # Left to what comes later: options of Hydra's, what may be a sweep's, and the overrides of a resumed run.
            if not any("," in item or item.startswith("-") or key_of(item) in later for item in arguments):
                composed(arguments)
        from vgg_nll import run  # noqa: F401


@contextmanager
def errors_as_lines(place: str = "") -> Iterator[None]:
    """What a user can mend ends as one line per fault on stderr and exit code 1; a signal, as a line and 128 + signal.

    `HYDRA_FULL_ERROR=1` shows the traceback instead.

    Args:
        place: what to do where the disk refuses.
    """
    try:
        yield
    except Interrupted as end:
        print(end, file=sys.stderr)
        sys.exit(end.exit_code)
    except KeyboardInterrupt:  # where nothing is trained
        sys.exit(130)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(128 + 13)
    except EXPECTED as error:
        if WANTS_TRACEBACK:
            raise
        _show(error, place)
        sys.exit(1)
    except (RuntimeError, MemoryError) as error:
        from vgg_nll.hardware import is_out_of_memory  # here, since that loads PyTorch

        if WANTS_TRACEBACK or not is_out_of_memory(error):
            raise
        _show(ConfigError("out of memory: fewer images at once take less (--batch-size; in training, trainer.batch_size)"))
        sys.exit(1)


@contextmanager
def errors_of_a_job() -> Iterator[None]:
    """In a sweep: the lines at once, and the error on to Hydra, so that the other jobs go on and the exit code is 1.

    A signal ends the whole sweep.
    """
    try:
        yield
    except EXPECTED as error:
        _show(error, OTHER_FOLDER)
        raise


def explain(error: Exception, arguments: Sequence[str], place: str = "") -> str:
    """A line per fault: what was misspelt, what there is, what was probably meant; `place` where the disk refuses."""
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        there = ", ".join(sorted(error.options))
        return f"{group}={name}: there is no such {group}; there are {there}{_nearest(name, error.options)}"
    if isinstance(error, OSError):
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        cannot_write = isinstance(error, (PermissionError, NotADirectoryError, FileExistsError, FileNotFoundError))
        return what + (f"; {place}" if cannot_write and place else "")
    message = " ".join(str(error).split())
    if isinstance(error, YAMLError):
        return f"a config is no YAML: {message}"
    if not isinstance(error, (HydraException, OmegaConfBaseException)):
        return str(error)
    unknown = re.search(r"Could not override '([^']+)'", message)
    if isinstance(error, ConfigCompositionException) and unknown:
        key = unknown.group(1).partition("@")[0]
        return f"{key}: there is no such key{_nearest(key, _known_keys(arguments))}; --help lists them all"
    return message


def _known_keys(arguments: Sequence[str]) -> list[str]:
    """Every key and group of the config that the group choices among the arguments give."""
    groups = [path.name for path in CONFIGS.iterdir() if path.is_dir()]
    choices = [argument for argument in arguments if key_of(argument) in groups and "," not in argument]
    return [*groups, *(key for key, _ in flatten(composed(choices)))]


def _nearest(word: str, words: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def _short(name: str) -> str:
    """A folder's name that a file system takes (255 bytes), and that no other job of the sweep has."""
    names = name.split("/")
    last = names[-1].encode()
    if len(last) > MAX_NAME_BYTES:
        digest = hashlib.blake2b(last, digest_size=6).hexdigest()
        names[-1] = f"{last[:MAX_NAME_BYTES].decode(errors='ignore')}...{digest}"
    return "/".join(names)


def _show(error: Exception, place: str = "") -> None:
    if SHOWN in getattr(error, "__notes__", []):
        return
    error.add_note(SHOWN)
    print("\n".join(f"error: {line}" for line in explain(error, sys.argv[1:], place).splitlines()), file=sys.stderr)
