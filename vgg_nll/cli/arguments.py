"""What is typed, made ready for Hydra: paths in quotes, options first; and plain words for what it cannot read."""

import itertools
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from vgg_nll.config import rules, schema
from vgg_nll.config.compose import NO_EXPERIMENT, composed, is_override, key_of, names_of
from vgg_nll.data.pictures.walk import check_root, find_table
from vgg_nll.errors import ConfigError
from vgg_nll.escapes import printable
from vgg_nll.files import expanded, is_name_of_weights

HYDRA_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")
SWEEP = ("-m", "--multirun")
# What a run takes of Hydra's own settings: these, and what lies below them.
OF_HYDRA = (
    *("hydra.run.dir", "hydra.sweep.dir", "hydra.job_logging", "hydra.hydra_logging", "hydra/hydra_logging", "hydra.verbose"),
    *("hydra.callbacks.<name>", "hydra.searchpath"),
)
# What it does not take, and why. Every other one is refused in one line that names those above.
REFUSED_OF_HYDRA = {
    "hydra.job.chdir": "the paths of a config are of the folder in which the command starts",
    "hydra.output_subdir": "the run writes .hydra itself, when it has begun",
    "hydra.job.name": "the log of a run is train.log",
    "hydra.job.env_set": "PyTorch is loaded before; set the variable in the shell",
    "hydra.mode": "-m makes a sweep of it",
    "hydra.callbacks.start_run": "it checks the config",
    "hydra/job_logging": "only none can be chosen; single settings are hydra.job_logging.<key>=<value>",
}
# Options that print something and train nothing.
ANSWERS = ("--help", "-h", "--hydra-help", "--version", "--info", "-i")
FOLDER_DATA = "vgg_nll.data.FolderData"  # which reads a folder that must be there; other data sets fetch their files
_ONE_CONFIG = "a run is made of configs/train.yaml; <group>=<name> chooses a file of it, -cd <folder> adds files of your own"
# What is not taken, and why.
REFUSED_OPTIONS = {
    "--experimental-rerun": "unpickles a file, which can run code; resume=<run folder> continues a run",
    **dict.fromkeys(("--config-name", "-cn", "--config-path", "-cp"), _ONE_CONFIG),
}
PACKAGE = ("--package", "-p")
RUNS = "runs/"  # where configs/hydra/runs.yaml puts them
COMPLETION = ("--shell-completion", "-sc")


