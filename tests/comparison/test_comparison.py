"""SessionEnd runs, compared: what is taken, what the numbers are, what the page shows."""

import base64
import math
import re
import runpy
import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.tensorboard import SummaryWriter
from vgg_nll.comparison.markup import Table

from vgg_nll.comparison import figures, grouping, report, runs, statistics, tables
from vgg_nll.comparison.grouping import config_differences, group_runs
from vgg_nll.comparison.runs import Bins, find
from vgg_nll.comparison.statistics import Point
from vgg_nll.errors import CheckpointError
from vgg_nll.evaluation import metrics
from vgg_nll.evaluation.report import FINAL_ROWS, write_metrics
from vgg_nll.tracking import event_files

ROOT = Path(__file__).resolve().parents[2]
BINS = {"images": [0] * 13 + [10, 90], "correct": [0] * 13 + [6, 89], "confidence": [0.0] * 13 + [9.0, 88.0]}  # ECE 4%


def config(target: str, eps: float = 0.0, **leaves: Any) -> dict[str, Any]:
    return {"loss": {"_target_": target, "eps": eps}, "trainer": {"epochs": 6}, **leaves}


def make_run(
    folder: Path, loss: str, seed: int = 0, *, overrides: tuple[str, ...] = (), done: bool = True, **content: Any
) -> Path:
    """A run folder; `content` goes into metrics.json, or out of it where it is None."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(f"seed: {seed}\n")
    values = dict.fromkeys(FINAL_ROWS, 0.25) | content.pop("values", {})
    found = {
        "data": "digits",
        "model": "vgg16",
        "loss": loss,
        "seed": seed,
        "overrides": [f"loss={loss}", f"seed={seed}", *overrides],
        "test": values,
        "val": values,
        "seconds": 60.0,
        "device": "CPU",
        "precision": "float32",
        "git": "abc",
        "versions": {"torch": "2.14"},
        "config": config(loss, seed=seed, name=folder.name),
        "reliability": {"split": "test"} | BINS,
    }
    kept = {key: value for key, value in (found | content).items() if value is not None}
    if done:
        write_metrics(folder / "metrics.json", kept)
        (folder / "DONE").touch()
    return folder


def accuracies(root: Path, **by_loss: list[float]) -> Path:
    """One run per accuracy, its seed the place in the list."""
    for loss, values in by_loss.items():
        for seed, value in enumerate(values):
            make_run(root / f"{loss}{seed}", loss, seed, values={"accuracy": value})
    return root


def report(*folders: Path) -> report.Report:
    return report.make(*find(folders))


# Which runs


def test_what_is_found(tmp_path: Path) -> None:
    make_run(tmp_path / "b", "argmax", 1)
    make_run(tmp_path / "a" / "deep", "argmax")
    make_run(tmp_path / "going", "argmax", done=False)
    failed = make_run(tmp_path / "failed", "argmax", done=False)
    (failed / "FAILED").write_text("TrainingError: the loss is nan\nat step 3\n")
    (tmp_path / "no run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "no run" / "comparison.html").touch()
    (tmp_path / "saved" / "checkpoints").mkdir(parents=True)
    (tmp_path / "saved" / "checkpoints" / "last.pt").touch()
    found, left_out = find([tmp_path, tmp_path / "b"])  # the second is in the first
    assert [run.folder for run in found] == [tmp_path / "a" / "deep", tmp_path / "b"]
    assert left_out == [
        f"left out, not finished: {tmp_path}/failed (failed: TrainingError: the loss is nan at step 3)",
        f"left out, not finished: {tmp_path}/going",
        f"left out, not finished: {tmp_path}/saved",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not readable: {} is damaged (Expecting property name"),
        ("\udcff", "not readable: {} is damaged ('utf-8'"),
        (None, "not readable: {}: No such file"),
        ("[]", "of another version: {} holds no metrics"),
        ("{}", "of another version: {} has no data, model, loss, seed, overrides, seconds, val.accuracy"),
        (
            '{"data": 1, "seed": "0", "test": {"accuracy": null}}',
            "of another version: {} has no data, model, loss, seed, overri",
        ),
        ('{"test": 3}', "of another version: {} has no data, model, loss, seed, overrides, seconds, test.accuracy"),
    ],
)
def test_a_run_that_cannot_be_read(tmp_path: Path, text: str | None, complaint: str) -> None:
    good, bad = make_run(tmp_path / "good", "argmax"), tmp_path / "bad"
    bad.mkdir()
    (bad / "DONE").touch()
    if text is not None:
        (bad / "metrics.json").write_bytes(text.encode(errors="surrogateescape"))
    found, (line,) = find([tmp_path])
    assert [run.folder for run in found] == [good]
    assert line.startswith("left out, " + complaint.format(bad / "metrics.json"))
    assert "\n" not in line


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone: there is no such folder$"):
        find([tmp_path, tmp_path / "gone"])
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"file: is not a folder$"):
        find([tmp_path / "file"])


def test_what_is_kept_of_a_run(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", "argmax", values={"ece": math.nan}, overrides=("+x.y='a=b'",), reliability=None)
    written = (first / "metrics.json").read_text()
    (first / "metrics.json").write_text(
        written.replace('"brier": 0.25', '"brier": NaN').replace('"aurc": 0.25', '"aurc": 1e999')
    )
    make_run(tmp_path / "b", "argmax", test=None, reliability={"split": "test", **BINS})  # bins of something else
    make_run(tmp_path / "c", "argmax", reliability={"split": "test"} | BINS | {"images": [1, 2]})
    make_run(tmp_path / "d", "argmax", reliability={"split": "test"} | BINS | {"correct": ["?"] * 15})
    make_run(tmp_path / "e", "argmax", config=None, versions=None)
    a, b, c, d, e = find([tmp_path])[0]
    assert set(FINAL_ROWS) - set(a.values) == {"ece", "brier", "aurc"}
    assert a.overrides["x.y"] == "'a=b'"
    assert (a.split, b.split) == ("test", "val")
    assert (a.bins, b.bins, c.bins, d.bins) == (None, None, None, None)
    assert e.bins is not None and e.bins.images[-1] == 90
    assert (e.config, a.config["trainer.epochs"], a.config["loss.eps"]) == ({}, "6", "0")
    assert a.provenance == {"device": "CPU", "precision": "float32", "versions.torch": "2.14", "git": "abc"}
    assert metrics.NUM_BINS == runs.NUM_BINS == len(BINS["images"])


def test_numbers_that_are_equal_are_one_text() -> None:
    content = {"a": {"b": 6.0, "c": None, "d": [1, 2.5]}, "e": True, "f": "6.0", "g": 0.1}
    assert dict(runs.flatten(content)) == {"a.b": "6", "a.c": "null", "a.d": "[1, 2.5]", "e": "true", "f": "6.0", "g": "0.1"}


# What is alike


def shown(found: list[grouping.Group]) -> dict[tuple[str, str], dict[str, list[int]]]:
    return {(s.model, s.settings): {loss: list(by_seed) for loss, by_seed in s.losses.items()} for s in found}


def test_settings_are_those_of_the_config(tmp_path: Path) -> None:
    """However they were given, and without those that have no effect."""
    make_run(tmp_path / "a", "argmax", 0)
    make_run(tmp_path / "b", "argmax", 1, overrides=("trainer.epochs=6", "name=x", "device=cpu"))
    make_run(tmp_path / "c", "argmax", 2, overrides=("tracking=none",), config=config("argmax", tracking={"_target_": "None"}))
    make_run(tmp_path / "d", "argmax", 0, overrides=("trainer.epochs=9",), config=config("argmax", trainer={"epochs": 9}))
    make_run(
        tmp_path / "e", "all_logit", 0, overrides=("trainer.epochs=9.0",), config=config("all_logit", trainer={"epochs": 9.0})
    )
    make_run(tmp_path / "f", "all_logit", 0, model="vgg16_bn")
    found, lines = group_runs(find([tmp_path])[0])
    assert shown(found) == {
        ("vgg16", "default"): {"argmax": [0, 1, 2]},
        ("vgg16", "trainer.epochs=9"): {"all_logit": [0], "argmax": [0]},
        ("vgg16_bn", "default"): {"all_logit": [0]},
    }
    assert lines == []


def test_what_no_override_tells_apart(tmp_path: Path) -> None:
    """Another version had another default."""
    make_run(tmp_path / "a", "argmax", 0)
    make_run(tmp_path / "b", "argmax", 0, config=config("argmax", trainer={"epochs": 4, "new": 1}))
    make_run(tmp_path / "c", "argmax", 0, config=config("argmax", trainer={"epochs": 4}))
    found, _ = group_runs(find([tmp_path])[0])
    assert [group.settings for group in found] == [
        "[trainer.epochs=4, trainer.new=1]",
        "[trainer.epochs=4]",
        "[trainer.epochs=6]",
    ]


def test_arguments_of_a_loss_make_another_loss(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "argmax")
    make_run(tmp_path / "b", "argmax", overrides=("loss.eps=0.1",), config=config("argmax", eps=0.1))
    make_run(tmp_path / "c", "all_logit")
    (group,), lines = group_runs(find([tmp_path])[0])
    assert list(group.losses) == ["all_logit", "argmax", "argmax loss.eps=0.1"]
    assert lines == [] and config_differences(group.runs) == []


def test_overrides_stand_for_a_config_that_is_not_there(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "argmax", 0, config=None)
    make_run(tmp_path / "b", "argmax", 1, config=None, overrides=("model=vgg16", "data=digits"))
    make_run(tmp_path / "c", "argmax", 0, overrides=("optimizer=sgd", "optimizer.lr=1"))
    make_run(tmp_path / "d", "argmax", 0, overrides=("loss.eps=1",))
    found = find([tmp_path])[0]
    assert shown(group_runs(found)[0]) == {
        ("vgg16", "default"): {"argmax": [0, 1], "argmax loss.eps=1": [0]},
        ("vgg16", "optimizer=sgd optimizer.lr=1"): {"argmax": [0]},
    }
    assert config_differences(found) == [
        "optimizer: default (3 runs), sgd (1 run)",
        "optimizer.lr: 1 (1 run), default (3 runs)",
    ]


def test_one_seed_twice(tmp_path: Path) -> None:
    first, second = (make_run(tmp_path / name, "argmax", values={"accuracy": a}) for name, a in (("a", 0.1), ("a0", 0.97)))
    (group,), lines = group_runs(find([tmp_path])[0])
    assert [run.folder for run in group.runs] == [second]
    assert lines == [f"left out, the same settings and seed again: {first} ({second} counts)"]
    assert lines[0] in report(tmp_path).printed()


def test_machines(tmp_path: Path) -> None:
    """Seeds of two machines are told, and go together; one seed on two machines is two settings."""
    make_run(tmp_path / "a", "argmax", 0)
    make_run(tmp_path / "b", "argmax", 1, device="H100", precision="bfloat16", versions={"torch": "3", "cuda": "13"}, git="")
    found = find([tmp_path])[0]
    assert shown(group_runs(found)[0]) == {("vgg16", "default"): {"argmax": [0, 1]}}
    assert config_differences(found) == [
        "device: CPU (1 run), H100 (1 run)",
        "git: abc (1 run), unknown (1 run)",
        "precision: bfloat16 (1 run), float32 (1 run)",
        "versions.cuda: 13 (1 run), unknown (1 run)",
        "versions.torch: 2.14 (1 run), 3 (1 run)",
    ]
    make_run(tmp_path / "c", "argmax", 0, device="H100", precision="bfloat16")
    assert shown(group_runs(find([tmp_path])[0])[0]) == {
        ("vgg16", "[on=CPU, float32]"): {"argmax": [0]},
        ("vgg16", "[on=H100, bfloat16]"): {"argmax": [0, 1]},
    }


def test_unlike_runs_are_told(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "argmax", 0, config=config("argmax", data={"size": 32, "source": {"size": 32}}, device="cpu"))
    make_run(tmp_path / "b", "all_logit", 1, config=config("all_logit", data={"size": 64, "source": {"size": 64}}, resume="b"))
    make_run(tmp_path / "c", "argmax", 1, model="vgg16_bn", config=config("argmax", long="x" * 100))
    assert config_differences(find([tmp_path])[0]) == [
        "model: vgg16 (2 runs), vgg16_bn (1 run)",
        f"long: absent (2 runs), {'x' * 60}... (1 run)",
        "data.size: 32 (1 run), 64 (1 run), absent (1 run)",  # once, not also as data.source.size
    ]


# Numbers


def by_definition(values: list[float]) -> tuple[float, float, float]:
    """Mean, half of the 95% interval, two-sided p against 0, for n = 2 and 3: Student's t is elementary there.

    One degree of freedom (Cauchy): F(t) = 1/2 + atan(t)/pi; two: F(t) = 1/2 + t / (2 sqrt(2 + t^2)).
    """
    n = len(values)
    mean = sum(values) / n
    error = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)
    t = abs(mean) / error
    if n == 2:
        return mean, math.tan(math.pi * 0.475) * error, 1 - 2 / math.pi * math.atan(t)
    return mean, 0.95 * math.sqrt(2 / (1 - 0.95**2)) * error, 1 - t / math.sqrt(2 + t * t)


@pytest.mark.parametrize("values", [[0.97, 0.99], [0.1, -0.2, 0.4], [3e6, 3.1e6, 2.8e6], [1e-7, 3e-7, 2e-7]])
def test_mean_and_difference(values: list[float]) -> None:
    mean, half, p = by_definition(values)
    estimate = statistics.mean_with_interval(values)
    assert (estimate.n, estimate.mean) == (len(values), pytest.approx(mean))
    assert estimate.spread == pytest.approx(np.std(values, ddof=1))
    assert estimate.interval == pytest.approx((mean - half, mean + half))
    base = dict(enumerate([v * 0.5 for v in values]))
    paired = statistics.paired_difference({k: v + base[k] for k, v in enumerate(values)} | {7: 1.0}, base | {8: 2.0})
    assert (paired.n, paired.mean) == (len(values), pytest.approx(mean))
    assert paired.interval == pytest.approx((mean - half, mean + half))
    assert paired.p == pytest.approx(p)


def test_intervals_hold_what_they_say() -> None:
    draws = np.random.default_rng(0).normal(3, 2, (2000, 4)).tolist()
    intervals = [statistics.mean_with_interval(row).interval for row in draws]
    assert 0.935 < np.mean([low < 3 < high for low, high in intervals]) < 0.965  # type: ignore[misc]


@pytest.mark.parametrize("shift", [0.0, 0.01, 1 / 359])
def test_no_spread(shift: float) -> None:
    """Differences that are equal but for rounding: no interval, no p, no warning."""
    first = {seed: 0.97 + seed / 359 for seed in range(5)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate = statistics.paired_difference({seed: value + shift for seed, value in first.items()}, first)
        assert statistics.mean_with_interval([0.3, 0.1 + 0.2, 0.3]) == statistics.Estimate(3, pytest.approx(0.3), 0.0, None)
    assert estimate == statistics.Estimate(5, pytest.approx(shift), 0.0, None, None)


def test_too_few_seeds() -> None:
    assert statistics.mean_with_interval([2.0]) == statistics.Estimate(1, 2.0, None, None)
    assert statistics.paired_difference({0: 3.0, 1: 9.0}, {0: 1.0, 2: 9.0}) == statistics.Estimate(1, 2.0, None, None)
    for nothing in (statistics.mean_with_interval([]), statistics.paired_difference({0: 1.0}, {1: 1.0})):
        assert nothing.n == 0 and math.isnan(nothing.mean) and nothing.interval is None


# Tables


def test_overview(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "argmax", values={"accuracy": 0.97, "confidence_incorrect": 0.5}, seconds=60.97)
    make_run(tmp_path / "b", "argmax", 1, values={"accuracy": 0.99, "confidence_incorrect": math.nan})  # nothing wrong
    make_run(tmp_path / "c", "all_logit", values={"accuracy": 0.98, "confidence_incorrect": math.nan})
    make_run(tmp_path / "d", "all_logit", done=False)
    table = tables.overview(group_runs(find([tmp_path])[0])[0])
    low, high = (98 + sign * math.tan(math.pi * 0.475) for sign in (-1, 1))  # the standard error is 1
    assert table.markdown().splitlines() == [
        "| data | model | loss | settings | n | test accuracy % | 95% interval | least | NLL (argmax) | ECE % | confidence % "
        "| when wrong % | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        "| digits | vgg16 | all_logit | default | 1 | 98.00 | none (n = 1) | 98.00 | 0.2500 | 25.00 | 25.00 | - | 60 to 60 |",
        f"| digits | vgg16 | argmax | default | 2 | 98.00 ± 1.41 | {low:.2f} to {high:.2f} | 97.00 | 0.2500 | 25.00 | 25.00 "
        "| 50.00 | 60 to 61 |",
    ]


def test_difference_table(tmp_path: Path) -> None:
    ours = [(0.97, 0.3, 0.25), (0.99, 0.1, 0.26), (0.98, 0.4, math.nan)]
    theirs = [(0.96, 0.2, 0.25), (0.95, 0.2, 0.25), (0.99, 0.2, 0.25), (0.5, 9.0, 0.25)]  # the last seed is not shared
    for loss, values in (("all_logit", ours), ("argmax", theirs)):
        for seed, (accuracy, nll, auroc) in enumerate(values):
            values_ = {"accuracy": accuracy, "nll_argmax": nll, "auroc": auroc, "brier": 0.5 if loss == "argmax" else 0.4}
            make_run(tmp_path / f"{loss}{seed}", loss, seed, values=values_)
    (group,), _ = group_runs(find([tmp_path])[0])
    table = tables.difference(group, "all_logit", "argmax")
    assert table.head == ("metric", "all_logit", "argmax", "difference", "95% interval", "p", "n")
    rows = {row[0]: row[1:] for row in table.rows}
    mean, half, p = by_definition([1.0, 4.0, -1.0])
    assert rows["accuracy %"] == (
        *("98.00", "96.67", f"+{mean:.2f}", f"{mean - half:+.2f} to {mean + half:+.2f}"),
        *(f"{p:.3f}", "3"),
    )
    mean, half, p = by_definition([0.1, -0.1, 0.2])
    assert rows["NLL (argmax)"][2:] == (f"{mean:+.4f}", f"{mean - half:+.4f} to {mean + half:+.4f}", f"{p:.3f}", "3")
    mean, half, p = by_definition([0.0, 0.01])  # one seed has no value
    assert rows["AUROC"][2:] == (f"{mean:+.4f}", f"{mean - half:+.4f} to {mean + half:+.4f}", f"{p:.3f}", "2")
    assert rows["AUROC"][:2] == ("0.2550", "0.2500")
    assert rows["Brier score"] == ("0.4000", "0.5000", "-0.1000", "none (no spread)", "-", "3")
    assert rows["ECE %"] == ("25.00", "25.00", "+0.00", "none (no spread)", "-", "3")


def test_small_p_and_no_value(tmp_path: Path) -> None:
    """And no minus sign before zero."""
    for seed in range(4):
        make_run(
            tmp_path / f"a{seed}", "all_logit", seed, values={"accuracy": 0.9 + 1e-5 * seed**2, "brier": 0.1 - 1e-6 * seed}
        )
        make_run(tmp_path / f"b{seed}", "argmax", seed, values={"accuracy": 0.5, "auroc": math.nan, "brier": 0.1})
    (group,), _ = group_runs(find([tmp_path])[0])
    rows = {row[0]: row[1:] for row in tables.difference(group, "all_logit", "argmax").rows}
    assert rows["accuracy %"][4:] == ("< 0.001", "4")
    assert rows["AUROC"] == ("-", "-", "-", "none (n = 0)", "-", "0")
    assert rows["Brier score"][2:4] == ("+0.0000", "+0.0000 to +0.0000")


def test_means(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "argmax", 0, values={"ece": 0.01, "confidence_incorrect": 0.6, "aurc": math.nan})
    make_run(tmp_path / "b", "argmax", 1, values={"ece": 0.03, "confidence_incorrect": math.nan, "aurc": math.nan})
    (group,), _ = group_runs(find([tmp_path])[0])
    table = tables.means(group)
    rows = dict(table.rows)
    half = math.tan(math.pi * 0.475)
    assert table.head == ("metric", "argmax (n = 2)")
    assert rows["ECE %"] == f"2.00 ± 1.41 ({2 - half:.2f} to {2 + half:.2f})"
    assert rows["confidence when wrong %"] == "60.00, n = 1"
    assert rows["AURC"] == "-"
    assert {metric.name for metric in tables.METRICS} == set(FINAL_ROWS) - {"loss", "nll_argmax_prediction"}


# Curves and figures


def write_events(folder: Path, *points: tuple[str, int, float]) -> Path:
    before = set(folder.glob("events.*"))
    writer = SummaryWriter(str(folder))
    for tag, step, value in points:
        writer.add_scalar(tag, value, step)
    writer.add_text("config", "seed: 0", 1)
    writer.close()
    (path,) = set(folder.glob("events.*")) - before
    return path


def test_curves_of_several_event_files(tmp_path: Path) -> None:
    first = write_events(tmp_path, ("a", 2, 2.0), ("a", 1, 1.0), ("a", 3, 3.0), ("b", 3, 0.5))
    first.rename(tmp_path / "events.out.tfevents.1000000000.x")
    write_events(tmp_path, ("a", 3, 30.0), ("a", 4, 4.0), ("a", 4, 40.0))  # later by its name
    assert event_files.read_curves(tmp_path) == {"a": [(1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0)], "b": [(3, 0.5)]}


def test_curves_of_a_damaged_file(tmp_path: Path) -> None:
    path = write_events(tmp_path, ("a", 1, 1.0), ("a", 2, 2.0))
    whole = path.read_bytes()
    end = whole.rindex(b"config/text_summary")
    path.write_bytes(whole[: end + 3])  # torn in its last record
    assert event_files.read_curves(tmp_path) == {"a": [(1, 1.0), (2, 2.0)]}
    path.write_bytes(whole[: end - 30] + b"\xff\xff\xff" + whole[end - 27 :])  # bits of an earlier record
    assert event_files.read_curves(tmp_path) == {"a": [(1, 1.0)]}
    path.write_bytes(b"no event file")
    (tmp_path / "events.out.tfevents.9.link").symlink_to(tmp_path / "gone")
    assert event_files.read_curves(tmp_path) == {}


def test_bands() -> None:
    run = {"a": [(1, 1.0), (2, 4.0), (3, 0.0)]}
    assert statistics.mean_over_runs([run, {"a": [(2, 1.0), (3, 6.0), (4, 0.0)]}, {}], "a") == [
        Point(2, 2.5, 1, 4),
        Point(3, 3, 0, 6),
    ]
    assert statistics.mean_over_runs([run, {"a": [(9, 1.0)]}], "a") == []
    assert statistics.mean_over_runs([run], "b") == statistics.mean_over_runs([], "b") == []


def test_figure_of_curves() -> None:
    points = [Point(1, 2.0, 1.0, 3.0), Point(5, 0.2, 0.1, 0.3)]
    losses = {
        "all_logit": {"accuracy/val": points, "loss/train": points},
        "argmax": {"loss/train": points[:1], "nll/argmax": [Point(1, 0.0, 0.0, 0.0)]},
    }
    figure = figures.curves(losses)
    panels = {axes.get_title(): axes for axes in figure.axes}
    accuracy = panels["validation: accuracy"]
    assert [line.get_label() for line in accuracy.lines] == ["all_logit", "argmax"]
    assert list(accuracy.lines[0].get_xdata()) == [1, 5] and list(accuracy.lines[0].get_ydata()) == [2.0, 0.2]
    (band, _) = accuracy.collections
    assert {tuple(corner) for corner in band.get_paths()[0].vertices.tolist()} == {(1, 1), (1, 3), (5, 0.1), (5, 0.3)}
    own = panels["its own loss: argmax\n(dashed: validation)"]
    assert (list(own.lines[0].get_ydata()), own.get_yscale()) == ([2.0], "log")
    assert own.lines[0].get_color() == accuracy.lines[1].get_color() != accuracy.lines[0].get_color()
    assert panels["validation: NLL of method 1 (argmax)"].get_yscale() == "linear"  # it has a zero
    assert [text.get_text() for text in panels["validation: ECE"].texts] == ["no curve"]
    assert len(figures.png(figure)) > 10_000


def test_figure_of_reliability() -> None:
    diagrams = [(name, BINS["images"], BINS["correct"], BINS["confidence"]) for name in ("one", "two")]
    figure = figures.reliability(diagrams)
    above = figure.axes[0]
    assert [axes.get_title() for axes in figure.axes[:2]] == ["one", "two"]
    heights = [(bar.get_y(), bar.get_height()) for bar in above.patches]
    assert np.allclose(heights, [(0, 0.6), (0, 89 / 90), (0.6, 0.3), (89 / 90, -1 / 90)])
    below = figure.axes[2]
    assert [bar.get_height() for bar in below.patches] == BINS["images"]
    assert below.get_yscale() == "log" and below.get_ylim()[0] < 1  # one image is a bar, too


def test_bins_add_up() -> None:
    one = Bins((2.0, 8.0), (1.0, 8.0), (0.6, 7.0))
    assert one.ece == pytest.approx((0.4 + 1.0) / 10)
    total = one + Bins((2.0, 0.0), (0.0, 0.0), (0.6, 0.0))
    assert total == Bins((4.0, 8.0), (1.0, 8.0), (1.2, 7.0))
    assert total.ece == pytest.approx((0.2 + 1.0) / 12)


# The page


class Page(HTMLParser):
    """Reads a page, and complains about what is not closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(path.read_text())
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_holds_everything(tmp_path: Path) -> None:
    accuracies(tmp_path, argmax=[0.9, 0.94], all_logit=[0.96, 0.98])
    for run in tmp_path.iterdir():
        seed = int(run.name[-1])
        write_events(run, ("loss/train", 1, 2.0 + seed), ("accuracy/val", 1, 0.5), ("accuracy/train", 1 + seed, 0.5))
    made = report(tmp_path)
    made.write(tmp_path / "out" / "side")
    files = {path.name: path for path in (tmp_path / "out" / "side").iterdir()}
    assert set(files) == {"comparison.html", "comparison.md", "curves.png", "reliability.png"}
    html, markdown = Page(files["comparison.html"]), files["comparison.md"].read_text()
    pictures = [base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in html.sources]
    assert pictures == [files["curves.png"].read_bytes(), files["reliability.png"].read_bytes()]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert re.findall(r"\]\((.*?)\)", markdown) == ["curves.png", "reliability.png"]
    raw = re.sub(r"base64,[\w+/=]+", "", files["comparison.html"].read_text())
    assert not re.search(r"https?:|//|url\(|@import|<script|<link", raw)
    assert "prefers-color-scheme: dark" in raw and 'name="viewport"' in raw
    for text in (html.text, markdown):
        assert "92.00 ± 2.83" in text and "+5.00" in text  # (96 - 90 + 98 - 94) / 2
        assert "argmax\nECE" not in text and "Not drawn, since the seeds share no step: accuracy/train of " in text
        assert "4 finished runs of all_logit, argmax; seeds 0, 1. All with CPU, float32, torch 2.14." in text
        assert "differ in nothing but loss and seed (compared: config, device, precision, versions, commit)" in text
        assert "What is missing" not in text
    assert html.text.index("+5.00") < html.text.index("In detail")
    assert "## Differences, paired by seed\n" in markdown  # of which set-up is said where there are several


