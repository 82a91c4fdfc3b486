"""Groups -> a report: what it says, in order."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

from vgg_nll.calibration.bins import of_bins
from vgg_nll.comparison import figures, predictions, tables
from vgg_nll.comparison.grouping import Group, config_differences, group_runs, shared_provenance
from vgg_nll.comparison.page import EmbeddedImage, Report, Section
from vgg_nll.comparison.runs import Run
from vgg_nll.comparison.statistics import Point, mean_over_runs
from vgg_nll.errors import CheckpointError, ConfigError, DataError
from vgg_nll.escapes import printable
from vgg_nll.evaluation.registry import METRICS, OverFolds, View, shown_in
from vgg_nll.plots.fonts import caption
from vgg_nll.progress import track
from vgg_nll.run_folder import checksums, paths
from vgg_nll.tracking.event_files import Curve, read_checked

CONSTANTS = ("data", "model", "settings")  # columns that are left out if they have one value
DROPPABLE = ("seconds", "minimum", METRICS["confidence_incorrect"].head, METRICS["ece"].head, tables.INTERVAL)
ReadImages = Callable[[Path, Sequence[int], str], np.ndarray]  # run folder, indices, split -> uint8 [K, H, W, 3]
METHOD = (
    "±: sample standard deviation over seeds. Intervals: 95%, of the mean over seeds (Student's t, n - 1 degrees of freedom); "
    "they do not cover the choice of test images, and have no bounds (an accuracy may exceed 100%). p: two-sided t-test of the "
    "differences paired by seed, not corrected for the number of rows."
)
CURVES_CAPTION = (
    "Lines: mean over seeds; bands: minimum to maximum; at the steps that all seeds of a loss have. Each loss's own value "
    "has its own unit: these panels cannot be compared with each other, the others can."
)
RELIABILITY_CAPTION = (
    "Reliability on the test images. Bars: sums over seeds; orange: confidence above accuracy, light blue: below it. "
    "Lines: the lowest and the highest accuracy of a seed; with one seed, the 95% interval."
)

MARGINS_CAPTION = (
    "Log-odds of the predictions on the tested images, of all seeds: where the network is right, and where it is wrong."
)
DISAGREEMENTS = (
    "The images on which the fraction of seeds that are right differs most; of equal ones, those with the largest difference "
    "in the mean log-odds of the label."
)


def make(
    runs: Sequence[Run],
    left_out: Sequence[str],
    sweeps: Sequence[str] = (),
    chosen: Sequence[str] = (),
    pictures: ReadImages | None = None,
) -> Report:
    """Returns the report of at least one finished run.

    Args:
        left_out: a line for each run that cannot be compared; sweeps: a line for each sweep, on its jobs.
        chosen: a line for each choice that was made on the validation images.
        pictures: reads images of a run's data; None: the report has none.
    """
    groups, duplicates = group_runs(runs)
    read = [part for group in groups for run in group.runs for part in run.parts or (run,)]
    checked = list(track(map(_read_curves, read), len(read), "curves"))
    curves = {part.folder: found for part, (found, _) in zip(read, checked, strict=True)}
    seeds = sorted({run.seed for run in runs})
    losses = sorted({loss for group in groups for loss in group.losses})
    intro = f"{_count(len(runs), 'finished run')} of {', '.join(losses)}; seeds {_list(seeds)}."
    provenance = shared_provenance(runs)
    intro += f" All with {', '.join(provenance)}." if provenance else ""
    intro += f" Left out: {_count(len(left_out), 'run')}, listed at the end of the page." if left_out else ""
    summary, details = [Section(text=intro), _differences_in_config(runs)], []
    summary += [Section(text="Sweeps:", notes=sweeps)] if sweeps else []
    summary += [Section(text="Chosen on the validation images:", notes=chosen)] if chosen else []
    others = {known: part.folder / name for part in read for name, known in part.files.checksums.items()}
    images = [predictions.read_group(group, others) for group in groups]
    missing = [*duplicates, *_missing(groups, curves), *(line for _, lines in images for line in lines)]
    for part, (_, lines) in zip(read, checked, strict=True):
        bad_tables = checksums.find_problems(part.folder, part.files, others, (paths.METRICS_TABLE,))  # which is for people
        missing += map(printable, [*lines, *bad_tables])
    summary += [Section(text="What is missing:", notes=missing)] if missing else []
    overview, constants = tables.without_constants(tables.without_common_words(tables.overview(groups), "settings"), CONSTANTS)
    summary.append(Section("Losses", f"All: {constants}." if constants else "", table=overview, droppable=DROPPABLE))
    for k, (group, (found, _)) in enumerate(zip(groups, images, strict=True)):
        name, suffix = ("", "") if len(groups) == 1 else (f": {group.name}", f"-{k + 1}")
        summary += _differences(group, f"Differences, paired by seed{name}")
        drawn = [*_curves(group, curves, f"curves{suffix}"), *_reliability(group, f"reliability{suffix}")]
        drawn += _margins(found, f"margins{suffix}")
        details.append(Section(f"In detail{name}", table=tables.means(group), pictures=drawn))
        details += _disagreements(group, found, pictures, f"disagreements{suffix}")
    summary.append(Section(text=METHOD))
    details += [Section("Left out", "These runs are not in the numbers:", left_out)] if left_out else []
    return Report(summary, details, [part for run in runs for part in run.parts or (run,)], curves)


def _differences_in_config(runs: Sequence[Run]) -> Section:
    differences = config_differences(runs)
    if differences:
        return Section(text="These runs differ in more than loss and seed:", notes=differences)
    compared = "config, device, precision, versions, commit"
    return Section(text=f"These runs differ in nothing but loss and seed (compared: {compared}).")


def _missing(groups: Sequence[Group], curves: Mapping[Path, Mapping[str, Curve]]) -> list[str]:
    """Returns a line for each thing that some runs do not have."""
    lines = []
    for group in groups:
        if group.split != "test":
            lines.append(
                f"{group.name}: no test split, so no reliability diagram; the numbers are of the validation images, on which "
                "the best step was chosen"
            )
        if any(run.parts for run in group.runs):
            names = [metric.title for metric in shown_in(View.COMPARISON) if metric.over_folds is OverFolds.NONE]
            lines.append(f"{group.name}: joined from folds, so no {', '.join(names)}: they need all images at once")
        single = [loss for loss, by_seed in group.losses.items() if len(by_seed) == 1]
        if single:
            lines.append(f"{group.name}: only one seed of {', '.join(single)}, so no standard deviation and no interval")
        seeds = {loss: _list(list(by_seed)) for loss, by_seed in group.losses.items()}
        if len(set(seeds.values())) > 1:
            each = "; ".join(f"{loss} {text}" for loss, text in seeds.items())
            lines.append(f"{group.name}: seeds differ ({each}); differences are over those that both losses have")
    runs = [run for group in groups for run in group.runs]
    without_curves = sum(not any(curves[folder] for folder in run.folders) for run in runs)
    if without_curves > 0:
        lines.append(f"{without_curves} of {len(runs)} runs: no curves (tracking=none, or event files that cannot be read)")
    return lines


def _read_curves(run: Run) -> tuple[Mapping[str, Curve], list[str]]:
    """Returns the curves of one run, and a line for each of its event files that is damaged, missing, or of another run."""
    return read_checked(run.folder, run.files.run_id, run.files.step)


def _differences(group: Group, title: str) -> list[Section]:
    """Returns a section with the title, and one for each pair of losses."""
    alone = "Only one loss was trained with these settings: there is nothing to compare it with."
    sections = [Section(title, alone if len(group.losses) < 2 else "")]
    for first, second in combinations(group.losses, 2):
        name, common = f"{first} − {second}", sorted(group.losses[first].keys() & group.losses[second].keys())
        if common:
            text = f"Over seeds {_list(common)}{'' if len(common) > 1 else ', so no interval and no p-value'}:"
            sections.append(Section(name, text, table=tables.difference(group, first, second), level=3))
        else:
            sections.append(Section(name, "No seed in common, so no difference.", level=3))
    return sections


def _curves(group: Group, curves: Mapping[Path, Mapping[str, Curve]], name: str) -> list[EmbeddedImage]:
    """Returns the picture of the group's curves; none if no run has any."""
    bands = {
        loss: {
            tag: mean_over_runs([curves[folder] for run in by_seed.values() for folder in run.folders], tag)
            for tag in figures.TAGS
        }
        for loss, by_seed in group.losses.items()
    }
    if not any(points for by_tag in bands.values() for points in by_tag.values()):
        return []
    caption = CURVES_CAPTION + _without_common_step(group, bands, curves)
    return [EmbeddedImage(name, figures.png(figures.curves(bands)), caption)]


