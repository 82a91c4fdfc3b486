"""Groups -> a report: printed as Markdown, and written as one HTML page, a Markdown file and pictures."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import combinations
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from vgg_nll.comparison import export, figures, tables
from vgg_nll.comparison.grouping import Group, config_differences, group_runs, shared_provenance
from vgg_nll.comparison.runs import Run
from vgg_nll.comparison.statistics import Point, mean_over_runs
from vgg_nll.comparison.tables import Table
from vgg_nll.evaluation.report import format_table
from vgg_nll.files import atomic_write
from vgg_nll.plots import caption
from vgg_nll.progress import track
from vgg_nll.tracking.event_files import Curve, read_curves

TITLE = "Comparison of losses"
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
    "Reliability on the test images, summed over seeds; red: the gap between confidence and accuracy. "
    "The ECE of the sums is not the mean of the seeds' ECEs: gaps of opposite sign cancel."
)


@dataclass(frozen=True)
class Picture:
    """A PNG: a file beside the Markdown file, embedded in the HTML page."""

    name: str
    png: bytes
    caption: str

    @property
    def data_url(self) -> str:
        """Returns the PNG as a URL that holds its bytes."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class Section:
    """A part of the report. Everything but the text may be missing."""

    title: str = ""
    text: str = ""
    notes: Sequence[str] = ()  # a list, highlighted together with the text: what to know before the numbers
    table: Table | None = None
    pictures: Sequence[Picture] = ()
    level: int = 2  # of the title

    def markdown(self) -> str:
        """Returns the section as Markdown, without a newline at its end."""
        parts = [f"{'#' * self.level} {self.title}"] if self.title else []
        parts += [self.text] if self.text else []
        parts += ["\n".join(f"- {note}" for note in self.notes)] if self.notes else []
        parts += [format_table(*self.table, markdown=True)] if self.table is not None else []
        parts += [f"![{picture.name}]({picture.name}.png)\n\n{picture.caption}" for picture in self.pictures]
        return "\n\n".join(parts)


@dataclass(frozen=True)
class Report:
    """The sections of a report, in order."""

    summary: Sequence[Section]  # also printed
    details: Sequence[Section]
    runs: Sequence[Run]
    curves: Mapping[Path, Mapping[str, Curve]]  # by run folder

    def printed(self) -> str:
        """Returns the summary as Markdown, for a terminal."""
        return _markdown(self.summary)

    def write(self, folder: Path) -> None:
        """Writes `comparison.html`, which holds everything, `comparison.md` with its pictures, `runs.csv` and `curves.csv`.

        Raises OSError if the disk refuses.
        """
        folder.mkdir(parents=True, exist_ok=True)
        sections = [*self.summary, *self.details]
        for picture in (picture for section in sections for picture in section.pictures):
            atomic_write(folder / f"{picture.name}.png", picture.png)
        atomic_write(folder / "comparison.md", f"# {TITLE}\n\n{_markdown(sections)}")
        atomic_write(folder / "comparison.html", _html(sections))
        export.write_runs(folder / export.RUNS, self.runs)
        export.write_curves(folder / export.CURVES, self.curves)


def make(runs: Sequence[Run], left_out: Sequence[str], sweeps: Sequence[str] = ()) -> Report:
    """Returns the report of at least one finished run.

    Args:
        left_out: a line for each run that cannot be compared; sweeps: a line for each sweep, on its jobs.
    """
    groups, duplicates = group_runs(runs)
    folders = [folder for group in groups for run in group.runs for folder in run.folders]
    curves = dict(zip(folders, track(map(read_curves, folders), len(folders), "curves"), strict=True))
    seeds = sorted({run.seed for run in runs})
    losses = sorted({loss for group in groups for loss in group.losses})
    intro = f"{_count(len(runs), 'finished run')} of {', '.join(losses)}; seeds {_list(seeds)}."
    provenance = shared_provenance(runs)
    intro += f" All with {', '.join(provenance)}." if provenance else ""
    intro += f" Left out: {_count(len(left_out), 'run')}, listed at the end of the page." if left_out else ""
    summary, details = [Section(text=intro), _differences_in_config(runs)], []
    summary += [Section(text="Sweeps:", notes=sweeps)] if sweeps else []
    missing = [*duplicates, *_missing(groups, curves)]
    summary += [Section(text="What is missing:", notes=missing)] if missing else []
    summary.append(Section("Losses", table=tables.overview(groups)))
    for k, group in enumerate(groups):
        name, suffix = ("", "") if len(groups) == 1 else (f": {group.name}", f"-{k + 1}")
        summary += _differences(group, f"Differences, paired by seed{name}")
        pictures = [*_curves(group, curves, f"curves{suffix}"), *_reliability(group, f"reliability{suffix}")]
        details.append(Section(f"In detail{name}", table=tables.means(group), pictures=pictures))
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


def _curves(group: Group, curves: Mapping[Path, Mapping[str, Curve]], name: str) -> list[Picture]:
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
    return [Picture(name, figures.png(figures.curves(bands)), caption)]


def _reliability(group: Group, name: str) -> list[Picture]:
    """Returns the picture of the group's reliability diagrams; none if the group has no test split."""
    diagrams = []
    for loss, by_seed in group.losses.items():
        bins = [run.bins for run in by_seed.values() if run.bins is not None]
        if bins:
            total = sum(bins[1:], start=bins[0])
            title = f"{caption(loss, figures.NAME)}\nECE {total.ece:.2%}, {_count(len(bins), 'seed')}"
            diagrams.append((title, total.images, total.correct, total.confidence))
    return [Picture(name, figures.png(figures.reliability(diagrams)), RELIABILITY_CAPTION)] if diagrams else []


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


def _markdown(sections: Sequence[Section]) -> str:
    return "\n\n".join(section.markdown() for section in sections) + "\n"


def _html(sections: Sequence[Section]) -> str:
    environment = Environment(autoescape=True, trim_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True)
    template = resources.files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(title=TITLE, sections=sections)


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
