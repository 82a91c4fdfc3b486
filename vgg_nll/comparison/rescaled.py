"""outputs.npz of each run -> values of single images, and all metrics after the run's own temperature."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vgg_nll.calibration import temperature
from vgg_nll.calibration.assess import assess
from vgg_nll.calibration.temperature import Fitted
from vgg_nll.comparison.folds import join
from vgg_nll.comparison.grouping import Group
from vgg_nll.comparison.runs import Run
from vgg_nll.comparison.tables import INTERVAL, Table
from vgg_nll.errors import CheckpointError
from vgg_nll.escapes import printable
from vgg_nll.evaluation import metrics
from vgg_nll.evaluation.metrics import Outputs
from vgg_nll.evaluation.outputs import read_outputs
from vgg_nll.losses import argmax_nll
from vgg_nll.progress import track
from vgg_nll.run_folder import paths

BATCH = 1024  # images: some dozen arrays of this many rows are in memory at once
LABEL = "label"  # beside the metrics in `Run.images`
SPLITS = ("val", "test")
Temperatures = tuple[Fitted, ...]  # one; of a cross-validation, one per fold


class Rescaled(NamedTuple):
    """One run with values of single images: before and after its own temperature."""

    before: Run
    after: Run
    temperatures: Temperatures


class RescaledGroup(NamedTuple):
    """A group with the same of all its runs."""

    before: Group
    after: Group
    temperatures: Mapping[str, Mapping[int, Temperatures]]  # by loss and seed


def read_groups(groups: Sequence[Group]) -> list[tuple[RescaledGroup | None, list[str]]]:
    """Returns each group with what outputs.npz of its runs adds; None, and lines that say why, if one run's cannot be used.

    All runs of a group or none, so that every mean is over the same seeds. A group without a test split has no line: the report
    names it for that.
    """
    runs = [run for group in groups if group.split == "test" for run in group.runs]
    read = dict(zip((run.folder for run in runs), track(map(_read_or_line, runs), len(runs), "outputs"), strict=True))
    return [_of_group(group, read) if group.split == "test" else (None, []) for group in groups]


def _of_group(group: Group, read: Mapping[Path, Rescaled | str | None]) -> tuple[RescaledGroup | None, list[str]]:
    results = [read[run.folder] for run in group.runs]
    lines = [result for result in results if isinstance(result, str)]
    without = sum(result is None for result in results)
    lines += [f"{without} of {len(results)} runs have no {paths.OUTPUTS}"] if without else []
    if lines:
        why = "so nothing after temperature scaling, and no intervals over images"
        return None, [f"{group.name}: {line}, {why}" for line in lines]
    before, after, temperatures = dict[str, dict[int, Run]](), dict[str, dict[int, Run]](), dict[str, dict[int, Temperatures]]()
    for loss, by_seed in group.losses.items():
        for seed, run in by_seed.items():
            found = read[run.folder]
            assert isinstance(found, Rescaled)
            before.setdefault(loss, {})[seed], after.setdefault(loss, {})[seed] = found.before, found.after
            temperatures.setdefault(loss, {})[seed] = found.temperatures
    return RescaledGroup(replace(group, losses=before), replace(group, losses=after), temperatures), []


def _read_or_line(run: Run) -> Rescaled | str | None:
    """Returns a line for a file that cannot be used, None if there is none: a run from before has none, nor one with too many
    logits."""
    if not all((part.folder / paths.OUTPUTS).exists() for part in run.parts or (run,)):
        return None
    try:
        return _read(run)
    except CheckpointError as error:
        return printable(str(error))


def _read(run: Run) -> Rescaled:
    """Raises CheckpointError, with the path, for a file that is damaged, of another run, or lacks what is needed."""
    if not run.parts:
        return _read_one(run)
    parts = [_read(part) for part in run.parts]
    before, after = ([getattr(part, name) for part in parts] for name in ("before", "after"))
    before_images, after_images = (
        {name: np.concatenate([part.images[name] for part in side]) for name in side[0].images} for side in (before, after)
    )
    temperatures = tuple(fitted for part in parts for fitted in part.temperatures)
    return Rescaled(replace(run, images=before_images), replace(join(after), images=after_images), temperatures)


def _read_one(run: Run) -> Rescaled:
    path = run.folder / paths.OUTPUTS
    splits = read_outputs(path, run.files.run_id)
    missing = [name for name in SPLITS if name not in splits or not len(splits[name].labels)]
    if missing:
        raise CheckpointError(f"{path}: has no images of {' and '.join(missing)}")
    if not all(np.isfinite(splits[name].logits).all() for name in SPLITS):
        raise CheckpointError(f"{path}: holds logits that are not finite")
    (val, val_labels), (test, labels) = (
        (torch.from_numpy(splits[name].logits), torch.from_numpy(splits[name].labels).long()) for name in SPLITS
    )
    fitted = temperature.fit(val, val_labels)
    scaled = test.double() / fitted.temperature
    values, bins = _measure(scaled, labels)
    after = replace(run, values=values, bins=bins, images=_values_of_images(scaled, labels))
    return Rescaled(replace(run, images=_values_of_images(test, labels)), after, (fitted,))


def _measure(logits: Tensor, labels: Tensor) -> tuple[dict[str, float], Tensor]:
    """Returns the metrics that have a value, and the bins of confidence [3, NUM_BINS]."""
    batches = zip(logits.split(BATCH), labels.split(BATCH), strict=True)
    # No comparison shows the training loss, so that of another loss does no harm.
    sums = (metrics.update(metrics.softmax_outputs(part), target, argmax_nll(part, target)) for part, target in batches)
    total = reduce(add, sums)
    found = metrics.compute(total) | {name: value for name, value in assess(logits, labels).items() if isinstance(value, float)}
    values = {name: value for name, value in found.items() if np.isfinite(value)}
    return values, torch.stack([total.bin_images, total.bin_correct, total.bin_confidence])


def _values_of_images(logits: Tensor, labels: Tensor) -> dict[str, np.ndarray]:
    """Returns the value of every image [N], by the name of the metric that is the mean of them; and the labels."""
    batches = zip(logits.split(BATCH), labels.split(BATCH), strict=True)
    parts = [_of_images(metrics.softmax_outputs(part), target) for part, target in batches]
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


def _of_images(outputs: Outputs, target: Tensor) -> dict[str, Tensor]:
    label = target[:, None]
    is_target = torch.zeros_like(outputs.logits, dtype=torch.bool).scatter_(1, label, True)
    confidence, correct = outputs.probabilities.amax(dim=1), (outputs.logits.argmax(dim=1) == target).double()
    return {
        LABEL: target,
        "accuracy": correct,
        "nll_argmax": outputs.nll.gather(1, label)[:, 0],
        "nll_all_logit": torch.where(is_target, outputs.nll, outputs.complement_nll).sum(dim=1),
        "brier": (outputs.probabilities - is_target.double()).square().sum(dim=1),
        "confidence": confidence,
        "overconfidence": confidence - correct,
        "margin": outputs.margin,
    }


def temperature_table(temperatures: Mapping[str, Mapping[int, Temperatures]]) -> Table:
    """Returns a row per temperature: the loss, the seed, T with its 95% interval, the images that it was fitted to."""
    rows = [
        (loss, str(seed), f"{fitted.temperature:.2f}", f"{fitted.low:.2f} to {fitted.high:.2f}", str(fitted.images))
        for loss, by_seed in temperatures.items()
        for seed, of_run in by_seed.items()
        for fitted in of_run
    ]
    return Table(("loss", "seed", "T", INTERVAL, "validation images"), rows)
