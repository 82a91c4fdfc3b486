"""Single images in a comparison: margins, and the images on which losses disagree."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from helpers.runs import edit_json
from matplotlib.backends.backend_agg import FigureCanvasAgg

from vgg_nll.comparison import figures, predictions, report
from vgg_nll.comparison.grouping import Group, group_runs
from vgg_nll.comparison.runs import find
from vgg_nll.inference.pictures import read_pictures
from vgg_nll.run_folder import checksums

MakeRun = Callable[..., Path]
HEAD = "index,label,prediction,correct,margin,true_margin\n"


def write(run: Path, right: Sequence[int], margin: Sequence[float] | None = None) -> None:
    """Writes predictions.csv, with its checksum: image k is of class k modulo 2, and right or not."""
    rows = []
    for k, (is_right, m) in enumerate(zip(right, margin or [3.0] * len(right), strict=True)):
        label = k % 2
        rows.append(f"{k},class {label},class {label if is_right else 1 - label},{is_right},{m},{m if is_right else -m}\n")
    (run / "predictions.csv").write_text(HEAD + "".join(rows))
    edit_json(run / "metrics.json", checksums=checksums.of_tables(run))


def group_in(folder: Path) -> Group:
    ((group,), _) = group_runs(find([folder])[0])
    return group


def test_disagreement(tmp_path: Path, make_run: MakeRun) -> None:
    """Image 2: right under one loss only. Image 0: one of two seeds. Image 3: all wrong. Image 1: all right."""
    table = {"argmax": ([1, 1, 1, 0], [1, 1, 1, 0]), "all_logit": ([1, 1, 0, 0], [0, 1, 0, 0])}
    for loss, by_seed in table.items():
        for seed, right in enumerate(by_seed):
            write(make_run(tmp_path / f"{loss}{seed}", loss, seed), right)
    group = group_in(tmp_path)
    found, lines = predictions.read_group(group)
    assert lines == []
    result = predictions.disagreement(found, "all_logit", "argmax")
    assert result is not None
    assert result.indices == [2, 0]
    assert result.table.head[:3] == ("image", "label", "all_logit: right")
    assert result.table.rows == [
        ("2", "class 0", "0 of 2", "class 1", "-3.0", "2 of 2", "class 0", "+3.0"),
        ("0", "class 0", "1 of 2", "class 0", "+0.0", "2 of 2", "class 0", "+3.0"),
    ]
    assert predictions.margins(found, right=False)["argmax"].tolist() == [3.0, 3.0]
    assert len(predictions.margins(found, right=True)["all_logit"]) == 3


def test_agreement_and_other_images(tmp_path: Path, make_run: MakeRun) -> None:
    for loss, right in (("argmax", [1, 0]), ("all_logit", [1, 0])):
        write(make_run(tmp_path / loss, loss), right)
    found, _ = predictions.read_group(group_in(tmp_path))
    assert predictions.disagreement(found, "all_logit", "argmax") is None
    write(tmp_path / "argmax", [1, 0, 1])
    found, _ = predictions.read_group(group_in(tmp_path))
    assert predictions.disagreement(found, "all_logit", "argmax") is None
    assert predictions.disagreement(found, "all_logit", "sigmoid") is None


@pytest.mark.parametrize(
    "content", ["", HEAD, "a,b\n1,2\n", f"{HEAD}0,a,b,1,x,1\n", f"{HEAD}0,a\n", f"{HEAD}1,a,b,1,1,1\n", "\0"]
)
def test_a_damaged_file_is_said(tmp_path: Path, make_run: MakeRun, content: str) -> None:
    """Of a run from before, too, which has no checksums."""
    run = make_run(tmp_path / "a", "argmax")
    path = run / "predictions.csv"
    path.write_text(content)
    line = f"{path}: is damaged, or of another run: its checksum in metrics.json does not fit; copy it again"
    assert predictions.read_group(group_in(tmp_path)) == ({}, [line])
    edit_json(run / "metrics.json", checksums=None)
    line = f"{path}: is damaged: it is no table of predictions; copy it again"
    assert predictions.read_group(group_in(tmp_path)) == ({}, [line])
    assert "no table of predictions" in report.make(*find([tmp_path])).printed()


def test_files_of_another_run_and_missing_ones_are_said(tmp_path: Path, make_run: MakeRun) -> None:
    """A comparison uses none of them, and names each in a line. A run from before, without checksums, is not checked."""
    a, b = (make_run(tmp_path / loss, loss) for loss in ("argmax", "all_logit"))
    write(a, [1, 0, 1])
    write(b, [1, 1, 1])
    shutil.copy(b / "predictions.csv", a)
    (a / "metrics.csv").unlink()
    (b / "metrics.csv").write_text((b / "metrics.csv").read_text() + "1\n")
    text = " ".join(report.make(*find([tmp_path])).printed().split())
    assert f"- {a}/predictions.csv: is of another run, {b}; copy it again" in text
    assert f"- {a}/metrics.csv: is missing; copy it again" in text
    assert f"- {b}/metrics.csv: is damaged, or of another run: its checksum in metrics.json does not fit; copy it again" in text
    found, lines = predictions.read_group(group_in(tmp_path))
    assert list(found) == ["all_logit"]
    assert lines == [
        f"{a}/predictions.csv: is damaged, or of another run: its checksum in metrics.json does not fit; copy it again"
    ]
    for run in (a, b):
        edit_json(run / "metrics.json", checksums=None)
    found, lines = predictions.read_group(group_in(tmp_path))
    assert (sorted(found), lines) == (["all_logit", "argmax"], [])
    (a / "predictions.csv").unlink()
    text = " ".join(report.make(*find([tmp_path])).printed().split())
    assert "digits, vgg16, default: 1 of 2 runs have no predictions.csv, so no single images" in text
    assert "copy it again" not in text


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_infinite_log_odds_are_compared(tmp_path: Path, make_run: MakeRun) -> None:
    """Seeds with log-odds of inf and -inf have no mean; that is no warning."""
    for seed, right in enumerate(([1, 1], [1, 0])):
        write(make_run(tmp_path / f"argmax{seed}", "argmax", seed), right, [np.inf, np.inf])
        write(make_run(tmp_path / f"all_logit{seed}", "all_logit", seed), [1, 1], [3.0, np.inf])
    found, _ = predictions.read_group(group_in(tmp_path))
    result = predictions.disagreement(found, "all_logit", "argmax")
    assert result is not None and result.indices == [1]


def test_histograms_hold_every_image(tmp_path: Path) -> None:
    right = {"argmax": np.array([1.0, 2.0, 30.0]), "all_logit": np.array([5.0])}
    figure = figures.margin_histograms(right, {"argmax": np.array([]), "all_logit": np.array([-1.0, 2.0])})
    FigureCanvasAgg(figure).draw()
    left, other = figure.axes[:2]
    assert (left.get_title(), other.get_title()) == ("right predictions", "wrong predictions")
    labels = [text.get_text() for text in left.get_legend().get_texts()]
    assert labels == ["argmax (n = 3)", "all_logit (n = 1)"]
    for panel, filled in ((left, 2), (other, 1)):
        outlines = [np.asarray(cast(Any, patch).get_xy()) for patch in panel.patches]
        sums = [float(np.diff(xy[:, 0]).clip(0) @ xy[1:, 1]) for xy in outlines]
        width = (30.0 - -1.0) / figures.BINS
        assert sum(abs(total / width - 1) < 0.02 for total in sums) == filled  # each histogram sums to 1


@pytest.mark.slow
def test_real_runs_have_pictures(real_runs: Path, tmp_path: Path) -> None:
    """The pictures are the test images; the report shows them if the losses disagree."""
    drawn = read_pictures(real_runs / "argmax0", [5, 0], "test")
    assert drawn.shape == (2, 32, 32, 3)
    assert drawn.dtype == np.uint8
    assert not np.array_equal(drawn[0], drawn[1])
    assert np.array_equal(drawn[1], read_pictures(real_runs / "all_logit1", [0], "test")[0])
    with pytest.raises(IndexError, match="has 8 images"):
        read_pictures(real_runs / "argmax0", [8], "test")
    made = report.make(*find([real_runs]), read_images=read_pictures)
    names = [picture.name for section in made.details for picture in section.pictures]
    assert names[:3] == ["curves", "reliability", "margins"]
