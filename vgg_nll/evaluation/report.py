"""The numbers of one run -> a table, and a file."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vgg_nll.training import checkpoint

FINAL_ROWS = (
    "accuracy",
    "top5_accuracy",
    "loss",
    "nll_argmax",
    "nll_argmax_prediction",
    "nll_all_logit",
    "brier",
    "ece",
    "mce",
    "adaptive_ece",
    "classwise_ece",
    "overconfidence",
    "aurc",
    "auroc",
    "confidence",
    "confidence_correct",
    "confidence_incorrect",
    "true_class_probability",
    "margin",
)


def final_table(splits: Mapping[str, Mapping[str, float]]) -> str:
    """{"validation": {"accuracy": ...}, "test": {...}} -> one row per metric, one column per split."""
    width = max(map(len, FINAL_ROWS))
    lines = [" " * width + "".join(f"{name:>14}" for name in splits)]
    for row in FINAL_ROWS:
        lines.append(f"{row:<{width}}" + "".join(f"{_number(values[row]):>14}" for values in splits.values()))
    return "\n".join(lines)


def write_metrics(path: Path, content: Mapping[str, Any]) -> None:
    """JSON in one step; NaN, which JSON does not have, becomes null."""
    checkpoint.write_text(path, json.dumps(_without_nan(content), indent=2, allow_nan=False) + "\n")


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
