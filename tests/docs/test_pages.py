"""The pages say what the code says: names, levels, tags, links, pictures; and the README is short."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from helpers.configs import ROOT
from PIL import Image

from vgg_nll.benchmarks.tables import filled
from vgg_nll.evaluation.registry import GROUPS, METRICS, View, shown_in
from vgg_nll.evaluation.report import FIRST
from vgg_nll.run_folder import paths
from vgg_nll.tracking import tags
from vgg_nll.training import gradients

TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [*TOP, *sorted((ROOT / "docs").glob("*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def links(page: Path) -> list[str]:
    """Returns the targets of links and pictures, without those in code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text))


def anchors(page: Path) -> set[str]:
    """Returns the anchors that GitHub makes of the headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def section(page: str, title: str) -> str:
    """Returns the text below a heading, up to the next one."""
    return re.split(r"^#+ ", (ROOT / page).read_text().partition(f"# {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def code_block(text: str) -> str:
    return text.split("```")[1].strip()


def test_the_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") <= 150
    assert len(text.split()) <= 1300


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    found = links(page)
    assert found
    for link in found:
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_and_picture_is_linked() -> None:
    linked = {(page.parent / link.partition("#")[0]).resolve() for page in PAGES for link in links(page)}
    assert {path.name for path in (ROOT / "docs").iterdir() if path.is_file()} == {
        path.name for path in linked if path.parent == ROOT / "docs"
    }
    of_readme = {link.removeprefix("docs/") for link in links(ROOT / "README.md")}
    assert {page.name for page in PAGES if page.name != "README.md"} <= of_readme


def test_files_that_are_named_exist() -> None:
    texts = [*PAGES, *(ROOT / "vgg_nll").rglob("*.py"), *(ROOT / "configs").rglob("*.yaml")]
    named = {
        name for path in texts for name in re.findall(r"\b(?:tests|vgg_nll|scripts|configs)/[\w/]+\.\w+", path.read_text())
    }
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_levels_are_those_that_are_checked() -> None:
    (contract,) = [found for found in PROJECT["tool"]["importlinter"]["contracts"] if found["type"] == "layers"]
    assert code_block(section("docs/architecture.md", "Levels")).splitlines() == contract["layers"]


def test_rooms_are_those_of_the_package() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", section("docs/architecture.md", "Rooms"), re.MULTILINE)
    assert sorted(rows) == sorted(path.parent.name for path in (ROOT / "vgg_nll").glob("*/__init__.py"))


def test_run_folder_names_are_those_of_the_code() -> None:
    shown = code_block(section("docs/architecture.md", "Run folder"))
    names = [value for name, value in vars(paths).items() if name.isupper() and isinstance(value, str)]
    hidden = {paths.DAMAGED}  # on docs/reliability.md
    missing = {name for name in names if Path(name).name not in shown and name not in hidden}
    inside = {
        paths.CONFIG,
        paths.OVERRIDES,
        paths.EVALUATION_METRICS,
        paths.ERRORS,
        paths.CONFUSIONS,
        paths.THRESHOLDS,
        paths.SUSPICIOUS_LABELS,
    }  # their folders are shown
    assert missing <= inside
    assert Path(paths.DAMAGED).name in (ROOT / "docs" / "reliability.md").read_text()


def test_tags_are_those_of_the_code() -> None:
    rows = [line for line in section("docs/tensorboard.md", "Tags").splitlines() if line.startswith("| `")]
    shown_tags = [tag for row in rows for tag in re.findall(r"`([^`]+)`", row.split("|")[1])]
    training = {
        value for name, value in vars(tags).items() if isinstance(value, str) and value.startswith(("optimizer/", "speed/"))
    }
    pushes = {f"{tags.PUSH}{loss}/{push}" for loss in gradients.LOSSES for push in tags.PUSHES}
    others = {*tags.TRAIN_EVAL.values(), *tags.LAYER_NORMS, *pushes, tags.FORGOTTEN, tags.LEARNT, tags.BEST_STEP}
    of_runs = (metric for metric in METRICS.values() if View.FILES not in metric.views)
    others |= {f"{tags.TEST}{metric.name}" for metric in of_runs if not metric.tag}
    every = {*tags.VALIDATION.values(), tags.LOSS_TRAIN, tags.ACCURACY_TRAIN, *training, *others}
    assert sorted(shown_tags) == sorted(every)


def test_metrics_are_those_of_the_registry() -> None:
    page = (ROOT / "docs/tensorboard.md").read_text()
    assert page == filled(page, ROOT), "a row of a metric is new or has changed: python scripts/tables.py writes the page"
    rows = section("docs/tensorboard.md", "Tags").partition("<!-- end -->")[0]
    assert re.findall(r"^\| (?:`[^|]+|-) \| `(\w+)` \|", rows, re.MULTILINE) == list(METRICS)


def test_every_metric_is_explained_once() -> None:
    """A row of its own, or one that it shares, in the tables of docs/metrics.md; and no row is of a metric that is gone."""
    before, _, figures = (ROOT / "docs/metrics.md").read_text().partition("## Figures with errors")
    rows = re.findall(r"^\| (`[a-z][^|]*`) \|", before.partition("## Right and wrong")[2], re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row) if not re.fullmatch(r"argmax|all_logit", name)]
    parts = re.findall(r"^\| ([^|]*`[^|]*) \|", figures, re.MULTILINE)
    errors = re.findall(r"`(\w+)`", parts[0])
    ends = [end for part in parts for end in re.findall(r"`<e>(\w+)`", part)]
    alone = [name for part in parts[1:] for name in re.findall(r"`([a-z]\w+)`", part)]
    svs = [f"{name}_svs" for name in alone if name.startswith(("refinement", "calibration"))]
    assert len(errors) == len(ends) == len(svs) == 4
    assert sorted(named + alone + svs + [f"{error}{end}" for error in errors for end in ends]) == sorted(METRICS)


def test_printed_table_is_that_of_the_code() -> None:
    shown = code_block(section("docs/results.md", "The table that a run prints")).splitlines()
    rows = [line.split()[0] for line in shown if re.fullmatch(r" *\w+(?: %| \(log-odds\))? +-?[\d.]+ +-?[\d.]+.*", line)]
    rest = [metric for metric in shown_in(View.TABLE) if metric.name not in FIRST]
    final = [*FIRST, *(metric.name for group in GROUPS for metric in rest if metric.group == group)]
    assert len(rows) >= 19  # of a dated run: a metric may be younger
    assert rows == [name for name in final if name in rows]


def colours(path: Path) -> set[tuple[int, ...]]:
    """Returns the colours of a picture that fill at least 20 pixels each."""
    with Image.open(path) as picture:
        counted = picture.convert("RGB").getcolors(maxcolors=picture.width * picture.height)
    assert counted is not None
    return {colour for count, colour in counted if count >= 20 and isinstance(colour, tuple)}


@pytest.mark.slow
def test_pictures_of_the_losses_are_made(script: Callable[..., int], tmp_path: Path) -> None:
    """Every picture on docs/losses.md, by the script that it names: of the shipped one's size, and drawn in colours."""
    assert script("plot_losses", tmp_path) == 0
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {link for link in links(ROOT / "docs" / "losses.md") if link.endswith(".png")}
    for name in made:
        with Image.open(ROOT / "docs" / name) as shipped, Image.open(tmp_path / name) as own:
            assert own.size == shipped.size, name
        found = colours(tmp_path / name)
        assert len(found) >= 10, f"{name}: {found}"
        assert any(max(colour) - min(colour) > 100 for colour in found), f"{name}: nothing but black, white and grey"


def test_citation() -> None:
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert content["cff-version"] == "1.2.0"
    assert content["authors"] == [{"name": "vgg-nll maintainers"}]
    assert content["message"]
    assert content["title"]
    assert str(content["version"]) == PROJECT["project"]["version"]
    assert f"[{content['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_hooks_are_the_tools_of_the_project() -> None:
    path = ROOT / ".pre-commit-config.yaml"
    subprocess.run([sys.executable, "-m", "pre_commit", "validate-config", path], check=True)
    (repository,) = yaml.safe_load(path.read_text())["repos"]
    programs = [hook["entry"].split()[0] for hook in repository["hooks"]]
    tools = {re.split(r"[>\[]", requirement)[0] for requirement in PROJECT["project"]["optional-dependencies"]["dev"]}
    assert programs
    for program in programs:
        assert program.startswith(".venv/bin/")
        assert Path(program).name in tools
