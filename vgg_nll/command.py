"""The command line around Hydra: errors as one line, and `resume=<run folder>` as the run's own overrides."""

import difflib
import hashlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vgg_nll import checkpoint
from vgg_nll.build import CONFIGS, check, check_targets, flatten, make_device, read_saved
from vgg_nll.checkpoint import CheckpointError
from vgg_nll.data.splits import DataError
from vgg_nll.hardware import is_out_of_memory
from vgg_nll.run_folder import holds_run
from vgg_nll.settings import ConfigError
from vgg_nll.signals import Interrupted
from vgg_nll.trainer import TrainingError

FULL_ERROR = "HYDRA_FULL_ERROR"
WANTS_TRACEBACK = os.environ.get(FULL_ERROR) == "1"  # read before `call` sets it
EXPECTED = (ConfigError, DataError, CheckpointError, TrainingError, HydraException, OmegaConfBaseException, OSError)
# What a resumed run must share with its first part, unless `resume_strict=false`: it would be another run under its name.
FIXED_ON_RESUME = ("seed.", "model.", "data.", "loss.", "optimizer.", "trainer.batch_size.")
FREE_ON_RESUME = ("optimizer.lr", "data.num_workers", "data.download", "model.weights")
# What gives a finished run something to do.
LENGTH = ("trainer.epochs", "trainer.steps", "trainer.early_stop_validations")
MOST_BYTES = 200
OTHER_FOLDER = "hydra.run.dir=<folder> takes another run folder"
SHOWN = "shown as a line"


def call(main: Callable[[], None]) -> None:
    """Runs a Hydra main on `sys.argv`, with a run's own overrides where it is resumed, and errors as lines."""
    os.environ[FULL_ERROR] = "1"  # Hydra hands its errors on instead of printing them in its own way
    logging.raiseExceptions = False  # a pipe that is closed (| head) is no reason for pages of errors
    OmegaConf.register_new_resolver("short", _short, replace=True)
    with errors_as_lines(OTHER_FOLDER):
        sys.argv[1:] = with_resumed_overrides(sys.argv[1:])
        main()


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


def with_resumed_overrides(arguments: Sequence[str]) -> list[str]:
    """The arguments as they are, or, with `resume=<run folder>`, those of that run with the given ones on top.

    Raises CheckpointError where the folder holds no run, ConfigError where the run would no longer be the same.
    """
    folder = _path_of("resume", arguments)
    if folder is None and any(_key(argument) == "resume" for argument in arguments):
        raise ConfigError("resume=: is empty; it takes a run folder")
    if folder is None or str(folder) == "null":
        target = _path_of("hydra.run.dir", arguments)
        if target is not None and holds_run(target):
            raise ConfigError(f"hydra.run.dir={target}: holds a run already; resume={target} goes on with it")
        return list(arguments)
    if "-m" in arguments or "--multirun" in arguments:
        raise ConfigError(f"resume={folder}: goes with one run; leave out -m")
    if not folder.is_dir():
        raise CheckpointError(f"resume={folder}: there is no such folder")
    saved = folder / ".hydra"
    if not checkpoint.exists(folder / "checkpoints") or not (saved / "overrides.yaml").is_file():
        raise CheckpointError(f"resume={folder}: holds no run to go on with (no checkpoints/last.pt, or no .hydra/)")
    before = [str(item) for item in read_saved(folder, "overrides.yaml", list, f"resume={folder}")]
    foreign = [item for item in before if item.startswith("-") or _key(item).startswith("hydra")]
    if foreign:  # a run's own list never holds these, and they could bring in configs and code from anywhere
        raise ConfigError(f"resume={folder}: its .hydra/overrides.yaml holds {foreign[0]!r}, which no run writes there")
    given = {_key(argument) for argument in arguments}
    anew = tuple(f"{key}." for key in given)  # with another optimizer=, what was set for the old one goes
    merged = [i for i in before if _key(i) not in given | {"resume", "resume_strict"} and not _key(i).startswith(anew)]
    merged += [argument for argument in arguments if _key(argument) != "resume"]
    merged.append(f"resume={_quoted(folder)}")
    cfg = _compose(merged)
    typed = {value for argument in arguments for value in re.findall(r"[\w.]+", argument)}
    check_targets(cfg, f"resume={folder}", typed)
    check(cfg)
    make_device(cfg)
    saved_cfg = dict(flatten(OmegaConf.create(read_saved(folder, "config.yaml", dict, f"resume={folder}"))))
    _check_same_run(folder, saved_cfg, cfg)
    _end_if_finished(folder, saved_cfg, dict(flatten(cfg)))
    return [*merged, f"hydra.run.dir={_quoted(folder)}"]


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
    if not isinstance(error, (HydraException, OmegaConfBaseException)):
        return str(error)
    message = " ".join(str(error).split())
    unknown = re.search(r"Could not override '([^']+)'", message)
    if isinstance(error, ConfigCompositionException) and unknown:
        key = unknown.group(1).partition("@")[0]
        return f"{key}: there is no such key{_nearest(key, _known_keys(arguments))}; --help lists them all"
    return message


