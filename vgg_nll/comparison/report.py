"""Groups -> a report: what it says, in order."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from vgg_nll.comparison import paired, pictures, predictions, rescaled, tables
from vgg_nll.comparison.grouping import Group, config_differences, group_runs, shared_provenance
from vgg_nll.comparison.page import Report, Section, count, listed
from vgg_nll.comparison.paired import Row
from vgg_nll.comparison.rescaled import RescaledGroup
from vgg_nll.comparison.runs import Run
from vgg_nll.escapes import printable
from vgg_nll.evaluation.registry import METRICS, OverFolds, View, shown_in
from vgg_nll.progress import track
from vgg_nll.run_folder import checksums, paths
from vgg_nll.tracking.event_files import Curve, read_checked

CONSTANTS = ("data", "model", "settings")  # columns that are left out if they have one value
DROPPABLE = ("seconds", "minimum", METRICS["confidence_incorrect"].head, METRICS["ece"].head, tables.INTERVAL)
METHOD = (
    "±: sample standard deviation over seeds. Intervals over seeds: 95%, of the mean over all seeds (Student's t, n - 1 "
    "degrees of freedom): what training again may change, on the same test images; they have no bounds (an accuracy may "
    "exceed 100%). Intervals over images: 95%, of the mean over all images (Student's t, mean over seeds): what other test "
    "images may change, for the same networks; rough if few images make the difference. Neither contains the other: new "
    "networks on new images vary by both. p: two-sided t-test of the differences paired by seed; p (Holm): corrected for the "
    "number of rows, each table for itself."
)
TEMPERATURE = (
    "The logits of each run's test images, divided by a temperature of its own, which is fitted to its validation images. "
    "Predictions stay, so accuracies do."
)
DROPPABLE_OF_PAIR = (paired.OVER_IMAGES, "p")  # more than a terminal's width
Compared = Mapping[tuple[str, str], Sequence[Row]]  # a pair of losses -> their differences
ALONE = "Only one loss was trained with these settings: there is nothing to compare it with."


def make(
    runs: Sequence[Run],
    left_out: Sequence[str],
    sweeps: Sequence[str] = (),
    chosen: Sequence[str] = (),
    read_images: pictures.ReadImages | None = None,
) -> Report:
    """Returns the report of at least one finished run.

    Args:
        left_out: a line for each run that cannot be compared; sweeps: a line for each sweep, on its jobs.
        chosen: a line for each choice that was made on the validation images.
        read_images: reads images of a run's data; None: the report has none.
    """
    groups, duplicates = group_runs(runs)
    read = [part for group in groups for run in group.runs for part in run.parts or (run,)]
    checked = list(track(map(_read_curves, read), len(read), "curves"))
    curves = {part.folder: found for part, (found, _) in zip(read, checked, strict=True)}
    others = {known: part.folder / name for part in read for name, known in part.files.checksums.items()}
    images = [predictions.read_group(group, others) for group in groups]
    outputs = rescaled.read_groups(groups)
    missing = [*duplicates, *_missing(groups, curves), *(line for _, lines in (*images, *outputs) for line in lines)]
    for part, (_, lines) in zip(read, checked, strict=True):
        bad_tables = checksums.find_problems(part.folder, part.files, others, (paths.METRICS_TABLE,))  # which is for people
        missing += map(printable, [*lines, *bad_tables])
    overview, constants = tables.without_constants(tables.without_common_words(tables.overview(groups), "settings"), CONSTANTS)
    differences, details, answers = list[Section](), list[Section](), list[str]()
    for k, (group, (found, _), (scaled, _)) in enumerate(zip(groups, images, outputs, strict=True)):
        name, suffix = ("", "") if len(groups) == 1 else (f": {group.name}", f"-{k + 1}")
        before = _compare(group if scaled is None else scaled.before)
        after = {} if scaled is None else _compare(scaled.after)
        answers += [f"{group.name}: {line}" if name else line for line in _answers(before, after)]
        differences += [Section(f"Differences, paired by seed{name}", ALONE if len(group.losses) < 2 else "")]
        differences += _differences(group, before, f"intervals{suffix}")
        drawn = [*pictures.curves(group, curves, f"curves{suffix}"), *pictures.reliability(group, f"reliability{suffix}")]
        drawn += pictures.margins(found, f"margins{suffix}")
        means = tables.means(group)
        details.append(Section(f"In detail{name}", table=means, folded=count(len(means.rows), "metric"), pictures=drawn))
        details += _after_temperature(scaled, after, name, suffix) if scaled is not None else []
        details += pictures.disagreements(group, found, read_images, name, f"disagreements{suffix}")
    summary = [_first(answers), Section(text=_intro(runs, left_out)), _differences_in_config(runs)]
    summary += [Section(text="Sweeps:", notes=sweeps, is_warning=len(left_out) > 0)] if sweeps else []
    summary += [Section(text="Chosen on the validation images:", notes=chosen)] if chosen else []
    summary += [Section(text="What is missing:", notes=missing, is_warning=True)] if missing else []
    summary.append(Section("Losses", f"All: {constants}." if constants else "", table=overview, droppable=DROPPABLE))
    summary += [*differences, Section("How to read this", METHOD)]
    details += [Section("Left out", "These runs are not in the numbers:", left_out)] if left_out else []
    return Report(summary, details, [part for run in runs for part in run.parts or (run,)], curves)


def _compare(group: Group) -> Compared:
    return {pair: paired.compare(group, *pair) for pair in combinations(group.losses, 2)}


def _answers(before: Compared, after: Compared) -> list[str]:
    """Returns what can be told of each pair of losses."""
    lines = []
    for pair, rows in before.items():
        has_interval = any(row.over_seeds.interval for row in rows)
        more = f" {paired.answer_after_temperature(after[pair])}" if after and has_interval else ""
        lines.append(paired.answer(rows, *pair) + more)
    return lines


def _first(answers: Sequence[str]) -> Section:
    """Returns the first section: what can be told."""
    if not answers:
        return Section(text="Nothing can be told: no two losses were trained with the same data, model and settings.")
    return Section(text=answers[0]) if len(answers) == 1 else Section(text=f"{len(answers)} comparisons:", notes=answers)


def _intro(runs: Sequence[Run], left_out: Sequence[str]) -> str:
    losses, provenance = sorted({run.loss for run in runs}), shared_provenance(runs)
    intro = f"{count(len(runs), 'finished run')} of {', '.join(losses)}; seeds {listed(sorted({run.seed for run in runs}))}."
    intro += f" All with {', '.join(provenance)}." if provenance else ""
    return intro + (f" Left out: {count(len(left_out), 'run')}, listed at the end of the page." if left_out else "")


def _differences_in_config(runs: Sequence[Run]) -> Section:
    differences = config_differences(runs)
    if differences:
        return Section(text="These runs differ in more than loss and seed:", notes=differences, is_warning=True)
    compared = "config, device, precision, versions, commit"
    return Section(text=f"These runs differ in nothing but loss and seed (compared: {compared}).")


def _missing(groups: Sequence[Group], curves: Mapping[Path, Mapping[str, Curve]]) -> list[str]:
    """Returns a line for each thing that some runs do not have."""
    lines = []
    for group in groups:
        if group.split != "test":
            lines.append(
                f"{group.name}: no test split, so no reliability diagram, and nothing after temperature scaling; the numbers "
                "are of the validation images, on which the best step was chosen"
            )
        if any(run.parts for run in group.runs):
            names = [metric.title for metric in shown_in(View.COMPARISON) if metric.over_folds is OverFolds.NONE]
            lines.append(f"{group.name}: joined from folds, so no {', '.join(names)}: they need all images at once")
        single = [loss for loss, by_seed in group.losses.items() if len(by_seed) == 1]
        if single:
            lines.append(f"{group.name}: only one seed of {', '.join(single)}, so no standard deviation and no interval")
        seeds = {loss: listed(list(by_seed)) for loss, by_seed in group.losses.items()}
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


def _differences(group: Group, compared: Compared, name: str) -> list[Section]:
    """Returns a section for each pair of losses."""
    sections = []
    for k, ((first, second), rows) in enumerate(compared.items()):
        title, common = f"{first} − {second}", sorted(group.losses[first].keys() & group.losses[second].keys())
        if common:
            text = f"Over seeds {listed(common)}{'' if len(common) > 1 else ', so no interval and no p-value'}:"
            droppable = DROPPABLE_OF_PAIR if len({row.over_seeds.n for row in rows}) > 1 else (*DROPPABLE_OF_PAIR, "n")
            drawn = pictures.intervals(rows, name if len(compared) == 1 else f"{name}-{k + 1}")
            table = paired.table(rows, first, second)
            sections.append(Section(title, text, table=table, droppable=droppable, pictures=drawn, level=3))
        else:
            sections.append(Section(title, "No seed in common, so no difference.", level=3))
    return sections


def _after_temperature(scaled: RescaledGroup, compared: Compared, name: str, suffix: str) -> list[Section]:
    """Returns the means and differences after temperature scaling, and the temperatures."""
    temperatures, means = rescaled.temperature_table(scaled.temperatures), tables.means(scaled.after)
    return [
        Section(f"After temperature scaling{name}", TEMPERATURE, table=means, folded=count(len(means.rows), "metric")),
        *_differences(scaled.after, compared, f"intervals_after_temperature{suffix}"),
        Section("Temperatures", table=temperatures, folded=count(len(temperatures.rows), "network"), level=3),
    ]
