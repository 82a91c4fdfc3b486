"""Tables of finished runs."""

import json
import math
from pathlib import Path

from vgg_nll.report import comparison_table, final_table, find_runs, write_metrics

NAMES = (
    "accuracy top5_accuracy loss nll_argmax nll_argmax_prediction nll_all_logit brier ece mce adaptive_ece classwise_ece "
    "overconfidence aurc auroc confidence confidence_correct confidence_incorrect true_class_probability margin"
)


def make_run(
    folder: Path, loss: str, accuracy: float, *, wrong: float = 0.5, done: bool = True, seed: int = 0, overrides: tuple = ()
) -> None:
    folder.mkdir(parents=True)
    test = dict.fromkeys(NAMES.split(), 0.25) | {"accuracy": accuracy, "confidence_incorrect": wrong}
    content = {"data": "digits", "model": "vgg16", "loss": loss, "test": test, "seconds": 60 + accuracy, "seed": seed}
    write_metrics(folder / "metrics.json", content | {"overrides": [f"loss={loss}", f"seed={seed}", *overrides]})
    if done:
        (folder / "DONE").touch()


def test_comparison(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "argmax", 0.1)  # the same seed again below: the later one counts
    make_run(tmp_path / "a0", "argmax", 0.97)
    make_run(tmp_path / "b", "argmax", 0.99, wrong=math.nan, seed=1)  # nothing wrong: no confidence when wrong
    make_run(tmp_path / "c", "all_logit", 0.98)
    make_run(tmp_path / "d", "all_logit", 0.5, done=False)
    make_run(tmp_path / "e", "all_logit", 0.5, overrides=("optimizer.lr=1",))
    (tmp_path / "f").mkdir()
    write_metrics(tmp_path / "f" / "metrics.json", {"val": {}, "seed": 0})  # no test split
    (tmp_path / "f" / "DONE").touch()
    runs = find_runs([tmp_path])
    assert [run.name for run in runs] == ["a", "a0", "b", "c", "e", "f"]
    rows = comparison_table(runs).splitlines()[2:]
    assert rows == [
        "| digits | vgg16 | all_logit | default | 1 | 98.00 | 98.00 | 0.2500 | 25.00 | 25.00 | 50.00 | 61 to 61 |",
        "| digits | vgg16 | all_logit | optimizer.lr=1 | 1 | 50.00 | 50.00 | 0.2500 | 25.00 | 25.00 | 50.00 | 60 to 60 |",
        "| digits | vgg16 | argmax | default | 2 | 98.00 ± 1.41 | 97.00 | 0.2500 | 25.00 | 25.00 | 50.00 | 61 to 61 |",
    ]


def test_metrics_are_json_without_nan(tmp_path: Path) -> None:
    write_metrics(tmp_path / "metrics.json", {"test": {"ece": math.nan, "accuracy": 1.0}})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"test": {"ece": None, "accuracy": 1.0}}
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_final_table() -> None:
    values = dict.fromkeys(NAMES.split(), 0.5) | {"confidence_incorrect": math.nan}
    lines = final_table({"validation": values, "test": values}).splitlines()
    assert len(lines) == 1 + len(NAMES.split())
    assert lines[0].split() == ["validation", "test"]
    assert lines[1].split() == ["accuracy", "0.5000", "0.5000"]
    assert lines[17].split() == ["confidence_incorrect", "-", "-"]