def _compose(overrides: list[str]) -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", overrides=[item for item in overrides if not item.startswith(("hydra", "-"))])


def _check_same_run(folder: Path, before: dict[str, Any], cfg: DictConfig) -> None:
    now = dict(flatten(cfg))
    groups = {key.partition(".")[0] for key in before}
    later = {key for key in now.keys() - before.keys() if key.partition(".")[0] in groups}  # settings of a later version
    changed = [
        f"{key}={before.get(key)} (now {now.get(key)})"
        for key in sorted(before.keys() | now.keys() - later)
        if before.get(key) != now.get(key) and key not in FREE_ON_RESUME and f"{key}.".startswith(FIXED_ON_RESUME)
    ]
    if changed and cfg.resume_strict:
        raise ConfigError(
            f"resume={folder}: was made with {', '.join(changed)}; drop the override, start a new run, or take the difference "
            "with resume_strict=false"
        )
    if changed:
        print(f"warning: goes on with another run than it was: it was made with {', '.join(changed)}", file=sys.stderr)


def _end_if_finished(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Says that a finished run has nothing left to do, and ends, unless it was given more to do."""
    was = {key: before.get(key) for key in LENGTH}
    more = any(now[key] != was[key] and (now[key] is None or now[key] > (was[key] or 0)) for key in LENGTH)
    if (folder / "DONE").exists() and not more:
        length = next(f"{key}={was[key]}" for key in ("trainer.steps", "trainer.epochs") if was[key] is not None)
        print(
            f"{folder} is finished ({length}): nothing was changed. A larger number goes on with it, "
            "or, where it stopped early, a larger trainer.early_stop_validations."
        )
        sys.exit(0)


def _known_keys(arguments: Sequence[str]) -> list[str]:
    """Every key and group of the config that the group choices among the arguments give."""
    groups = [path.name for path in CONFIGS.iterdir() if path.is_dir()]
    choices = [argument for argument in arguments if _key(argument) in groups and "," not in argument]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return [*groups, *(key for key, _ in flatten(compose("train", overrides=choices)))]


def _nearest(word: str, words: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def _short(name: str) -> str:
    """A folder's name that a file system takes (255 bytes), and that no other job of the sweep has."""
    names = name.split("/")
    last = names[-1].encode()
    if len(last) > MOST_BYTES:
        digest = hashlib.blake2b(last, digest_size=6).hexdigest()
        names[-1] = f"{last[:MOST_BYTES].decode(errors='ignore')}...{digest}"
    return "/".join(names)


def _path_of(key: str, arguments: Sequence[str]) -> Path | None:
    """The path that `key=path` among the arguments gives, with or without quotes."""
    values = [argument.partition("=")[2] for argument in arguments if _key(argument) == key and "=" in argument]
    return Path(values[-1].strip("'\"").replace("\\'", "'")) if values and values[-1] else None


def _quoted(path: Path) -> str:
    """As Hydra's grammar wants a value with '=' or ',' in it, which the folders of sweeps have."""
    text = str(path).replace("'", "\\'")
    return f"'{text}'"


def _show(error: Exception, place: str = "") -> None:
    if SHOWN in getattr(error, "__notes__", []):
        return
    error.add_note(SHOWN)
    print("\n".join(f"error: {line}" for line in explain(error, sys.argv[1:], place).splitlines()), file=sys.stderr)


def _key(argument: str) -> str:
    return argument.partition("=")[0].lstrip("+~")
