"""Training documents that share long runs of lines with held-out ones, found and dropped.

A model that was trained on a copy of what it is measured on shows memory, not skill (Allamanis 2019, "The adverse
effects of code duplication in machine learning models of code", arXiv:1812.06469; Lee et al. 2022, "Deduplicating
training data makes language models better", arXiv:2107.06499). Copies need not be whole files: packages carry edited
modules of the standard library.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mamba2_lab.data.python_source import Document

RUN = 8  # lines
LEAST = 200  # characters in a run: what is shorter is idiom (imports, closing brackets, one-word lines)


@dataclass(frozen=True)
class Overlap:
    """A training document that was dropped, the held-out one it shares a run of lines with, and their longest line."""

    dropped: str
    held_out: str
    line: str


def decontaminate(
    train: Iterable[Document], held_out: Iterable[Document]
) -> tuple[tuple[Document, ...], tuple[Overlap, ...]]:
    """Drop every training document that holds eight lines in a row of a held-out one.

    Lines are compared without the white space at their ends, so a copy is found at any indentation. Blank lines and
    comments (lines that begin with "#") do not count: licence headers are comments and stand in unrelated files, and a
    copy is still one when its comments were changed. The eight lines must hold 200 characters. Not found: copies that
    were reformatted within their lines, and those of held-out documents that have fewer than eight lines.

    Time and memory are linear in the text: runs are looked up by hash, then compared line by line.

    Returns:
        The documents kept, in their order, and why each of the others was dropped.
    """
    owners = Runs(held_out)
    kept: list[Document] = []
    dropped: list[Overlap] = []
    for document in train:
        overlap = owners.shared_with(document)
        if overlap is None:
            kept.append(document)
        else:
            dropped.append(overlap)
    return tuple(kept), tuple(dropped)


class Runs:
    """The runs of lines of some documents, held against one other after another."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self._owners: dict[tuple[str, ...], str] = {}
        for document in documents:
            for run in _runs(document.text):
                if sum(map(len, run)) >= LEAST:
                    self._owners.setdefault(run, document.name)

    def shared_with(self, document: Document) -> Overlap | None:
        """The first run that the document has too, as `decontaminate` would tell it; None if it has none."""
        shared = next((run for run in _runs(document.text) if run in self._owners), None)
        return None if shared is None else Overlap(document.name, self._owners[shared], max(shared, key=len))


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    """Every eight consecutive lines that count."""
    stripped = [line.strip() for line in text.splitlines()]
    lines = [line for line in stripped if line and not line.startswith("#")]
    return zip(*(lines[start:] for start in range(RUN)), strict=False)
