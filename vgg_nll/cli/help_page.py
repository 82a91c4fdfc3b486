"""`--help`: every setting with its value and the comment that stands beside it in configs/, by group."""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from vgg_nll.config import compose, schema
from vgg_nll.escapes import printable

WIDTH = 100
SETTING_WIDTH = 34
INDENT = "  "
USAGE = (
    ("python train.py [key=value ...]", "trains one network"),
    ("python train.py -m [sweep=NAME] key=a,b [...]", "a sweep: one run for each combination of values"),
    ("python train.py resume=FOLDER [...]", "continues a run"),
    ("python train.py [...] --cfg job", "prints the whole config, trains nothing"),
    ('eval "$(python train.py -sc install=bash)"', "Tab completes keys and names, in this bash"),
    ("python train.py --hydra-help", "all options of Hydra"),
)
LINE = re.compile(r"(?P<indent> *)(?P<key>\w+):(?P<value>[^#]*)(# (?P<comment>.*))?")


def page(overrides: Sequence[str]) -> str:
    """Returns the page for the config that these overrides make; a sweep's values are left out."""
    of_run = [item for item in overrides if compose.key_of(item).partition(".")[0] not in schema.OF_SWEEPS]
    cfg = compose.composed([item for item in of_run if _is_one_value(item)], with_hydra=True)
    chosen = {key: str(name) for key, name in cfg.hydra.runtime.choices.items()}
    texts = comments(compose.CONFIGS / "train.yaml")
    for group in schema.groups():
        texts |= {f"{group}.{key}": text for key, text in _comments_of_group(group, chosen[group]).items()}
    lines = [
        *_columns(USAGE, max(len(usage) for usage, _ in USAGE) + 2),
        "",
        "Settings, with their values now (* is chosen):",
        "",
    ]
    values = schema.leaves({str(key): value for key, value in cfg.items() if key != "hydra"})
    lines += _settings("", values, texts)
    for section in dict.fromkeys(_section_of(name) for name in values if "." in name):
        lines += ["", f"{section}:", *_options(section, chosen), *_settings(section, values, texts)]
    lines += ["", "experiment, several settings under one name:", *_options("experiment", chosen)]
    lines += ["", "With -m, for all jobs together (sweep=NAME is short for sweep.name=NAME):", *_of_sweeps(overrides)]
    return "\n".join(lines)


def _of_sweeps(overrides: Sequence[str]) -> Iterator[str]:
    own = [item for item in overrides if compose.key_of(item).partition(".")[0] in schema.OF_SWEEPS]
    own = [item for item in own if compose.key_of(item) != "sweep" and _is_one_value(item)]
    cfg = compose.composed(own, "sweep", with_hydra=True)
    chosen = {key: str(name) for key, name in cfg.hydra.runtime.choices.items()}
    texts = comments(compose.CONFIGS / "sweep.yaml")
    for group in schema.OF_SWEEPS:
        yield from ("", f"{group}:")
        if group in chosen:
            texts |= {f"{group}.{key}": text for key, text in _comments_of_group(group, chosen[group]).items()}
            yield from _options(group, chosen)
        yield from _settings(group, schema.leaves({group: cfg[group]}), texts)


def comments(path: Path) -> dict[str, str]:
    """Returns {"checkpoint.every_steps": comment, ...} for the keys of a config file that have one on their line."""
    found: dict[str, str] = {}
    section: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        match = LINE.fullmatch(line)
        if match is None:
            continue
        indent = len(match["indent"])
        section = [*(item for item in section if item[0] < indent), (indent, match["key"])]
        if match["comment"]:
            found[".".join(key for _, key in section)] = match["comment"]
    return found


def description(path: Path) -> str:
    """Returns what the head of a config file says, after the command on its first line."""
    text = path.read_text(encoding="utf-8").splitlines()
    head = [line[2:] for line in text[: next((i for i, line in enumerate(text) if not line.startswith("#")), None)]]
    command, *others = [line for line in head if not line.startswith("@package")]
    return ". ".join(part.rstrip(".") for part in (*re.split(" {2,}", command)[1:], *others))


def _is_one_value(item: str) -> bool:
    return not OverridesParser.create().parse_override(item).is_sweep_override()


def _comments_of_group(group: str, chosen: str) -> dict[str, str]:
    """Those of the chosen file; for keys that have none there, those of the others."""
    found: dict[str, str] = {}
    for path in sorted((compose.CONFIGS / group).glob("*.yaml"), key=lambda path: (path.stem != chosen, path.stem)):
        found = comments(path) | found
    return found


def _options(group: str, chosen: Mapping[str, str]) -> Iterator[str]:
    for path in sorted((compose.CONFIGS / group).glob("*.yaml")):
        mark = "* " if path.stem == chosen.get(group) else INDENT
        yield from _columns([(f"{group}={path.stem}", description(path))], SETTING_WIDTH, mark)


def _section_of(name: str) -> str:
    return name.partition(".")[0] if "." in name else ""


def _settings(section: str, values: Mapping[str, Any], texts: Mapping[str, str]) -> Iterator[str]:
    for name, value in values.items():
        is_target = name.rpartition(".")[2].startswith("_")  # the class that takes the settings
        if _section_of(name) == section and not is_target:
            yield from _columns([(f"{name}={_shown(value)}", texts.get(name, ""))], SETTING_WIDTH, INDENT)


def _shown(value: Any) -> str:
    """As it would be typed."""
    if isinstance(value, list):
        return f"[{','.join(map(_shown, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return printable(str(value))


def _columns(rows: Sequence[tuple[str, str]], width: int, first: str = INDENT) -> Iterator[str]:
    """Yields lines of two columns; a left side that is too long has its text below it."""
    for left, right in rows:
        start = f"{first}{left}"
        if len(start) >= len(first) + width:
            yield start
            start = ""
        room = " " * (len(first) + width)
        filled = textwrap.wrap(right, WIDTH - len(room)) or [""]
        yield f"{start:<{len(room)}}{filled[0]}".rstrip()
        yield from (room + line for line in filled[1:])
