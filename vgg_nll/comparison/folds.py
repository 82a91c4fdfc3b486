"""Cross-validation: the runs of all folds -> one run, with metrics over all images, each tested once."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from vgg_nll.comparison.keys import IGNORED
from vgg_nll.comparison.runs import Run

FOLD, FOLDS = "data.fold", "data.folds"
# Means over images: over all folds they are means weighted by the images of each fold.
MEANS = (
    *("accuracy", "top5_accuracy", "loss", "nll_argmax", "nll_argmax_prediction", "nll_all_logit", "brier"),
    *("confidence", "true_class_probability", "margin", "overconfidence"),
)


def join_folds(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Returns the runs, with those of a complete cross-validation joined; and a line for each run of an incomplete one.

    Metrics over all images are exact: means weighted by the number of images, and what follows from the bins of confidence.
    Those that need every image's output (AURC, AUROC, adaptive and classwise ECE, quantiles) are left out. Runs belong together
    if all settings that can change a result are equal, but for the fold.
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
            single.append(_joined([parts[fold] for fold in sorted(parts)]))
    return sorted(single, key=lambda run: run.folder), left_out


def _joined(parts: Sequence[Run]) -> Run:
    bins = [part.bins for part in parts if part.bins is not None]
    total = sum(bins[1:], start=bins[0])
    images = [sum(part.images) for part in bins]
    right = [sum(part.correct) for part in bins]
    wrong = [all_ - correct for all_, correct in zip(images, right, strict=True)]
    weights = dict.fromkeys(MEANS, images) | {"confidence_correct": right, "confidence_incorrect": wrong}
    values = {name: _mean(name, parts, weight) for name, weight in weights.items()}
    found = {name: value for name, value in values.items() if value is not None}
    config = {key: value for key, value in parts[0].config.items() if key != FOLD}
    return replace(
        parts[0],
        seconds=sum(part.seconds for part in parts),
        values=found | {"ece": total.ece, "mce": total.mce},
        validation={
            name: fmean(part.validation[name] for part in parts)
            for name in ("accuracy", "nll_argmax")
            if all(name in part.validation for part in parts)
        },
        bins=total,
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