def test_page_says_what_differs_first(tmp_path: Path) -> None:
    accuracies(tmp_path, argmax=[0.9, 0.94])
    evil = "<script>alert(1)</script>|"
    make_run(tmp_path / "x", "all_logit", overrides=(f"a={evil}",), config=config("all_logit", a=evil))
    make_run(tmp_path / "going", "argmax", done=False)
    made = report(tmp_path)
    made.write(tmp_path / "out")
    html = Page(tmp_path / "out" / "comparison.html")
    assert "script" not in html.tags
    differs = f"a: {evil} (1 run), absent (2 runs)"
    for text in (html.text, (tmp_path / "out" / "comparison.md").read_text(), made.printed()):
        assert -1 < text.index("These runs differ in more than loss and seed:") < text.index(differs) < text.index("accuracy %")
        assert "Differences, paired by seed: digits, vgg16, default\n" in text
        assert "Only one loss was trained with these settings: nothing to compare it with." in text
        assert "Left out: 1 run, listed at the end" in text
        assert "3 of 3 runs: no curves (tracking=none, or event files that cannot be read)" in text
    assert html.text.rstrip().endswith(f"left out, not finished: {tmp_path}/going")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["reliability-1.png", "reliability-2.png"]
    assert "a=<script>alert(1)</script>\\| |" in made.printed()  # a cell of a Markdown table


