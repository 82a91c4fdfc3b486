"""Cross-validation: joined metrics equal those of all images together."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vgg_nll.comparison import export, folds, report, runs
from vgg_nll.comparison.runs import Run
from vgg_nll.evaluation import metrics
from vgg_nll.evaluation.metrics import Sums
from vgg_nll.evaluation.registry import METRICS, OverFolds, View

MakeRun = Callable[..., Path]


def evaluate(logits: torch.Tensor, target: torch.Tensor) -> Sums:
    loss = torch.nn.functional.cross_entropy(logits, target)
    return metrics.update(metrics.softmax_outputs(logits), target, loss)


def as_run(base: Run, sums: Sums, fold: int, number: int, seed: int = 0) -> Run:
    columns = (sums.bin_images, sums.bin_correct, sums.bin_confidence)
    values = {name: value for name, value in metrics.compute(sums).items() if value == value}
    config = {**base.config, "data.fold": str(fold), "data.folds": str(number), "seed": str(seed)}
    bins = torch.stack(columns)
    return replace(base, folder=base.folder / str(fold), values=values, bins=bins, config=config, seed=seed)


@pytest.fixture
def base(make_run: MakeRun, tmp_path: Path) -> Run:
    make_run(tmp_path / "run", "argmax", 0)
    (found,), _ = runs.find([tmp_path])
    return found


@pytest.mark.parametrize("sizes", [(10, 10, 10), (1, 7, 50), (3, 4)])
def test_joined_metrics_are_those_of_all_images(base: Run, sizes: tuple[int, ...]) -> None:
    draw = torch.Generator().manual_seed(0)
    parts = [
        (3 * torch.randn(n, 4, generator=draw, dtype=torch.float64), torch.randint(4, (n,), generator=draw)) for n in sizes
    ]
    together = metrics.compute(evaluate(torch.cat([a for a, _ in parts]), torch.cat([b for _, b in parts])))
    found = [as_run(base, evaluate(*part), k, len(sizes)) for k, part in enumerate(parts)]
    (joined,), left_out = folds.join_folds(found)
    assert left_out == [] and joined.folders == [run.folder for run in found]
    left = {name for name, metric in METRICS.items() if metric.over_folds is OverFolds.NONE}
    assert joined.values.keys() == {name for name, value in together.items() if value == value} - left
    for name, value in joined.values.items():
        assert value == pytest.approx(together[name], abs=1e-12), name
    assert joined.seconds == sum(run.seconds for run in found)
    assert "data.fold" not in joined.config


def test_the_report_names_what_folds_do_not_have(base: Run) -> None:
    sums = evaluate(torch.eye(4, dtype=torch.float64), torch.tensor([0, 1, 2, 2]))  # one wrong: every metric has a value
    found, _ = folds.join_folds([as_run(base, sums, fold, 2) for fold in (0, 1)])
    printed = report.make(found, []).printed()
    (line,) = (line for line in printed.splitlines() if ": joined from folds, so no " in line)
    titles = line.partition("so no ")[2].removesuffix(": they need all images at once").split(", ")
    compared = [metric for metric in METRICS.values() if View.COMPARISON in metric.views]
    assert titles == [metric.title for metric in compared if metric.name not in found[0].values]
    assert {"adaptive ECE", "classwise ECE", "AURC", "AUROC"} <= set(titles)
    assert "joined from folds" not in report.make([base], []).printed()


def test_incomplete_folds_are_left_out(base: Run) -> None:
    sums = evaluate(torch.eye(4, dtype=torch.float64), torch.arange(4))
    plain = replace(base, folder=base.folder / "plain")
    found = [as_run(base, sums, fold, 3, seed) for seed, fold in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 2))]
    joined, left_out = folds.join_folds([plain, *found])
    assert {run.seed for run in joined if run.parts} == {0} and plain in joined
    assert left_out == [f"left out, data.fold=1 missing of data.folds=3: {base.folder / name}" for name in ("0", "2")]


def test_a_fold_twice_counts_once(base: Run) -> None:
    sums = evaluate(torch.eye(4, dtype=torch.float64), torch.arange(4))
    again = replace(as_run(base, sums, 1, 2), folder=base.folder / "again")
    (joined,), left_out = folds.join_folds([as_run(base, sums, 0, 2), as_run(base, sums, 1, 2), again])
    assert [part.folder.name for part in joined.parts] == ["0", "again"]
    assert left_out == [f"left out, same settings, seed and fold: {base.folder / '1'} ({again.folder} counts)"]


def test_other_settings_are_another_validation(base: Run) -> None:
    sums = evaluate(torch.eye(4, dtype=torch.float64), torch.arange(4))
    found = [as_run(base, sums, fold, 2) for fold in (0, 1)]
    other = [replace(run, config=run.config | {"optimizer.lr": "9"}, folder=run.folder / "x") for run in found]
    quiet = [replace(run, config=run.config | {"tracking._target_": "x"}) for run in found]  # no effect
    assert len(folds.join_folds([*found, *other])[0]) == 2
    assert len(folds.join_folds([found[0], quiet[1]])[0]) == 1


def test_csv(base: Run, tmp_path: Path) -> None:
    other = replace(base, seed=1, config=base.config | {"seed": "1", "optimizer.lr": "9"}, values=base.values | {"ece": 0.125})
    export.write_runs(tmp_path / "runs.csv", [base, other])
    with (tmp_path / "runs.csv").open() as file:
        first, second = csv.DictReader(file)
    assert (first["seed"], second["seed"]) == ("0", "1")
    assert second["optimizer.lr"] == "9" and "trainer.epochs" not in first
    assert float(second["ece"]) == 0.125 and float(first["accuracy"]) == base.values["accuracy"]
    export.write_curves(tmp_path / "curves.csv", {Path("a,b"): {"loss/val": [(1, 0.5), (2, 1e-9)], "a": []}})
    with (tmp_path / "curves.csv").open() as file:
        assert list(csv.reader(file)) == [
            ["run", "tag", "step", "value"],
            *(["a,b", "loss/val", "1", "0.5"], ["a,b", "loss/val", "2", "1e-09"]),
        ]