def _reliability(group: Group, name: str) -> list[EmbeddedImage]:
    """Returns the picture of the group's reliability diagrams; none if the group has no test split."""
    diagrams = []
    for loss, by_seed in group.losses.items():
        bins = [run.bins for run in by_seed.values() if run.bins is not None]
        if bins:
            ece = fmean(float(of_bins(*of_seed)["ece"]) for of_seed in bins)
            title = f"{caption(loss, figures.NAME)}\nECE {ece:.2%}, mean of {_count(len(bins), 'seed')}"
            diagrams.append((title, torch.stack(bins).double().numpy()))
    return [EmbeddedImage(name, figures.png(figures.reliability(diagrams)), RELIABILITY_CAPTION)] if diagrams else []


def _margins(found: predictions.Found, name: str) -> list[EmbeddedImage]:
    """Returns the picture of the log-odds of all predictions; none if no run has any."""
    right, wrong = (predictions.margins(found, right=is_right) for is_right in (True, False))
    if not any(len(values) for values in right.values()):
        return []
    return [EmbeddedImage(name, figures.png(figures.margin_histograms(right, wrong)), MARGINS_CAPTION)]


def _disagreements(group: Group, found: predictions.Found, pictures: ReadImages | None, name: str) -> list[Section]:
    """Returns a section for each pair of losses that disagree on images; the pictures of all are read at once."""
    pairs = {pair: predictions.disagreement(found, *pair) for pair in combinations(group.losses, 2)}
    tables_of = {pair: part for pair, part in pairs.items() if part is not None}
    text, drawn = DISAGREEMENTS, dict[int, np.ndarray]()
    indices = sorted({index for part in tables_of.values() for index in part.indices})
    if indices and pictures is not None:
        try:
            drawn = dict(zip(indices, pictures(group.runs[0].folder, indices, group.split), strict=True))
        except (DataError, ConfigError, CheckpointError, IndexError) as error:
            text += f" Without pictures: {error}."
    sections = []
    for k, ((first, second), part) in enumerate(tables_of.items()):
        shown = []
        if drawn:
            captions = [caption(f"{row[0]}: {row[1]}", 24) for row in part.table.rows]
            figure = figures.images(np.stack([drawn[index] for index in part.indices]), captions)
            shown = [EmbeddedImage(f"{name}-{k + 1}", figures.png(figure), "In the order of the table.")]
        title = f"Images on which {first} and {second} disagree: {group.name}"
        sections.append(Section(title, text, table=part.table, pictures=shown))
    return sections


def _without_common_step(
    group: Group, bands: Mapping[str, Mapping[str, Sequence[Point]]], curves: Mapping[Path, Mapping[str, Curve]]
) -> str:
    """Returns a sentence on the curves whose runs have no step in common; empty if there are none."""
    lost = [
        f"{tag} of {loss}"
        for loss, by_tag in bands.items()
        for tag, points in by_tag.items()
        if not points and any(tag in curves[folder] for run in group.losses[loss].values() for folder in run.folders)
    ]
    return f" Not drawn, since the seeds share no step: {', '.join(lost)}." if lost else ""


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