def test_long_cells_are_broken() -> None:
    html = Table(("a", "b"), [("x" * 41, "y" * 40)]).html()
    assert f'<td class="long">{"x" * 41}</td><td>{"y" * 40}</td>' in html
    assert "td.long" in report.STYLE


def test_one_seed_is_said(tmp_path: Path) -> None:
    accuracies(tmp_path, argmax=[0.9], all_logit=[0.8])
    make_run(tmp_path / "x", "all_logit", 1)
    text = report(tmp_path).printed()
    assert "digits, vgg16, default: one seed only of argmax, so no spread and no interval" in text
    assert "seeds differ (all_logit 0, 1; argmax 0); differences are over those that both losses have" in text
    assert "Over seeds 0, so no interval and no p-value:" in text
    assert "| accuracy % | 80.00 | 90.00 | -10.00 | none (n = 1) | - | 1 |" in text


def test_no_seed_in_common(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "argmax", 0)
    make_run(tmp_path / "b", "all_logit", 1)
    assert "No seed in common, so no difference." in report(tmp_path).printed()


def test_runs_without_a_test_split(tmp_path: Path) -> None:
    for seed in range(2):
        make_run(tmp_path / f"{seed}", "argmax", seed, test=None, reliability={"split": "val"} | BINS)
    made = report(tmp_path)
    text = made.printed()
    assert "no test split; its numbers are of the validation images, on which the best step was chosen" in text
    assert "| accuracy % |" in text and "test accuracy" not in text
    assert "| digits (validation) | vgg16 | argmax | default | 2 | 25.00 ± 0.00 | none (no spread) |" in text
    (picture,) = [block for block in made.details if isinstance(block, report.Picture)]
    assert picture.caption.startswith("Reliability on the validation images, summed over seeds")


