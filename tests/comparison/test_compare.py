"""scripts/compare.py, on real runs and with bad input."""

import base64
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.runs import read_events
from PIL import Image
from scipy import stats
from sweeps.fake import write_sweep

from vgg_nll.comparison import figures

MakeRun = Callable[..., Path]
MakeAccuracies = Callable[..., None]
Script = Callable[..., int]


@pytest.fixture(autouse=True)
def errors_as_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have asked for tracebacks."""
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)


def rows_of(markdown: str, title: str) -> dict[str, dict[str, str]]:
    """The first table behind a title: first cell of a row -> head -> cell."""
    lines = re.search(r"(^\|.*\n)+", markdown[markdown.index(title) :], re.MULTILINE)[0].splitlines()
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in lines)
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


@pytest.mark.slow
def test_real_runs(real_runs: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    """The numbers of the report, recomputed from the metrics.json of the runs."""
    assert script("compare", real_runs, "--output", tmp_path) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.endswith(f"written to {tmp_path}\n")
    assert "4 finished runs of all_logit, argmax; seeds 0, 1." in out
    assert "These runs differ in nothing but loss and seed" in out and "What is missing" not in out
    markdown = (tmp_path / "comparison.md").read_text()
    difference, means = rows_of(markdown, "all_logit − argmax"), rows_of(markdown, "In detail")
    folders = {loss: [real_runs / f"{loss}{seed}" for seed in (0, 1)] for loss in ("all_logit", "argmax")}
    for name, title, factor, digits in (("nll_argmax", "NLL (argmax)", 1, 4), ("confidence", "confidence %", 100, 2)):
        values = {
            loss: np.array([factor * json.loads((run / "metrics.json").read_text())["test"][name] for run in runs])
            for loss, runs in folders.items()
        }
        for loss, value in values.items():
            mean, spread = f"{value.mean():.{digits}f}", f"{value.std(ddof=1):.{digits}f}"
            assert difference[title][loss] == mean
            assert means[title][f"{loss} (n = 2)"].startswith(f"{mean} ± {spread} (")
        change = values["all_logit"] - values["argmax"]
        assert float(difference[title]["difference"]) == pytest.approx(change.mean(), abs=10**-digits)
        assert difference[title]["p"] == f"{stats.ttest_1samp(change, 0).pvalue:.3f}"
    html = (tmp_path / "comparison.html").read_text()
    assert 'class="warning"' not in html  # all is well
    embedded = [base64.b64decode(data) for data in re.findall(r"base64,([\w+/=]+)", html)]
    names = ["intervals", "curves", "reliability", "margins", "intervals_after_temperature"]
    assert embedded[:5] == [(tmp_path / f"{name}.png").read_bytes() for name in names]
    for picture in embedded[:5]:
        assert len(Image.open(io.BytesIO(picture)).convert("RGB").getcolors(1 << 24) or ()) > 10


@pytest.mark.slow
def test_curves_of_real_runs(real_runs: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of the figure are the means of the curves that TensorBoard reads."""
    drawn: list[Any] = []
    draw = figures.curves

    def spy(losses: Mapping[str, Any]) -> Any:
        drawn.append(draw(losses))
        return drawn[-1]

    monkeypatch.setattr(figures, "curves", spy)
    assert script("compare", real_runs, "--output", tmp_path) == 0
    (figure,) = drawn
    panels = {axes.get_title(): axes for axes in figure.axes}
    for tag, title in figures.COMPARABLE.items():
        assert [line.get_label() for line in panels[title].lines] == ["all_logit", "argmax"]
        for line in panels[title].lines:
            curves = [read_events(real_runs / f"{line.get_label()}{seed}").Scalars(tag) for seed in (0, 1)]
            assert list(line.get_xdata()) == [point.step for point in curves[0]] != []
            expected = np.mean([[point.value for point in curve] for curve in curves], axis=0)
            assert np.allclose(line.get_ydata(), expected, rtol=1e-6)


def test_command(
    tmp_path: Path,
    make_run: MakeRun,
    make_accuracies: MakeAccuracies,
    script: Script,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_accuracies(tmp_path / "runs", argmax=[0.9, 0.94])
    make_run(tmp_path / "runs" / "running", "argmax", done=False)
    monkeypatch.chdir(tmp_path)
    assert script("compare") == 0  # "runs" is the default
    out, err = capsys.readouterr()
    assert err == "left out, not finished: runs/running\n"
    assert out.endswith("written to runs/comparison\n") and "| 92.00 ± 2.83 " in out
    assert (tmp_path / "runs" / "comparison" / "comparison.html").is_file()
    assert script("compare", "runs/argmax0", "runs/argmax1", "--output", "out") == 0
    assert "2 finished runs" in (tmp_path / "out" / "comparison.md").read_text()
    assert capsys.readouterr().err == ""


def test_several_folders(
    tmp_path: Path, make_accuracies: MakeAccuracies, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_accuracies(tmp_path / "runs", argmax=[0.9, 0.94])
    monkeypatch.chdir(tmp_path)
    assert script("compare", "runs/argmax0", "runs/argmax1") == 0
    assert (tmp_path / "runs" / "comparison" / "comparison.md").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone"], "error: gone: there is no such folder"),
        (["good", "file"], "error: file: is not a folder"),
        (
            ["empty"],
            "error: empty: no finished run there (the folder of a finished run holds DONE and metrics.json); "
            "name another folder",
        ),
        (
            ["good", "--output", "file"],
            "error: file: cannot be written (File exists); choose another folder with --output",
        ),
    ],
)
def test_bad_input(
    tmp_path: Path,
    make_run: MakeRun,
    script: Script,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("file").touch()
    make_run(Path("good"), "argmax")
    assert script("compare", *arguments) == 1
    assert capsys.readouterr().err == message + "\n"


def test_only_a_damaged_run(tmp_path: Path, make_run: MakeRun, script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    (make_run(tmp_path / "damaged", "argmax") / "metrics.json").write_text("{")
    assert script("compare", tmp_path / "damaged") == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"left out: {tmp_path}/damaged/metrics.json: is damaged: ") and "no finished run" in second


def test_every_job_of_a_sweep_is_accounted_for(
    make_run: MakeRun, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write_sweep(tmp_path / "s", lambda folder, seed: make_run(folder, "argmax", seed))
    assert script("compare", sweep) == 0
    printed = capsys.readouterr()
    assert f"- {sweep}: 6 jobs: 2 finished, 1 failed, 1 pruned, 1 missing, 1 interrupted" in printed.out
    assert f"left out, not finished: {sweep}/failed (failed: why it failed)" in printed.err
    assert f"left out, not finished: {sweep}/pruned (pruned: why it pruned)" in printed.err
    assert f"left out, missing: {sweep}/missing" in printed.err
    assert "Left out: 4 runs" in printed.out
    assert (sweep / "comparison/runs.csv").read_text().count("\n") == 3
