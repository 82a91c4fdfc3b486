"""Finished runs -> tables."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vgg_nll import checkpoint

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


def find_runs(folders: Iterable[Path]) -> list[Path]:
    """Every finished run (it has `metrics.json` and `DONE`) in or below `folders`, in order of their paths."""
    return sorted(
        {path.parent for folder in folders for path in folder.rglob("metrics.json") if (path.parent / "DONE").exists()}
    )


def comparison_table(runs: Iterable[Path]) -> str:
    """Markdown: one row per data set, model, loss and further overrides; its runs differ in their seeds.

    Test accuracy as mean, sample standard deviation and least; means of the rest. Accuracy, ECE and confidence in
    percent. Of several runs with one seed the last counts; runs without a test split are left out.
    """
    groups: dict[tuple[str, str, str, str], dict[int, dict[str, Any]]] = {}
    for run in runs:
        content = json.loads((run / "metrics.json").read_text())
        if "test" in content:
            others = [item for item in content["overrides"] if not item.startswith(("data=", "model=", "loss=", "seed="))]
            key = (content["data"], content["model"], content["loss"], " ".join(sorted(others)) or "default")
            groups.setdefault(key, {})[content["seed"]] = content
    head = "data | model | loss | settings | n | test accuracy % | least | NLL (argmax) | ECE % | confidence % | "
    head += "when wrong % | seconds"
    lines = [f"| {head} |", "|---" * (head.count("|") + 1) + "|"]
    for key, by_seed in sorted(groups.items()):
        contents = list(by_seed.values())
        tests = [content["test"] for content in contents]
        accuracy = [100 * test["accuracy"] for test in tests]
        spread = f" ± {statistics.stdev(accuracy):.2f}" if len(accuracy) > 1 else ""
        seconds = [content["seconds"] for content in contents]
        cells = (
            *key,
            str(len(accuracy)),
            f"{statistics.mean(accuracy):.2f}{spread}",
            f"{min(accuracy):.2f}",
            f"{_mean(tests, 'nll_argmax'):.4f}",
            f"{100 * _mean(tests, 'ece'):.2f}",
            f"{100 * _mean(tests, 'confidence'):.2f}",
            f"{100 * _mean(tests, 'confidence_incorrect'):.2f}",
            f"{min(seconds):.0f} to {max(seconds):.0f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mean(tests: list[dict[str, float | None]], name: str) -> float:
    """Over the runs that have a value (a run without mistakes has no confidence when wrong); NaN where none has."""
    values = [test[name] for test in tests if test[name] is not None]
    return statistics.fmean(value for value in values if value is not None) if values else math.nan


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