def test_runs_of_older_versions(tmp_path: Path) -> None:
    """Without bins, config, circumstances and the newer metrics."""
    for k, loss in enumerate(("argmax", "all_logit")):
        old = {"accuracy": 0.9, "nll_argmax": 0.1 + k}
        gone = dict.fromkeys(("config", "reliability", "device", "precision", "versions", "git"))
        make_run(tmp_path / loss, loss, test=old, **gone)
    made = report(tmp_path)
    text = made.printed()
    assert "2 of 2 runs: no config recorded (an older version): settings are told by the overrides, for all runs" in text
    assert "2 of 2 runs: no bins of confidence recorded (another version): not in the reliability diagrams" in text
    assert "(compared: overrides, device, precision, versions, commit)" in text
    assert "| NLL (argmax) | 1.1000 | 0.1000 | +1.0000 | none (n = 1) | - | 1 |" in text
    assert "| ECE % | - | - | - | none (n = 0) | - | 0 |" in text
    assert not any(isinstance(block, report.Picture) for block in made.details)


def test_reliability_is_summed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    drawn = figures.reliability
    monkeypatch.setattr(figures, "reliability", lambda diagrams: seen.extend(diagrams) or drawn(diagrams))
    for seed in range(3):
        make_run(tmp_path / f"{seed}", "argmax", seed, **({"reliability": None} if seed == 2 else {}))
    report(tmp_path)
    ((title, images, correct, confidence),) = seen
    assert title == "argmax\nECE 4.00%, 2 seeds"
    assert (images[-2:], correct[-2:], confidence[-2:]) == ((20, 180), (12, 178), (18, 176))


