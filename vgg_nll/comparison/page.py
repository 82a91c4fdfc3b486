"""A report as Markdown, as one HTML page, and as text for a terminal."""

import base64
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from vgg_nll.comparison import export
from vgg_nll.comparison.runs import Run
from vgg_nll.comparison.tables import Table, fitted
from vgg_nll.evaluation.report import format_table
from vgg_nll.files import atomic_write
from vgg_nll.tracking.event_files import Curve

TITLE = "Comparison of losses"
TERMINAL = 100  # columns


@dataclass(frozen=True)
class EmbeddedImage:
    """A PNG: a file beside the Markdown file, embedded in the HTML page."""

    name: str
    png: bytes
    caption: str


@dataclass(frozen=True)
class Section:
    """A part of the report. Everything but the text may be missing."""

    title: str = ""
    text: str = ""
    notes: Sequence[str] = ()  # a list
    is_warning: bool = False  # text and notes are in an orange box: what to know before the numbers
    table: Table | None = None
    droppable: Sequence[str] = ()  # columns of the table that a terminal may do without, the least important first
    folded: str = ""  # words that unfold the table of the page
    row_pngs: Sequence[bytes] = ()  # a picture for each row of the page's table, in the place of `pictures`
    pictures: Sequence[EmbeddedImage] = ()
    level: int = 2  # of the title

    @property
    def anchor(self) -> str:
        """Returns the end of a link to it."""
        return re.sub(r"\W+", "-", self.title)

    def markdown(self) -> str:
        """Returns the section as Markdown, without a newline at its end."""
        parts = [f"{'#' * self.level} {self.title}"] if self.title else []
        parts += [self.text] if self.text else []
        parts += ["\n".join(f"- {note}" for note in self.notes)] if self.notes else []
        parts += [format_table(*self.table, markdown=True)] if self.table is not None else []
        parts += [f"![{picture.name}]({picture.name}.png)\n\n{picture.caption}" for picture in self.pictures]
        return "\n\n".join(parts)

    def printed(self) -> str:
        """Returns the section as Markdown that is no wider than a terminal, but for notes: they hold paths. No pictures."""
        table = None if self.table is None else fitted(self.table, TERMINAL, self.droppable)
        return replace(self, text=textwrap.fill(self.text, TERMINAL), table=table, pictures=()).markdown()


@dataclass(frozen=True)
class Report:
    """The sections of a report, in order."""

    summary: Sequence[Section]  # also printed
    details: Sequence[Section]
    runs: Sequence[Run]
    curves: Mapping[Path, Mapping[str, Curve]]  # by run folder

    def printed(self) -> str:
        """Returns the summary as Markdown, for a terminal."""
        return "\n\n".join(section.printed() for section in self.summary) + "\n"

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


def _markdown(sections: Sequence[Section]) -> str:
    return "\n\n".join(section.markdown() for section in sections) + "\n"


def _html(sections: Sequence[Section]) -> str:
    environment = Environment(autoescape=True, trim_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["data_url"] = _data_url
    template = resources.files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(title=TITLE, sections=sections)


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def listed(numbers: Sequence[int]) -> str:
    """Returns "0, 1, 2"."""
    return ", ".join(map(str, numbers))


def count(number: int, noun: str) -> str:
    """Returns "1 run", "2 runs"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
