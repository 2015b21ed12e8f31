"""What the course says in a notebook: a little HTML, and the same as plain text for viewers that show no HTML.

Text and background are those of the page, so that it reads well in light and in dark themes; what a colour says, a word
says too.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from IPython.display import display

WIDTH = 960  # pixels, that of the figures
CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, repr=False)
class Message:
    """A title with a text beside it, and more paragraphs below."""

    title: str
    paragraphs: Sequence[str]  # the first stands beside the title, and may be empty
    colour: str

    def __repr__(self) -> str:
        first, *rest = self.paragraphs
        return "\n".join([f"{self.title}. {first}".rstrip(), *rest])

    def _repr_html_(self) -> str:
        first, *rest = map(as_html, self.paragraphs)
        lines = [f"<b>{as_html(self.title)}.</b> {first}", *rest]
        body = "".join(f'<p style="margin: 3px 0">{line}</p>' for line in lines)
        return (
            f'<div role="note" style="border-left: 5px solid {self.colour}; padding: 1px 12px; max-width: {WIDTH}px">'
            f"{body}</div>"
        )


@dataclass(frozen=True, repr=False)
class Table:
    """Rows of texts under a header; the first column names the row."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __repr__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = [self.header, *self.rows]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)

    def _repr_html_(self) -> str:
        left = 'style="text-align: left"'
        header = "".join(f'<th scope="col" {left}>{as_html(text)}</th>' for text in self.header)
        rows = "".join(
            f'<tr><th scope="row" {left}>{as_html(name)}</th>'
            + "".join(f"<td {left}>{as_html(text)}</td>" for text in rest)
            + "</tr>"
            for name, *rest in self.rows
        )
        return f'<table style="max-width: {WIDTH}px"><thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table>'


@dataclass(frozen=True, repr=False)
class Source:
    """Python source. As Markdown, because JupyterLab colours that to suit its theme."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return f"```python\n{self.text}\n```"


_silent = False


@contextmanager
def silence() -> Iterator[None]:
    """Nothing is said in here."""
    global _silent
    before, _silent = _silent, True
    try:
        yield
    finally:
        _silent = before


def say(title: str, *paragraphs: str, colour: str) -> None:
    """Display a message."""
    if not _silent:
        display(Message(title, paragraphs, colour))


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Display a table."""
    display(Table(header, rows))


def show_source(text: str) -> None:
    """Display Python source."""
    display(Source(text))


def as_html(text: str) -> str:
    """Escaped, with what stands in backticks set as code."""
    return CODE.sub(r"<code>\1</code>", html.escape(text, quote=False))