# The command


def compare(monkeypatch: pytest.MonkeyPatch, *arguments: Path | str) -> int:
    monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, arguments)])
    try:
        runpy.run_path(str(ROOT / "scripts" / "compare.py"), run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    accuracies(tmp_path / "runs", argmax=[0.9, 0.94])
    make_run(tmp_path / "runs" / "going", "argmax", done=False)
    monkeypatch.chdir(tmp_path)
    assert compare(monkeypatch) == 0  # "runs" is where runs go
    said = capsys.readouterr()
    assert said.err == "left out, not finished: runs/going\n"
    assert said.out.endswith("written to runs/comparison\n") and "| 92.00 ± 2.83 |" in said.out
    assert (tmp_path / "runs" / "comparison" / "comparison.html").is_file()
    assert compare(monkeypatch, "runs/argmax0", "runs/argmax1", "--output", "out") == 0
    assert "2 finished runs" in (tmp_path / "out" / "comparison.md").read_text()
    assert capsys.readouterr().err == ""


def test_command_with_several_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies(tmp_path / "runs", argmax=[0.9, 0.94])
    monkeypatch.chdir(tmp_path)
    assert compare(monkeypatch, "runs/argmax0", "runs/argmax1") == 0
    assert (tmp_path / "runs" / "comparison" / "comparison.md").is_file()


def test_command_and_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One clear line each, and exit code 1."""
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("file").touch()
    make_run(Path("good"), "argmax")
    broken = make_run(Path("broken"), "argmax")
    (broken / "metrics.json").write_text("{")
    for arguments, complaint in {
        ("gone",): "error: gone: there is no such folder",
        ("good", "file"): "error: file: is not a folder",
        ("empty",): "error: no finished runs there (a finished run folder holds DONE and metrics.json)",
        ("good", "--output", "file"): "error: file: cannot be written (File exists); --output FOLDER takes another place",
    }.items():
        assert compare(monkeypatch, *arguments) == 1
        assert capsys.readouterr().err == complaint + "\n"
    assert compare(monkeypatch, "broken") == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("left out, not readable: broken/metrics.json is damaged") and "no finished runs" in second
