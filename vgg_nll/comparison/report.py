"""Set-ups -> what is printed, a page, a Markdown file and pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import combinations
from pathlib import Path

from vgg_nll.comparison import figures, tables
from vgg_nll.comparison.grouping import Group, config_differences, group_runs, shared, without_config
from vgg_nll.comparison.markup import Block, Heading, Notes, Picture, Text
from vgg_nll.comparison.runs import Bins, Run
from vgg_nll.comparison.statistics import Point, mean_over_runs
from vgg_nll.tracking.event_files import Curve, read_curves
from vgg_nll.training import checkpoint

TITLE = "Comparison of losses"
METHOD = (
    "±: sample standard deviation over seeds. Intervals: 95%, of the mean over seeds (Student's t, n - 1 degrees); they take "
    "the test images as given, and know no bounds (an accuracy may pass 100%). p: two-sided t-test of the differences paired "
    "by seed, not corrected for the number of rows."
)
STYLE = """
:root { color-scheme: light dark; --line: #d0d0d0; --soft: #f4f4f4; --mark: #b45309; }
@media (prefers-color-scheme: dark) { :root { --line: #444; --soft: #222; --mark: #f59e0b; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; } h3 { font-size: 1rem; margin-bottom: .3rem; }
.notes { border-left: 4px solid var(--mark); background: var(--soft); padding: .5rem 1rem; margin: 1rem 0; }
.notes p { margin: 0; } .notes ul { margin: .3rem 0; padding-left: 1.2rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
td.long { white-space: normal; min-width: 16rem; }
tbody tr:hover { background: var(--soft); }
figure { margin: 1.2rem 0; } figcaption { font-size: .9rem; }
img { background: white; border-radius: 4px; width: auto; max-width: 100%; }
@media (max-width: 60rem) { img { max-width: none; width: 60rem; } img[alt^=reliability] { width: auto; height: 24rem; } }
"""


@dataclass(frozen=True)
class Report:
    """The pieces of a page."""

    summary: Sequence[Block]  # also printed
    details: Sequence[Block]

    def printed(self) -> str:
        """Markdown for a terminal."""
        return _markdown(self.summary)

    def write(self, folder: Path) -> None:
        """`comparison.html`, which holds all, and `comparison.md` with its pictures. Raises OSError where that fails."""
        folder.mkdir(parents=True, exist_ok=True)
        blocks = [Heading(1, TITLE), *self.summary, *self.details]
        for block in blocks:
            if isinstance(block, Picture):
                (folder / block.name).write_bytes(block.png)
        checkpoint.write_text(folder / "comparison.md", _markdown(blocks))
        body = "\n".join(block.html() for block in blocks)
        head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        head += f"<title>{escape(TITLE)}</title><style>{STYLE}</style>"
        html = f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'
        checkpoint.write_text(folder / "comparison.html", html)


def make(runs: Sequence[Run], left_out: Sequence[str]) -> Report:
    """The report of at least one finished run.

    Args:
        left_out: a line for each run that could not be taken.
    """
    groups, doubles = group_runs(runs)
    curves = {run.folder: read_curves(run.folder) for group in groups for run in group.runs}
    seeds = sorted({run.seed for run in runs})
    losses = sorted({loss for group in groups for loss in group.losses})
    intro = f"{_many(len(runs), 'finished run')} of {', '.join(losses)}; seeds {_list(seeds)}."
    where = shared(runs)
    intro += f" All with {', '.join(where)}." if where else ""
    intro += f" Left out: {_many(len(left_out), 'run')}, listed at the end of the page." if left_out else ""
    gaps = [*doubles, *_gaps(groups, curves)]
    summary: list[Block] = [Text(intro), _likeness(runs)]
    summary += [Notes("What is missing:", gaps)] if gaps else []
    summary += [Heading(2, "Losses"), tables.overview(groups)]
    details: list[Block] = []
    for k, group in enumerate(groups):
        name, suffix = ("", "") if len(groups) == 1 else (f": {group.name}", f"-{k + 1}")
        summary += [Heading(2, f"Differences, paired by seed{name}"), *_differences(group)]
        details += [Heading(2, f"In detail{name}"), tables.means(group)]
        details += _pictures(group, curves, suffix)
    summary.append(Text(METHOD))
    details += [Heading(2, "Left out"), Notes("These runs are not in the numbers:", left_out)] if left_out else []
    return Report(summary, details)


def _likeness(runs: Sequence[Run]) -> Block:
    different = config_differences(runs)
    if different:
        return Notes("These runs differ in more than loss and seed:", different)
    compared = "overrides" if without_config(runs) else "config"
    return Text(f"These runs differ in nothing but loss and seed (compared: {compared}, device, precision, versions, commit).")


def _gaps(groups: Sequence[Group], curves: Mapping[Path, Mapping[str, Curve]]) -> list[str]:
    """A line for each kind of thing that some runs do not have."""
    runs = [run for group in groups for run in group.runs]
    lines = []
    for group in groups:
        if group.split != "test":
            lines.append(
                f"{group.name}: no test split; its numbers are of the validation images, on which the best step was chosen"
            )
        single = [loss for loss, by_seed in group.losses.items() if len(by_seed) == 1]
        if single:
            lines.append(f"{group.name}: one seed only of {', '.join(single)}, so no spread and no interval")
        seeds = {loss: _list(list(by_seed)) for loss, by_seed in group.losses.items()}
        if len(set(seeds.values())) > 1:
            each = "; ".join(f"{loss} {text}" for loss, text in seeds.items())
            lines.append(f"{group.name}: seeds differ ({each}); differences are over those that both losses have")
    for count, what in (
        (without_config(runs), "no config recorded (an older version): settings are told by the overrides, for all runs"),
        (sum(not curves[run.folder] for run in runs), "no curves (tracking=none, or event files that cannot be read)"),
        (
            sum(run.bins is None for run in runs),
            "no bins of confidence recorded (another version): not in the reliability diagrams",
        ),
    ):
        if count > 0:
            lines.append(f"{count} of {len(runs)} runs: {what}")
    return lines


def _differences(group: Group) -> list[Block]:
    blocks: list[Block] = []
    for first, second in combinations(group.losses, 2):
        common = sorted(group.losses[first].keys() & group.losses[second].keys())
        blocks.append(Heading(3, f"{first} − {second}"))
        if common:
            few = "" if len(common) > 1 else ", so no interval and no p-value"
            blocks += [Text(f"Over seeds {_list(common)}{few}:"), tables.difference(group, first, second)]
        else:
            blocks.append(Text("No seed in common, so no difference."))
    if len(group.losses) < 2:
        blocks.append(Text("Only one loss was trained with these settings: nothing to compare it with."))
    return blocks


def _pictures(group: Group, curves: Mapping[Path, Mapping[str, Curve]], suffix: str) -> list[Block]:
    bands = {
        loss: {tag: mean_over_runs([curves[run.folder] for run in by_seed.values()], tag) for tag in figures.TAGS}
        for loss, by_seed in group.losses.items()
    }
    blocks: list[Block] = []
    if any(points for by_tag in bands.values() for points in by_tag.values()):
        figure = figures.curves(bands)
        caption = (
            "Lines: mean over seeds; bands: least to greatest; at the steps that all seeds of a loss have. A loss's own value "
            "has a unit of its own: those panels cannot be compared with each other, the others can."
        )
        blocks.append(Picture(f"curves{suffix}.png", figures.png(figure), caption + _unshared(group, bands, curves)))
    diagrams = []
    for loss, by_seed in group.losses.items():
        bins = [run.bins for run in by_seed.values() if run.bins is not None]
        if bins:
            total = sum(bins[1:], start=bins[0])
            diagrams.append((f"{loss}\nECE {total.ece:.2%}, {_many(len(bins), 'seed')}", total))
    if diagrams:
        figure = figures.reliability([(title, *_columns(total)) for title, total in diagrams])
        images = "test" if group.split == "test" else "validation"
        caption = (
            f"Reliability on the {images} images, summed over seeds; red: the gap between confidence and accuracy. "
            "The ECE of the sums is not the mean of the seeds' ECEs: gaps of opposite sign cancel."
        )
        blocks.append(Picture(f"reliability{suffix}.png", figures.png(figure), caption))
    return blocks


def _unshared(
    group: Group, bands: Mapping[str, Mapping[str, Sequence[Point]]], curves: Mapping[Path, Mapping[str, Curve]]
) -> str:
    """A sentence on the curves whose runs have no step in common; empty where there is none."""
    lost = [
        f"{tag} of {loss}"
        for loss, by_tag in bands.items()
        for tag, points in by_tag.items()
        if not points and any(tag in curves[run.folder] for run in group.losses[loss].values())
    ]
    return f" Not drawn, since the seeds share no step: {', '.join(lost)}." if lost else ""


def _columns(bins: Bins) -> tuple[Sequence[float], Sequence[float], Sequence[float]]:
    return bins.images, bins.correct, bins.confidence


def _markdown(blocks: Sequence[Block]) -> str:
    return "\n\n".join(block.markdown() for block in blocks) + "\n"


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
