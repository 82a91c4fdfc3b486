"""Cross-validation: the runs of all folds -> one run, with metrics over all images, each tested once."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import torch

from vgg_nll.calibration.bins import of_bins
from vgg_nll.comparison.keys import IGNORED
from vgg_nll.comparison.runs import Run
from vgg_nll.evaluation.registry import METRICS, OverFolds

FOLD, FOLDS = "data.fold", "data.folds"


def join_folds(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Returns the runs, with those of a complete cross-validation joined; and a line for each run of an incomplete one.

    Metrics over all images are exact: means weighted by the number of images, and what follows from the bins of confidence.
    Those whose row says `OverFolds.NONE` are left out, and the report names them. Runs belong together if all settings that can
    change a result are equal, but for the fold.
    """
    single = [run for run in runs if run.config.get(FOLDS, "null") == "null" or run.bins is None]
    by_setting: dict[frozenset[tuple[str, str]], dict[int, Run]] = defaultdict(dict)
    left_out = []
    for run in runs:
        if run in single:
            continue
        key = frozenset(
            (name, value) for name, value in run.config.items() if name != FOLD and not f"{name}.".startswith(IGNORED)
        )
        fold = int(run.config[FOLD])
        if fold in by_setting[key]:
            left_out.append(f"left out, same settings, seed and fold: {by_setting[key][fold].folder} ({run.folder} counts)")
        by_setting[key][fold] = run
    for parts in by_setting.values():
        first = next(iter(parts.values()))
        missing = sorted(set(range(int(first.config[FOLDS]))) - parts.keys())
        if missing:
            why = f"left out, {FOLD}={','.join(map(str, missing))} missing of {FOLDS}={first.config[FOLDS]}"
            left_out += [f"{why}: {run.folder}" for run in parts.values()]
        else:
            single.append(join([parts[fold] for fold in sorted(parts)]))
    return sorted(single, key=lambda run: run.folder), left_out


def join(parts: Sequence[Run]) -> Run:
    """Returns the run that stands for all folds of one cross-validation, in their order."""
    bins = torch.stack([part.bins for part in parts if part.bins is not None])  # [F, 3, NUM_BINS]
    images, right = bins.sum(dim=2).T[:2]
    weights = {OverFolds.MEAN: images, OverFolds.MEAN_CORRECT: right, OverFolds.MEAN_INCORRECT: images - right}
    means = [metric for metric in METRICS.values() if metric.over_folds in weights]
    values = {metric.name: _mean(metric.name, parts, weights[metric.over_folds].tolist()) for metric in means}
    found = {name: value for name, value in values.items() if value is not None}
    config = {key: value for key, value in parts[0].config.items() if key != FOLD}
    return replace(
        parts[0],
        seconds=sum(part.seconds for part in parts),
        values=found | {name: float(value) for name, value in of_bins(*bins.sum(dim=0)).items()},
        validation={
            name: fmean(part.validation[name] for part in parts)
            for name in ("accuracy", "nll_argmax")
            if all(name in part.validation for part in parts)
        },
        bins=bins.sum(dim=0),
        overrides={key: value for key, value in parts[0].overrides.items() if key != FOLD},
        config=config,
        parts=tuple(parts),
    )


def _mean(name: str, parts: Sequence[Run], weights: Sequence[float]) -> float | None:
    """Returns the weighted mean; None if a fold with weight has no value."""
    pairs = [(part.values.get(name), weight) for part, weight in zip(parts, weights, strict=True) if weight > 0]
    if not pairs or any(value is None for value, _ in pairs):
        return None
    return sum(value * weight for value, weight in pairs if value is not None) / sum(weight for _, weight in pairs)
