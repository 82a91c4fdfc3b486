"""`--help`: every setting, what it means, and its value as it can be typed."""

import functools
import re
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path

import pytest
from helpers.configs import compose_config

from vgg_nll.cli import help_page
from vgg_nll.config import compose, schema
from vgg_nll.config.rules import RULES

GROUPS = [[f"{group}={path.stem}" for path in sorted((compose.CONFIGS / group).glob("*.yaml"))] for group in schema.groups()]
# Every choice of every group, in few combinations.
CHOICES = [tuple(filter(None, row)) for row in zip_longest(*GROUPS)] + [("experiment=overfit",)]
OF_SWEEPS = [("launcher=local", "search=grid"), ("launcher=slurm", "search=optuna")]


@functools.cache
def page_of(choices: tuple[str, ...]) -> str:
    return help_page.page(choices)


def settings(page: str) -> dict[str, str]:
    """Returns {"trainer.epochs=6": "passes over ...", ...}, for the chosen names of groups, too."""
    found: dict[str, str] = {}
    for line in page.partition("Settings")[2].splitlines():
        left, right = line[2:36].strip(), line[36:].strip()
        if len(line) > 36 and line[35] != " ":  # too long for the column
            left, right = line[2:].strip(), ""
        if line[:2] in ("  ", "* ") and "=" in left and " " not in left:
            last = left
            found[("* " if line[0] == "*" else "") + left] = right
        elif line.startswith(" " * 36):
            key = last if last in found else f"* {last}"
            found[key] = f"{found[key]} {right}".strip()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("choices", CHOICES)
def test_every_setting_is_explained(choices: tuple[str, ...]) -> None:
    """In 100 columns; and all values, typed on top of the default config, give the config of the page."""
    assert max(map(len, page_of(choices).splitlines())) <= 100
    found = settings(page_of(choices))
    assert {f"* {choice}" for choice in choices} <= found.keys()
    found = {
        name: text for name, text in found.items() if re.split(r"[.=]", name.removeprefix("* "))[0] not in schema.OF_SWEEPS
    }
    assert [name for name, text in found.items() if not text] == []
    typed = [name.removeprefix("* ") for name in found if name[0] == "*" or "." in name.partition("=")[0]]
    cfg = compose_config(*(item for item in typed if not item.endswith("=???")))
    assert schema.leaves(cfg) == schema.leaves(compose_config(*choices))


@pytest.mark.parametrize("choices", OF_SWEEPS)
def test_every_setting_of_sweeps_is_explained(choices: tuple[str, ...]) -> None:
    found = settings(page_of(choices))
    assert {f"* {choice}" for choice in choices} <= found.keys()
    of_sweeps = {
        name: text for name, text in found.items() if re.split(r"[.=]", name.removeprefix("* "))[0] in schema.OF_SWEEPS
    }
    assert len(of_sweeps) > 7 and all(of_sweeps.values())


def test_every_rule_has_its_line() -> None:
    pages = "\n".join(map(page_of, [*CHOICES, *OF_SWEEPS]))
    assert [key for key in RULES if f"  {key}=" not in pages and key != "loss.reduction"] == []


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(command: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str) -> None:
    assert command(option, "-m", "loss=all_logit", "seed=1,2", "optimizer.lr=0.3", "resume=none", "data=image_folder") == 0
    page = capsys.readouterr().out
    assert "* loss=all_logit  " in page
    assert "  optimizer.lr=0.3  " in page
    assert "  seed=0  " in page
    assert "  data.root=???  " in page
    assert re.search(r"data.image_size=224 +pixels that the network sees", page)  # the comment of the chosen file
    assert list(tmp_path.iterdir()) == []
    assert command(option, "loss=nope") == 1
    assert "there is no such loss; there are all_logit, argmax" in capsys.readouterr().err
