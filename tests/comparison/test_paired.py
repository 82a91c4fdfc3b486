"""Differences of two losses: the cells, the intervals over images, and what the first sentence says of them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from vgg_nll.comparison import paired, rescaled
from vgg_nll.comparison.grouping import Group, group_runs
from vgg_nll.comparison.paired import Row
from vgg_nll.comparison.runs import find
from vgg_nll.comparison.statistics import holm, paired_difference
from vgg_nll.comparison.tables import Table
from vgg_nll.evaluation.registry import METRICS, View, shown_in

MakeRun = Callable[..., Path]
StudentT = Callable[[list[float]], tuple[float, float, float]]


def group_in(folder: Path) -> Group:
    """The group of all runs in a folder."""
    ((group,), _) = group_runs(find([folder])[0])
    return group


def table_of(folder: Path) -> Table:
    return paired.table(paired.compare(group_in(folder), "all_logit", "argmax"), "all_logit", "argmax")


def test_difference(tmp_path: Path, make_run: MakeRun, student_t: StudentT) -> None:
    ours = [(0.97, 0.3, 0.25), (0.99, 0.1, 0.26), (0.98, 0.4, math.nan)]
    theirs = [(0.96, 0.2, 0.25), (0.95, 0.2, 0.25), (0.99, 0.2, 0.25), (0.5, 9.0, 0.25)]  # the last seed is not shared
    for loss, values in (("all_logit", ours), ("argmax", theirs)):
        for seed, (accuracy, nll, auroc) in enumerate(values):
            metrics = {"accuracy": accuracy, "nll_argmax": nll, "auroc": auroc, "brier": 0.5 if loss == "argmax" else 0.4}
            make_run(tmp_path / f"{loss}{seed}", loss, seed, values=metrics)
    table = table_of(tmp_path)
    head = ("metric", "all_logit", "argmax", "difference", "95% over seeds", "p", "p (Holm)", "n", "95% over images")
    assert table.head == head
    rows = {row[0]: row[1:] for row in table.rows}
    mean, half, p = student_t([1.0, 4.0, -1.0])
    assert rows["accuracy %"] == (
        *("98.00", "96.67", f"+{mean:.2f}", f"{mean - half:+.2f} to {mean + half:+.2f}"),
        *(f"{p:.3f}", "1.000", "3", "-"),
    )
    mean, half, p = student_t([0.1, -0.1, 0.2])
    interval = f"{mean - half:+.4f} to {mean + half:+.4f}"
    assert rows["NLL (argmax)"][2:] == (f"{mean:+.4f}", interval, f"{p:.3f}", "1.000", "3", "-")
    mean, half, p = student_t([0.0, 0.01])  # one seed has no value
    interval = f"{mean - half:+.4f} to {mean + half:+.4f}"
    assert rows["AUROC"][2:] == (f"{mean:+.4f}", interval, f"{p:.3f}", "1.000", "2", "-")
    assert rows["AUROC"][:2] == ("0.2550", "0.2500")
    assert rows["Brier score"] == ("0.4000", "0.5000", "-0.1000", "none (no spread)", "-", "-", "3", "-")
    assert rows["ECE %"] == ("25.00", "25.00", "+0.00", "none (no spread)", "-", "-", "3", "-")
    assert "confidence on wrong images %" in rows


def test_difference_of_one_seed(tmp_path: Path, make_accuracies: Callable[..., None]) -> None:
    make_accuracies(tmp_path, argmax=[0.9], all_logit=[0.8, 0.25])
    accuracy = next(row for row in table_of(tmp_path).rows if row[0] == "accuracy %")
    assert accuracy == ("accuracy %", "80.00", "90.00", "-10.00", "none (n = 1)", "-", "-", "1", "-")


def test_small_p_and_no_value(tmp_path: Path, make_run: MakeRun) -> None:
    """And no minus sign before zero; p is corrected for the two rows that have one."""
    brier = [0.0, 1e-6, 3e-6, 5e-6]
    for seed in range(4):
        metrics = {"accuracy": 0.9 + 1e-5 * seed**2, "brier": 0.1 - brier[seed]}
        make_run(tmp_path / f"a{seed}", "all_logit", seed, values=metrics)
        make_run(tmp_path / f"b{seed}", "argmax", seed, values={"accuracy": 0.5, "auroc": math.nan, "brier": 0.1})
    rows = {row[0]: row[1:] for row in table_of(tmp_path).rows}
    assert rows["accuracy %"][4:] == ("< 0.001", "< 0.001", "4", "-")
    assert rows["AUROC"] == ("-", "-", "-", "none (n = 0)", "-", "-", "0", "-")
    assert rows["Brier score"][2:4] == ("+0.0000", "+0.0000 to +0.0000")
    p = stats.ttest_1samp(brier, 0).pvalue
    assert rows["Brier score"][4:6] == (f"{p:.3f}", f"{p:.3f}")  # the largest of two keeps its p


def row(name: str, *differences: float, p_of_others: tuple[float, ...] = ()) -> Row:
    """The row of a metric with these differences, in the unit that is shown, beside others with these p."""
    estimate = paired_difference(dict(enumerate(differences)), dict.fromkeys(range(len(differences)), 0.0))
    corrected, *_ = holm([estimate.p, *p_of_others])
    return Row(METRICS[name], (math.nan, math.nan), estimate, corrected, None)


SMALL = (0.5, -0.5, 0.1, -0.1, 0.2)
LARGE = (1.0, 1.1, 0.9, 1.0, 1.05)  # +1.01 (+0.92 to +1.10)
BETWEEN = (1.0, 0.4, 1.1, 0.1, 0.6)  # p = 0.026, which ten rows make 0.26


def test_the_answer_if_all_intervals_contain_zero() -> None:
    text = paired.answer([row("ece", *SMALL), row("accuracy", *SMALL)], "a", "b")
    size = 3.761059816267204 * np.std(SMALL, ddof=1) / math.sqrt(5)  # see test_statistics.py
    assert text == (
        "No difference can be told between a and b: 2 of 2 intervals contain zero. "
        f"A difference of {size:.2g} points of accuracy would have been seen (80% power, 5 seeds)."
    )


def test_the_answer_if_some_are_apart_from_zero_by_chance() -> None:
    rows = [row("accuracy", *SMALL), row("ece", *BETWEEN, p_of_others=(0.5,) * 9)]
    assert paired.answer(rows, "a", "b").startswith(
        "No difference can be told between a and b: 1 of 2 intervals contain zero, and among 2 rows chance alone may give the "
        "rest (ECE % +0.64 (+0.12 to +1.16)). A difference of "
    )


def test_the_answer_if_losses_differ() -> None:
    rows = [row("accuracy", *SMALL), row("ece", *LARGE), row("nll_argmax", *(-x for x in LARGE))]
    assert paired.answer(rows, "a", "b") == (
        "a and b differ in 2 of 3 metrics (p < 0.05 after Holm's correction, 5 seeds). a − b: ECE % +1.01 (+0.92 to +1.10); "
        "NLL (argmax) -1.0100 (-1.1021 to -0.9179)."
    )
    after = paired.answer_after_temperature(rows[:2])
    assert after == "After each run's own temperature, they differ in ECE % +1.01 (+0.92 to +1.10)."
    assert paired.answer_after_temperature(rows[:1]) == "After each run's own temperature, 1 of 1 intervals contain zero."


@pytest.mark.parametrize(
    ("differences", "text"),
    [
        (
            (),
            "Nothing can be told of a and b: they have no seed in common, and an interval needs two or more. Train both with ",
        ),
        (
            (1.0,),
            "Nothing can be told of a and b: they have one seed in common, and an interval needs two or more. Train both ",
        ),
        ((1.0, 1.0, 1.0), "Nothing can be told of a and b: every difference is the same in all 3 seeds."),
    ],
)
def test_the_answer_if_there_is_no_interval(differences: tuple[float, ...], text: str) -> None:
    assert paired.answer([row("accuracy", *differences)], "a", "b").startswith(text)


def test_an_accuracy_without_spread_has_no_detectable_difference() -> None:
    text = paired.answer([row("accuracy", 1.0, 1.0), row("ece", 0.5, -0.4)], "a", "b")
    assert text == "No difference can be told between a and b: 1 of 1 intervals contain zero."


def test_over_images(tmp_path: Path, make_run: MakeRun, write_logits: Callable[..., None]) -> None:
    """The interval of the mean over images of what the seeds give on average, from the formulas in NumPy."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, 60)
    values: dict[str, list[dict[str, np.ndarray]]] = {"all_logit": [], "argmax": []}
    for loss, of_runs in values.items():
        for seed in range(3):
            logits = (2 * draw.normal(size=(60, 4)) + 3 * np.eye(4)[labels]).astype(np.float32)
            run = make_run(tmp_path / f"{loss}{seed}", loss, seed)
            write_logits(run, val=(logits[:30], labels[:30]), test=(logits, labels))
            p = special.softmax(logits.astype(float), axis=1)
            hits, of_label = p.argmax(1) == labels, p[range(60), labels]
            others = np.log1p(-p).sum(1) - np.log1p(-of_label)
            of_runs.append(
                {
                    "accuracy": hits,
                    "nll_argmax": -np.log(of_label),
                    "nll_all_logit": -np.log(of_label) - others,
                    "brier": ((p - np.eye(4)[labels]) ** 2).sum(1),
                    "confidence": p.max(1),
                    "overconfidence": p.max(1) - hits,
                    "margin": special.logit(p.max(1)),
                }
            )
    ((group, _),) = rescaled.read_groups([group_in(tmp_path)])
    assert group is not None
    rows: dict[str, Any] = {row.metric.name: row for row in paired.compare(group.before, "all_logit", "argmax")}
    for name in values["argmax"][0]:
        sides = [np.mean([run[name] for run in values[loss]], axis=0) for loss in ("all_logit", "argmax")]
        difference = METRICS[name].unit.factor * (sides[0] - sides[1])
        expected = stats.t.interval(0.95, 59, loc=difference.mean(), scale=stats.sem(difference))
        assert rows[name].over_images == pytest.approx(expected, rel=1e-6), name
    assert {name for name in rows if rows[name].over_images is None} == {
        metric.name for metric in shown_in(View.PAIRED) if metric.name not in values["argmax"][0]
    }
    other = np.roll(labels, 1)
    write_logits(tmp_path / "argmax0", val=(logits[:30], labels[:30]), test=(logits, other))
    ((group, _),) = rescaled.read_groups([group_in(tmp_path)])
    assert group is not None
    assert all(row.over_images is None for row in paired.compare(group.before, "all_logit", "argmax"))
