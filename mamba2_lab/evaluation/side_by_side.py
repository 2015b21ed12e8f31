"""Several models and the compressors on the same bytes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from mamba2_lab.data import Document
from mamba2_lab.evaluation.blocks import BLOCK, blocks
from mamba2_lab.evaluation.compressors import COMPRESSORS
from mamba2_lab.evaluation.reading import Reading
from mamba2_lab.mamba2_lm import MambaLM
from mamba2_lab.text import Tokenizer


class Entrant(NamedTuple):
    """A model and the tokenizer that it reads by."""

    model: MambaLM
    tokenizer: Tokenizer


@dataclass(frozen=True)
class Figures:
    """What was measured of one text, or of several together.

    bytes: of the text in UTF-8, as far as it was read. sha256: of these bytes.
    bits: for them, by the names of models and compressors. tokens: by the names of models.
    lossy: the models whose tokenizer lost some of it.
    """

    name: str
    bytes: int
    sha256: str
    bits: dict[str, float] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    lossy: frozenset[str] = frozenset()

    def bits_per_byte(self, name: str) -> float:
        """Of a model or a compressor."""
        return self.bits[name] / self.bytes

    def perplexity(self, name: str) -> float:
        """Of a model: among how many equally likely tokens it would have to choose. Per token of its own tokenizer, so
        two models can be compared by it only if they share one. 1.0 where that made no token of the text."""
        nats = self.bits[name] * math.log(2) / max(1, self.tokens[name])
        return math.exp(nats) if nats < 700 else math.inf  # beyond that no float holds it


class SideBySide:
    """One text, read by all models block by block: they have always read the same of it."""

    def __init__(self, document: Document, entrants: Mapping[str, Entrant], block: int = BLOCK) -> None:
        self._document, self._block = document, block
        self._readings = {name: Reading(*entrant) for name, entrant in entrants.items()}
        self._read = 0  # characters that all have read, and what it took them:
        self._bits = dict.fromkeys(entrants, 0.0)
        self._tokens = dict.fromkeys(entrants, 0)

    def read(self, on_progress: Callable[[float], None] = lambda size: None) -> None:
        """Read it to its end. What was read is kept if something breaks it off, Ctrl-C for example.

        Args:
            on_progress: hears again and again how many bytes more were read, the mean of all models.
        """
        for text in blocks(self._document.text, self._block):
            part = Document(self._document.name, text)
            size = part.bytes / len(self._readings)
            for reading in self._readings.values():
                reading.read(part, lambda share, size=size: on_progress(size * share))  # type: ignore[misc]
            bits = {name: reading.bits for name, reading in self._readings.items()}
            tokens = {name: reading.tokens for name, reading in self._readings.items()}
            self._read, self._bits, self._tokens = self._read + len(text), bits, tokens

    def figures(self) -> Figures:
        """Of what all have read."""
        data = self._document.text[: self._read].encode("utf-8")
        compressed = {name: 8.0 * compress(data) for name, compress in COMPRESSORS.items()}
        lossy = frozenset(name for name, reading in self._readings.items() if reading.lossy)
        digest = hashlib.sha256(data).hexdigest()
        return Figures(self._document.name, len(data), digest, self._bits | compressed, self._tokens, lossy)


def total(measured: Iterable[Figures]) -> Figures:
    """All texts together: bits and bytes added up, so each text counts by its length. Its digest is of the others'."""
    measured = list(measured)
    names = [name for figures in measured[:1] for name in figures.bits]
    models = [name for figures in measured[:1] for name in figures.tokens]
    digests = "".join(f"{figures.sha256}\n" for figures in measured)
    return Figures(
        "all",
        sum(figures.bytes for figures in measured),
        measured[0].sha256 if len(measured) == 1 else hashlib.sha256(digests.encode("ascii")).hexdigest(),
        {name: math.fsum(figures.bits[name] for figures in measured) for name in names},
        {name: sum(figures.tokens[name] for figures in measured) for name in models},
        frozenset().union(*(figures.lossy for figures in measured)),
    )
