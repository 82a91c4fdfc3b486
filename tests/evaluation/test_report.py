"""The numbers of one run, as a table and as a file."""

import json
import math
from pathlib import Path

from vgg_nll.evaluation.report import final_table, write_metrics

NAMES = (
    "accuracy top5_accuracy loss nll_argmax nll_argmax_prediction nll_all_logit brier ece mce adaptive_ece classwise_ece "
    "overconfidence aurc auroc confidence confidence_correct confidence_incorrect true_class_probability margin"
)


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
