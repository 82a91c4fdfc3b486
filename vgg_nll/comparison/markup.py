"""The pieces of a page, each as Markdown and as HTML."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Protocol

LONG = 40  # characters: a cell with more is broken into lines


class Block(Protocol):
    """A piece of a page."""

    def markdown(self) -> str:
        """Without an empty line after it."""
        ...

    def html(self) -> str:
        """One element."""
        ...


@dataclass(frozen=True)
class Heading:
    """Of level 1 to 3."""

    level: int
    text: str

    def markdown(self) -> str:
        return f"{'#' * self.level} {self.text}"

    def html(self) -> str:
        return f"<h{self.level}>{escape(self.text)}</h{self.level}>"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str

    def markdown(self) -> str:
        return self.text

    def html(self) -> str:
        return f"<p>{escape(self.text)}</p>"


@dataclass(frozen=True)
class Notes:
    """A list, set off from the rest: what a reader has to know before the numbers."""

    title: str
    items: Sequence[str]

    def markdown(self) -> str:
        return "\n".join([self.title, "", *(f"- {item}" for item in self.items)])

    def html(self) -> str:
        items = "".join(f"<li>{escape(item)}</li>" for item in self.items)
        return f'<div class="notes"><p>{escape(self.title)}</p><ul>{items}</ul></div>'


@dataclass(frozen=True)
class Table:
    """Cells as text."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        lines = [self.head, *self.rows]
        text = ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines]
        return "\n".join([text[0], "|---" * len(self.head) + "|", *text[1:]])

    def html(self) -> str:
        head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in self.head)
        rows = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in self.rows)
        table = f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>"
        return f'<div class="wide">{table}</div>'


@dataclass(frozen=True)
class Picture:
    """A PNG file beside the Markdown file, inside the HTML file."""

    name: str
    png: bytes
    caption: str

    def markdown(self) -> str:
        return f"![{self.name.removesuffix('.png')}]({self.name})\n\n{self.caption}"

    def html(self) -> str:
        source = f"data:image/png;base64,{base64.b64encode(self.png).decode()}"
        image = f'<img src="{source}" alt="{escape(self.name.removesuffix(".png"))}">'
        return f'<figure><div class="wide">{image}</div><figcaption>{escape(self.caption)}</figcaption></figure>'


def _cell(text: str) -> str:
    start = '<td class="long">' if len(text) > LONG else "<td>"
    return f"{start}{escape(text)}</td>"
