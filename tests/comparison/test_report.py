"""The report: what it says first, what the page and the Markdown file hold."""

import base64
import io
import re
import shutil
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import write_events
from PIL import Image

from vgg_nll.comparison import figures, report
from vgg_nll.comparison.page import Report, Section
from vgg_nll.comparison.runs import find
from vgg_nll.comparison.tables import Table
from vgg_nll.run_folder import paths

MakeRun = Callable[..., Path]
MakeAccuracies = Callable[..., None]


def report_of(*folders: Path) -> Report:
    """The report of all runs in these folders."""
    return report.make(*find(folders))


def cells_of(line: str) -> list[str]:
    """The cells of a row of a Markdown table."""
    return [cell.strip() for cell in line.strip("|").split(" | ")]


class Page(HTMLParser):
    """Reads a page, and fails if an element is not closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.anchors: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(path.read_text())
        assert self.open == []

    @property
    def pictures(self) -> list[str]:
        return [source for source in self.sources if not source.startswith("#")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        self.anchors += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.slow
def test_the_page_holds_everything(tmp_path: Path, make_accuracies: MakeAccuracies) -> None:
    make_accuracies(tmp_path, argmax=[0.9, 0.94], all_logit=[0.96, 0.98])
    for run in tmp_path.iterdir():
        seed = int(run.name[-1])
        write_events(run, ("loss/train", 1, 2.0 + seed), ("accuracy/val", 1, 0.5), ("accuracy/train", 1 + seed, 0.5))
    report_of(tmp_path).write(tmp_path / "out" / "side")
    files = {path.name: path for path in (tmp_path / "out" / "side").iterdir()}
    tables = {"runs.csv", "curves.csv"}
    names = ["intervals.png", "curves.png", "reliability.png", "margins.png"]
    assert set(files) == {"comparison.html", "comparison.md", *names} | tables
    html, markdown = Page(files["comparison.html"]), files["comparison.md"].read_text()
    pictures = [base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in html.pictures]
    assert pictures == [files[name].read_bytes() for name in names]
    for picture in pictures:
        assert len(Image.open(io.BytesIO(picture)).convert("RGB").getcolors(1 << 24) or ()) > 10
    assert re.findall(r"\]\((.*?)\)", markdown) == names
    raw = re.sub(r"base64,[\w+/=]+", "", files["comparison.html"].read_text())
    assert not re.search(r"https?:|//|url\(|@import|<script |<link", raw)  # it needs no other file
    assert "prefers-color-scheme: dark" in raw and 'name="viewport"' in raw
    for text in (html.text, markdown):
        assert "92.00 ± 2.83" in text and "+5.00" in text  # (96 - 90 + 98 - 94) / 2
        assert "argmax\nECE" not in text and "Not drawn, since the seeds share no step: accuracy/train of " in text
        assert "4 finished runs of all_logit, argmax; seeds 0, 1. All with CPU, float32, torch 2.14." in text
        assert "differ in nothing but loss and seed (compared: config, device, precision, versions, commit)" in text
        assert "digits, vgg16, default: 4 of 4 runs have no outputs.npz, so nothing after temperature scaling" in text
    assert html.text.index("+5.00") < html.text.rindex("In detail")
    assert "## Differences, paired by seed\n" in markdown  # several groups would be named here
    answer = "No difference can be told between all_logit and argmax: 1 of 1 intervals contain zero. A difference of "
    assert markdown.startswith(f"# Comparison of losses\n\n{answer}") and "\n\n\n" not in markdown
    links = [source for source in html.sources if source.startswith("#")]
    assert {link.removeprefix("#") for link in links} == set(html.anchors) and len(html.anchors) > 4


@pytest.mark.slow
def test_differences_come_first(tmp_path: Path, make_run: MakeRun, make_accuracies: MakeAccuracies) -> None:
    make_accuracies(tmp_path, argmax=[0.9, 0.94])
    evil = "<script>alert(1)</script>|"
    make_run(tmp_path / "x", "all_logit", overrides=(f"a={evil}",), leaves={"a": evil})
    make_run(tmp_path / "running", "argmax", done=False)
    made = report_of(tmp_path)
    made.write(tmp_path / "out")
    html = Page(tmp_path / "out" / "comparison.html")
    assert html.tags.count("script") == 1  # the page's own, which sorts and filters
    assert "<script>alert" not in (tmp_path / "out" / "comparison.html").read_text()
    differs = f"a: {evil} (1 run), absent (2 runs)"
    for text in (html.text, (tmp_path / "out" / "comparison.md").read_text(), made.printed()):
        assert -1 < text.index("These runs differ in more than loss and seed:") < text.index(differs) < text.index("accuracy %")
        assert "Differences, paired by seed: digits, vgg16, default\n" in text
        assert "Only one loss was trained with these settings: there is nothing to compare it with." in text
        assert "Left out: 1 run, listed at the end" in " ".join(text.split())
        assert "3 of 3 runs: no curves (tracking=none, or event files that cannot be read)" in text
    assert html.text.partition("\naddEventListener(")[0].rstrip().endswith(f"left out, not finished: {tmp_path}/running")
    names = ["margins-1.png", "margins-2.png", "reliability-1.png", "reliability-2.png"]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == names
    assert "script>" in made.printed() and "|<" not in made.printed()  # a cell, and no end of a table


@pytest.mark.slow
def test_event_files_that_are_damaged_or_of_another_run_are_said(real_runs: Path, tmp_path: Path) -> None:
    a, b = (Path(shutil.copytree(real_runs / name, tmp_path / name)) for name in ("argmax0", "argmax1"))
    assert "damaged" not in report_of(tmp_path).printed()
    (cut,), (other,) = (list(run.glob(paths.EVENT_FILES)) for run in (a, b))
    shutil.copy(cut, b / "events.out.tfevents.1")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    text = " ".join(report_of(tmp_path).printed().split())
    assert re.search(
        rf"- {cut}: is damaged, so the points after step \d+ are missing; copy it again if it is whole elsewhere", text
    )
    assert f"- {b}/events.out.tfevents.1: is of another run; remove it, or put the file of this run in its place" in text
    assert str(other) not in text
    other.unlink()
    (b / "events.out.tfevents.1").unlink()
    assert "1 of 2 runs: no curves" in " ".join(report_of(tmp_path).printed().split())


def test_long_cells_are_wrapped(tmp_path: Path) -> None:
    section = Section("a title", table=Table(("a", "b"), [("x" * 41, "y" * 40)]), level=3)
    Report([section], [], [], {}).write(tmp_path)
    html = (tmp_path / "comparison.html").read_text()
    assert f'<tr><td data-column="a" class="long">{"x" * 41}</td><td data-column="b">{"y" * 40}</td></tr>' in html
    assert "td.long { overflow-wrap: anywhere; }" in html
    assert "<h3>a title</h3>" in html and "<p></p>" not in html


@pytest.mark.slow
def test_the_terminal_is_100_columns_wide(tmp_path: Path, make_run: MakeRun) -> None:
    """With long names and settings; what is equal in all rows stands once, above."""
    for loss in ("argmax", "all_logit"):
        for epochs in (4, 123456):
            setting = (f"trainer.epochs={epochs}", f"data.a_setting_with_a_long_name={'x' * 60}")
            for seed in (0, 1):
                options: dict[str, Any] = {"overrides": setting, "leaves": {"trainer.epochs": epochs}}
                make_run(tmp_path / f"{loss}{epochs}{seed}", loss, seed, model="a_model_of_a_long_name", **options)
    made = report_of(tmp_path)
    lines = made.printed().splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert max(map(len, table)) <= 100
    assert max(len(line) for line in lines if not line.startswith(("- ", "#"))) <= 100
    assert "All: data digits, model a_model_of_a_long_name." in made.printed()
    rows = [line for line in table if "epochs=" in line]
    assert len(rows) == 4 and all("25.00" in row for row in rows)
    assert any("margin" in line for line in table)
    (tmp_path / "out").mkdir()
    made.write(tmp_path / "out")
    assert "95% interval" in (tmp_path / "out/comparison.md").read_text()  # the files have every column


@pytest.mark.slow
def test_says_if_there_is_one_seed(tmp_path: Path, make_run: MakeRun, make_accuracies: MakeAccuracies) -> None:
    make_accuracies(tmp_path, argmax=[0.9], all_logit=[0.8])
    make_run(tmp_path / "x", "all_logit", 1)
    text = report_of(tmp_path).printed()
    assert "digits, vgg16, default: only one seed of argmax, so no standard deviation and no interval" in text
    assert "seeds differ (all_logit 0, 1; argmax 0); differences are over those that both losses have" in text
    assert "Over seeds 0, so no interval and no p-value:" in text
    rows = [cells_of(line) for line in text.splitlines() if line.startswith("| accuracy %")]
    assert rows == [["accuracy %", "80.00", "90.00", "-10.00", "none (n = 1)", "-"]]
    assert (
        "all_logit and argmax: they have one seed in common, and an interval needs two or more. Train both with seed=0,1,2,3,4."
        in " ".join(text.split())
    )


@pytest.mark.slow
def test_says_if_no_seed_is_shared(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path / "a", "argmax", 0)
    make_run(tmp_path / "b", "all_logit", 1)
    assert "No seed in common, so no difference." in report_of(tmp_path).printed()


def test_says_which_duplicate_counts(tmp_path: Path, make_run: MakeRun) -> None:
    first, second = (make_run(tmp_path / name, "argmax") for name in ("a", "a0"))
    assert f"- left out, same settings and seed: {first} ({second} counts)" in report_of(tmp_path).printed()


def test_says_if_there_is_no_test_split(tmp_path: Path, make_run: MakeRun) -> None:
    for seed in range(2):
        make_run(tmp_path / f"{seed}", "argmax", seed, test=None, reliability=None)
    made = report_of(tmp_path)
    assert (
        "- digits, vgg16, default: no test split, so no reliability diagram, and nothing after temperature scaling; "
        "the numbers are of the validation images, on which the best step was chosen\n"
    ) in made.printed()
    assert "test accuracy" not in made.printed()
    assert [[picture.name for picture in section.pictures] for section in made.details] == [["margins"]]


@pytest.mark.slow
def test_reliability_is_summed(tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    draw = figures.reliability

    def spy(diagrams: Sequence[Any]) -> Any:
        seen.extend(diagrams)
        return draw(diagrams)

    monkeypatch.setattr(figures, "reliability", spy)
    for seed in range(2):
        make_run(tmp_path / f"{seed}", "argmax", seed)
    make_run(tmp_path / "2", "argmax", 2, test=None)  # a group of its own, without a diagram
    report_of(tmp_path)
    ((title, by_seed),) = seen
    assert title == "argmax\nECE 4.00%, mean of 2 seeds"
    assert by_seed.shape == (2, 3, 15)
    assert by_seed.sum(0)[:, -2:].tolist() == [[20, 180], [12, 178], [18, 176]]