def prepare(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments for Hydra: overrides, then options.

    Raises ConfigError with one line for every word that cannot be used.
    """
    options, overrides = _split(arguments)
    if any(option in COMPLETION for option in options):
        return list(arguments)
    in_sweep = is_sweep(arguments)
    typed = [word for word in overrides if word != NO_EXPERIMENT]  # which is the default
    ready = [_quoted(word, in_sweep) for word in typed]
    problems = [_problem(*words, in_sweep) for words in zip(typed, ready, strict=True)]
    if any(problems):
        raise ConfigError("\n".join(printable(problem) for problem in problems if problem))
    _check_package(options, ready, in_sweep)
    return [*ready, *options]


def check_paths(cfg: DictConfig) -> None:
    """Raises ConfigError or DataError if a file that a new run begins with is not there, before PyTorch is loaded."""
    here = str(Path.cwd())
    if "${" in here:
        raise ConfigError(f"{here}: Hydra takes ${{ in a folder's name for an interpolation; start in another folder")
    weights = cfg.model.weights
    if weights is not None and not is_name_of_weights(weights) and not expanded(weights).exists():
        raise ConfigError(f"model.weights: {weights}: there is no such checkpoint")
    if cfg.data._target_ == FOLDER_DATA and "root" in cfg.data:
        check_root(expanded(cfg.data.root))
        if "labels" in cfg.data:
            find_table(expanded(cfg.data.root), cfg.data.labels)


def prints(options: Sequence[str]) -> bool:
    """Returns whether something is printed and nothing trained."""
    return any(word in (*ANSWERS, *COMPLETION, "-c") or word.startswith("--cfg") for word in options)


def is_sweep(arguments: Sequence[str]) -> bool:
    """Returns whether the arguments ask for a sweep."""
    return any(word in (*SWEEP, "hydra.mode=MULTIRUN") for word in arguments)


def escaped(text: str) -> str:
    """Returns text that OmegaConf takes literally: `${` is escaped, and the backslashes before it are doubled."""
    return re.sub(r"(\\*)\$\{", lambda found: found.group(1) * 2 + r"\${", text)


def path_of(key: str, arguments: Sequence[str]) -> Path | None:
    """Returns the path of `key=path` among the arguments: as it is written if that is there, else without quotes."""
    values = [argument.partition("=")[2] for argument in arguments if key_of(argument) == key and "=" in argument]
    if not values or not values[-1]:
        return None
    text = values[-1]
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    if quoted and not Path(text).exists():
        text = text[1:-1].replace(f"\\{text[0]}", text[0]).replace("\\\\", "\\")
    return expanded(text) if text else None


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns Hydra's options, with their values, and the other words. Raises ConfigError for another option."""
    known = get_args_parser()._option_string_actions
    options: list[str] = []
    words: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name = word.partition("=")[0]
        if not word.startswith("-"):
            words.append(word)
        elif name in REFUSED_OPTIONS:
            raise ConfigError(f"{word}: {REFUSED_OPTIONS[name]}")
        elif name not in known:
            there = f"write {word.lstrip('-')}" if "=" in word else "train.py --hydra-help lists the options"
            raise ConfigError(f"{word}: there is no such option; {there}")
        else:
            options.append(word)
            nargs, choices = known[name].nargs, known[name].choices
            if nargs == 0 and "=" in word:
                raise ConfigError(f"{word}: {name} takes no value")
            if nargs is None and "=" not in word and not rest:
                raise ConfigError(f"{word}: needs a value{': ' + ', '.join(choices) if choices else ''}")
            if "=" not in word and (
                nargs is None or (nargs == "?" and rest and not is_override(rest[0]) and not rest[0].startswith("-"))
            ):
                options.append(rest.pop(0))
                if choices and options[-1] not in choices:
                    raise ConfigError(f"{name} {options[-1]}: must be one of {', '.join(choices)}")
    return options, words


def _quoted(word: str, in_sweep: bool) -> str:
    """Returns an override whose value is text for Hydra, if it is a path or a name: `Pictures (1)`, `~/a=b`, `2026`."""
    key, equals, value = word.partition("=")
    is_text = key_of(word) in (*rules.PATHS, *HYDRA_FOLDERS, "name") and key_of(word) != "resume"  # which never gets there
    if not equals or not is_text or value in ("", "null") or value[0] in "'\"":
        return word
    parts = value.split(",") if in_sweep and not Path(value).exists() else [value]
    parts = [str(expanded(part)) if part.startswith("~") and key_of(word) != "name" else part for part in parts]
    return f"{key}={','.join(map(_as_text, parts))}"


def _as_text(value: str) -> str:
    if "${" in value:
        if not Path(value).exists():  # an interpolation
            return value
        value = escaped(value)
    return "'" + re.sub(r"(\\*)('|$)", lambda found: found.group(1) * 2 + ("\\'" if found.group(2) else ""), value) + "'"


def _problem(typed: str, word: str, in_sweep: bool) -> str | None:
    """Returns what is wrong with an override, as it was typed and as it is for Hydra; None if nothing is."""
    key, equals, value = typed.partition("=")
    name = key_of(typed)
    if not is_override(typed) or not name or name.startswith("@"):
        return f"{typed}: is not key=value"
    if name == "resume":  # a path, whatever it looks like
        return None
    if name.partition(".")[0] in schema.OF_SWEEPS and not in_sweep:
        return f"{typed}: is a setting of sweeps, which begin with -m"
    if name.startswith("hydra") and (why := _refused_of_hydra(typed, name, in_sweep)):
        return why
    if name in HYDRA_FOLDERS and equals and not value.strip("'\""):
        return f"{typed}: is empty; it takes a folder"
    if typed.startswith("~") and name in schema.sections():
        return f"{typed}: every run needs {name}; leave this word out"
    if name in (*schema.groups(), "experiment") and equals and (value == "null" or value[:1] in ("[", "{")):
        return f"{typed}: takes one name ({', '.join(names_of(name))}); several need -m: {name}=<name>,<name>"
    try:
        override = OverridesParser.create().parse_override(word)
        if why := _wrong_value(name, override):
            return f"{typed}: {why}"
        if not override.is_sweep_override():
            return None
        if not in_sweep:
            return f"{typed}: several values need -m; as a list they are {key}=[{value}]"
        if not override.is_discrete_sweep():  # interval(): for a search
            return None
        return None if next(iter(override.sweep_string_iterator()), None) is not None else f"{typed}: there is no value in it"
    except HydraException as error:
        if "ConfigLoader" in str(error):  # glob(*): over the names in a group
            return None
        quoted = shlex.quote(f'{key}="{value}"')
        return f"{typed}: cannot be read; special characters need quotes inside quotes: {quoted}"
    except (ValueError, TypeError) as error:
        return f"{typed}: {error}"


def _wrong_value(name: str, override: Override) -> str | None:
    """Returns why one of the values of an override, as Hydra reads it, cannot be."""
    if override.is_delete() or (override.is_sweep_override() and not override.is_discrete_sweep()):
        return None
    values = list(override.sweep_string_iterator()) if override.is_sweep_override() else [override.value()]
    if name in schema.groups() and "null" in values:
        return f"takes names ({', '.join(names_of(name))}), not null"
    for value in values if name == "name" else ():
        text = str(value).strip("'").strip()
        if not text:
            return f"is empty; it takes a name, of a folder in {RUNS}"
        if text.startswith("~") or Path(text).is_absolute() or ".." in Path(text).parts or Path(text) == Path():
            return f"must be the name of a folder in {RUNS}; hydra.run.dir=<folder> takes any folder"
    return None


def _check_package(options: Sequence[str], overrides: Sequence[str], in_sweep: bool) -> None:
    """Raises ConfigError if `--package` names no part of the config that these overrides make."""
    for option, following in itertools.pairwise([*options, ""]):
        name, equals, value = option.partition("=")
        package = value if equals else following
        if name not in PACKAGE or package == "_global_":
            continue
        there = sorted({*schema.sections()} | ({"hydra"} if "job" not in options else set()))
        is_there = package.partition(".")[0] in there
        if is_there and not in_sweep and all(key_of(word) != "resume" for word in overrides):
            is_there = OmegaConf.select(composed(overrides, with_hydra=True), package) is not None
        if not is_there:
            raise ConfigError(
                f"{name} {package}: there is no such part of the config, or it is null; its parts are {', '.join(there)}"
            )


def _refused_of_hydra(typed: str, name: str, in_sweep: bool) -> str | None:
    """Returns why a run does not take this setting of Hydra's own; None if it does, or if a sweep has more to say of it."""
    if typed in ("hydra/job_logging=none", "hydra.mode=RUN", "hydra.mode=MULTIRUN") or (
        in_sweep and re.match(r"hydra[./](sweep|launcher)", name)
    ):
        return None
    why = next((why for key, why in REFUSED_OF_HYDRA.items() if f"{name}.".startswith(f"{key}.")), None)
    if why is not None:
        return f"{typed}: cannot be set: {why}"
    taken = any(f"{name}.".startswith(f"{key.partition('<')[0].rstrip('.')}.") for key in OF_HYDRA)
    if taken and name != "hydra.callbacks" and not typed.startswith("~"):
        return None
    return f"{typed}: is not for runs, which take of Hydra {', '.join(OF_HYDRA)}"
