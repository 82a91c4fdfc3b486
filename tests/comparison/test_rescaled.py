"""outputs.npz in a comparison: metrics of single images, and after each run's own temperature."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.outputs import measure

from vgg_nll.calibration import temperature
from vgg_nll.calibration.assess import assess
from vgg_nll.comparison import folds, report, rescaled
from vgg_nll.comparison.grouping import group_runs
from vgg_nll.comparison.rescaled import RescaledGroup
from vgg_nll.comparison.runs import find
from vgg_nll.evaluation.registry import OverFolds, View, shown_in

MakeRun = Callable[..., Path]
WriteLogits = Callable[..., None]
Data = tuple[np.ndarray, np.ndarray]
LINE = "so nothing after temperature scaling, and no intervals over images"


def sample(images: int, seed: int, overconfident: float = 3.0, classes: int = 4) -> Data:
    """Logits whose labels are drawn from their softmax; the logits are then multiplied, so that this is their temperature."""
    draw = np.random.default_rng(seed)
    logits = 2 * draw.normal(size=(images, classes))
    labels = (logits + draw.gumbel(size=logits.shape)).argmax(1)
    return (overconfident * logits).astype(np.float32), labels


def read(folder: Path) -> tuple[RescaledGroup | None, list[str]]:
    groups, _ = group_runs(folds.join_folds(find([folder])[0])[0])
    (result,) = rescaled.read_groups(groups)
    return result


def test_before_and_after_temperature(tmp_path: Path, make_run: MakeRun, write_logits: WriteLogits) -> None:
    """After is what evaluation gives for logits that were divided before; more images than `BATCH`."""
    val, test = sample(900, 0), sample(rescaled.BATCH + 76, 1)
    write_logits(make_run(tmp_path / "run", "argmax", 3), val=val, test=test)
    group, lines = read(tmp_path)
    assert group is not None and lines == []
    ((fitted,),) = group.temperatures["argmax"].values()
    assert fitted == temperature.fit(*map(torch.from_numpy, val)) and fitted.low < 3 < fitted.high
    logits, labels = map(torch.from_numpy, test)
    before, after = group.before.losses["argmax"][3], group.after.losses["argmax"][3]
    scaled = logits.double() / fitted.temperature
    judged = {name: value for name, value in assess(scaled, labels).items() if isinstance(value, float)}
    expected = measure(scaled, labels, 100)
    assert dict(after.values) == pytest.approx(expected | judged, rel=1e-9)
    assert after.bins is not None and after.bins[0].sum() == len(labels)
    assert (
        after.values["ece"] == pytest.approx(expected["ece"]) and expected["ece"] < 0.04 < measure(logits, labels, 100)["ece"]
    )
    for values, of_images in ((measure(logits, labels, 100), before.images), (expected, after.images)):
        assert of_images.keys() == {"label", *(metric for metric in of_images if metric in values)}
        for name in of_images.keys() - {"label"}:
            assert of_images[name].mean() == pytest.approx(values[name], rel=1e-9), name
        assert np.array_equal(of_images["label"], test[1])
    table = rescaled.temperature_table(group.temperatures)
    interval = f"{fitted.low:.2f} to {fitted.high:.2f}"
    assert table.rows == [("argmax", "3", f"{fitted.temperature:.2f}", interval, "900")]


def test_outputs_of_real_runs_give_their_metrics(real_runs: Path) -> None:
    group, lines = read(real_runs)
    assert group is not None and lines == []
    for run in group.before.runs:
        for name, values in run.images.items():
            if name != rescaled.LABEL:
                assert values.mean() == pytest.approx(run.values[name], rel=1e-6), name
    for run in group.after.runs:
        before = group.before.losses[run.loss][run.seed]
        assert run.values["accuracy"] == before.values["accuracy"]
        assert run.values.keys() >= {metric.name for metric in shown_in(View.COMPARISON)} & before.values.keys()


def test_each_fold_has_its_temperature(tmp_path: Path, make_run: MakeRun, write_logits: WriteLogits) -> None:
    """And the joined metrics are those of all rescaled images together."""
    parts = []
    for fold, scale in enumerate((1.5, 4.0)):
        run = make_run(tmp_path / str(fold), "argmax", 0, leaves={"data.folds": 2, "data.fold": fold})
        val, test = sample(300, fold, scale), sample(200 + fold, 9 + fold, scale)
        write_logits(run, val=val, test=test)
        fitted = temperature.fit(*map(torch.from_numpy, val))
        parts.append((torch.from_numpy(test[0]).double() / fitted.temperature, torch.from_numpy(test[1])))
    group, lines = read(tmp_path)
    assert group is not None and lines == []
    (temperatures,) = group.temperatures["argmax"].values()
    assert temperatures[0].temperature < 2 < 3 < temperatures[1].temperature
    (joined,) = group.after.runs
    logits, labels = map(torch.cat, zip(*parts, strict=True))
    together = measure(logits, labels, 1000)
    kept = [m.name for m in shown_in(View.COMPARISON) if m.over_folds is not OverFolds.NONE]
    assert {name: joined.values[name] for name in kept} == pytest.approx({name: together[name] for name in kept}, rel=1e-9)
    assert len(joined.images["accuracy"]) == 401 and joined.images["brier"].mean() == pytest.approx(together["brier"])


def broken(folder: Path, write: WriteLogits, good: Data) -> dict[str, Callable[[], object]]:
    path = folder / "outputs.npz"
    bad = good[0].copy()
    bad[0, 0] = np.nan
    return {
        "is damaged": lambda: path.write_bytes(path.read_bytes()[:-30]),
        "is of another run": lambda: write(folder, run_id="other", val=good, test=good),
        "has no images of val": lambda: write(folder, test=good),
        "has no images of test": lambda: write(folder, val=good),
        "has no images of val and test": lambda: write(folder, train=good),
        "has no images of test,": lambda: write(folder, val=good, test=(good[0][:0], good[1][:0])),
        "holds logits that are not finite": lambda: write(folder, val=good, test=(bad, good[1])),
    }


@pytest.mark.parametrize("words", broken(Path(), lambda *_: None, sample(5, 0)))
def test_a_file_that_cannot_be_used(tmp_path: Path, make_run: MakeRun, write_logits: WriteLogits, words: str) -> None:
    """One line names it; no run of the group is rescaled, since the means would be over other seeds."""
    good = sample(30, 0)
    for seed in (0, 1):
        write_logits(make_run(tmp_path / str(seed), "argmax", seed), val=good, test=good)
    broken(tmp_path / "1", write_logits, good)[words]()
    group, (line,) = read(tmp_path)
    assert group is None
    assert line.startswith(f"digits, vgg16, default: {tmp_path}/1/outputs.npz: {words}") and line.endswith(LINE)


def test_runs_without_the_file_are_counted(tmp_path: Path, make_run: MakeRun, write_logits: WriteLogits) -> None:
    for seed in range(3):
        make_run(tmp_path / str(seed), "argmax", seed)
    write_logits(tmp_path / "0", val=sample(30, 0), test=sample(30, 1))
    assert read(tmp_path) == (None, [f"digits, vgg16, default: 2 of 3 runs have no outputs.npz, {LINE}"])


def test_without_a_test_split_nothing_is_read(tmp_path: Path, make_run: MakeRun, write_logits: WriteLogits) -> None:
    run = make_run(tmp_path / "run", "argmax", test=None, reliability=None)
    write_logits(run, val=sample(30, 0))
    assert read(tmp_path) == (None, [])


@pytest.mark.parametrize("case", ["all right", "all wrong", "one class", "one image", "two classes"])
def test_edge_cases(tmp_path: Path, make_run: MakeRun, write_logits: WriteLogits, case: str) -> None:
    logits, labels = sample(40, 0, classes=2 if case == "two classes" else 4)
    labels = {"all right": logits.argmax(1), "all wrong": logits.argmin(1), "one class": 0 * labels}.get(case, labels)
    split = (logits[:1], labels[:1]) if case == "one image" else (logits, labels)
    write_logits(make_run(tmp_path / "run", "argmax"), val=split, test=split)
    group, lines = read(tmp_path)
    assert group is not None and lines == []
    values = group.after.losses["argmax"][0].values
    assert ("auroc" in values) == (case in ("one class", "two classes"))
    assert ("confidence_incorrect" in values) == (0 < values["accuracy"] < 1 or case == "all wrong")


@pytest.mark.slow
def test_the_report_shows_it(tmp_path: Path, make_run: MakeRun, write_logits: WriteLogits) -> None:
    for loss, scale in (("argmax", 3.0), ("all_logit", 1.5)):
        for seed in (0, 1, 2):
            run = make_run(tmp_path / f"{loss}{seed}", loss, seed, values={"accuracy": 0.9 + 0.01 * seed * len(loss)})
            write_logits(run, val=sample(300, seed + len(loss), scale), test=sample(200, 7, scale))
    made = report.make(*find([tmp_path]))
    assert "After each run's own temperature, " in " ".join(made.printed().split())
    titles = [section.title for section in made.details]
    assert titles[1:4] == ["After temperature scaling", "all_logit − argmax", "Temperatures"]
    made.write(tmp_path / "out")
    markdown = (tmp_path / "out/comparison.md").read_text()
    assert "![intervals_after_temperature](intervals_after_temperature.png)" in markdown
    html = (tmp_path / "out/comparison.html").read_text()
    assert html.count("<details>") == html.count("</details>") == 3
