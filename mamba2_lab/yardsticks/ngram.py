"""An n-gram model of bytes: what counting alone can do. A yardstick for models that learn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mamba2_lab.checks import require

BYTES = 256
END = b"\x00"  # stands between documents; Python source holds no NUL


@dataclass(frozen=True)
class _Counts:
    """How often each string of k bytes occurs. Strings are big-endian numbers: the context of one is it // 256."""

    strings: NDArray[np.uint64]  # ascending
    counts: NDArray[np.int64]
    contexts: NDArray[np.uint64]  # ascending: all but the last byte
    totals: NDArray[np.int64]  # of each context
    kinds: NDArray[np.int64]  # different bytes that followed it


class NGram:
    """Interpolated Witten-Bell smoothing: p(c | h) = (n(hc) + t(h) p(c | h')) / (n(h) + t(h)).

    n counts strings, t(h) counts the different bytes seen after h, and h' is h without its oldest byte; below one byte
    stands the uniform distribution. A context never seen leaves the word to h'. (Witten & Bell 1991, "The
    zero-frequency problem".)
    """

    def __init__(self, texts: Iterable[str], order: int = 5) -> None:
        require(1 <= order <= 8, "order", "1..8, bytes that fit into 64 bits", order)
        data = END.join(text.encode("utf-8") for text in texts)
        require(len(data) > 0, "texts", "some text", "none")
        self.order = order
        codes = np.frombuffer(END * (order - 1) + data, dtype=np.uint8).astype(np.uint64)
        self._levels = [_count(_strings(codes, k)[order - k :]) for k in range(1, order + 1)]

    def bits(self, text: str) -> float:
        """Bits needed for the whole text, from its beginning."""
        codes = np.frombuffer(END * (self.order - 1) + text.encode("utf-8"), dtype=np.uint8).astype(np.uint64)
        probabilities = np.full(len(codes) - self.order + 1, 1 / BYTES)
        for k, level in enumerate(self._levels, start=1):
            strings = _strings(codes, k)[self.order - k :]
            seen, total, kinds = _look_up(level, strings)
            probabilities = np.where(
                total > 0, (seen + kinds * probabilities) / np.maximum(total + kinds, 1), probabilities
            )
        return float(-np.log2(probabilities).sum())

    def next_byte(self, context: bytes) -> NDArray[np.float64]:
        """(256,) probabilities of the byte that follows the context."""
        context = (END * (self.order - 1) + context)[-(self.order - 1) :] if self.order > 1 else b""
        probabilities = np.full(BYTES, 1 / BYTES)
        for k, level in enumerate(self._levels, start=1):
            prefix = int.from_bytes(context[len(context) - (k - 1) :], "big") if k > 1 else 0
            strings = np.uint64(prefix * BYTES) + np.arange(BYTES, dtype=np.uint64)
            seen, total, kinds = _look_up(level, strings)
            if total[0] > 0:
                probabilities = (seen + kinds * probabilities) / (total + kinds)
        return probabilities

    def sample(self, prompt: str, length: int, seed: int, temperature: float = 1.0) -> str:
        """The prompt and `length` bytes more, or fewer if a document ends."""
        generator = np.random.default_rng(seed)
        text = prompt.encode("utf-8")
        for _ in range(length):
            sharpened = self.next_byte(text) ** (1 / temperature)
            byte = bytes([generator.choice(BYTES, p=sharpened / sharpened.sum())])
            if byte == END:
                break
            text += byte
        return text.decode("utf-8", errors="replace")


def _strings(codes: NDArray[np.uint64], k: int) -> NDArray[np.uint64]:
    """The number of the k bytes that end at each position from k-1 on."""
    numbers = np.zeros(len(codes) - k + 1, dtype=np.uint64)
    for i in range(k):
        numbers = numbers * np.uint64(BYTES) + codes[i : len(codes) - k + 1 + i]
    return numbers


def _count(strings: NDArray[np.uint64]) -> _Counts:
    unique, counts = np.unique(strings, return_counts=True)
    contexts, starts = np.unique(unique // np.uint64(BYTES), return_index=True)
    return _Counts(unique, counts, contexts, np.add.reduceat(counts, starts), np.diff(np.append(starts, len(unique))))


def _look_up(
    level: _Counts, strings: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Of each string: how often it occurs, how often its context does, and how many kinds of byte followed that."""
    contexts = strings // np.uint64(BYTES)
    return (
        _at(level.strings, level.counts, strings),
        _at(level.contexts, level.totals, contexts),
        _at(level.contexts, level.kinds, contexts),
    )


def _at(keys: NDArray[np.uint64], values: NDArray[np.int64], wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The value of each wanted key; 0 where there is none."""
    index = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[index] == wanted, values[index], 0)
