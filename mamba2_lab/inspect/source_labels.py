"""What a memory of Python source should know after each byte, as Python's own tokenizer sees it."""

from __future__ import annotations

import io
import tokenize
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

OPENING, CLOSING = "([{", ")]}"


@dataclass(frozen=True, eq=False)
class PythonLabels:
    """One whole number per byte of the UTF-8 text: what holds once that byte has been read.

    indent: (bytes,) how many blocks are open. The spaces before a block's first statement belong to it, and so does
        all up to the first byte of a statement further left, comments and blank lines included.
    in_string: (bytes,) 1 inside a string literal: from its opening quote, which counts, to its closing one, which does
        not; of triple quotes, the third. All of an f-string is inside, its replacement fields too.
    brackets: (bytes,) how many of ( [ { are open, those in strings and comments apart.
    """

    indent: Tensor
    in_string: Tensor
    brackets: Tensor


def python_labels(source: str) -> PythonLabels:
    """Labels of every byte of a Python source text.

    Raises:
        ValueError: if Python's tokenizer cannot read the source; it says where.
    """
    offsets = _Offsets(source)
    indent, in_string, brackets = (_Changes(offsets.bytes) for _ in range(3))
    nested = 0  # f-strings inside f-strings, which Python 3.12 and later takes apart
    for token in _tokens(source):
        start, end = offsets.byte(*token.start), offsets.byte(*token.end)
        kind = tokenize.tok_name[token.type]
        if kind == "INDENT":
            indent.add(start, 1)
        elif kind == "DEDENT":
            indent.add(start, -1)
        elif kind == "STRING" and not nested:
            in_string.add(start + _opening(token.string) - 1, 1)
            in_string.add(end - 1, -1)
        elif kind.endswith("STRING_START"):  # FSTRING_START, TSTRING_START
            if not nested:
                in_string.add(end - 1, 1)
            nested += 1
        elif kind.endswith("STRING_END"):
            nested -= 1
            if not nested:
                in_string.add(end - 1, -1)
        elif kind == "OP" and not nested:
            brackets.add(start, (token.string in OPENING) - (token.string in CLOSING))
    return PythonLabels(indent.running(), in_string.running(), brackets.running())


def _tokens(source: str) -> list[tokenize.TokenInfo]:
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError) as error:  # IndentationError is a SyntaxError
        raise ValueError(f"source must be Python that the tokenizer can read; got {error}") from error
    for token in tokens:
        if token.type == tokenize.ERRORTOKEN:  # what Python 3.11 says where later ones raise
            raise ValueError(
                f"source must be Python that the tokenizer can read; got {token.string!r} at {token.start}"
            )
    return tokens


def _opening(literal: str) -> int:
    """Characters of a string literal up to the end of its opening quotes: 1 for 'a', 2 for r'a', 3 for '''a'''."""
    prefix = len(literal) - len(literal.lstrip("rRbBuUfFtT"))
    quote = literal[prefix]
    return prefix + (3 if literal.startswith(3 * quote, prefix) else 1)


class _Offsets:
    """From a tokenizer's (row, column), in characters, to the offset of a byte in UTF-8."""

    def __init__(self, source: str) -> None:
        self._lines = list(accumulate((len(line) for line in io.StringIO(source)), initial=0))
        self._bytes = list(accumulate((len(character.encode("utf-8")) for character in source), initial=0))
        self.bytes = self._bytes[-1]

    def byte(self, row: int, column: int) -> int:
        line = self._lines[min(row, len(self._lines)) - 1]  # the last tokens may stand on a row after the last line
        return self._bytes[min(line + column, len(self._bytes) - 1)]


class _Changes:
    """A number that changes here and there along a text."""

    def __init__(self, length: int) -> None:
        self._changes = torch.zeros(length + 1, dtype=torch.long)  # one more: what changes after the last byte

    def add(self, position: int, change: int) -> None:
        self._changes[position] += change

    def running(self) -> Tensor:
        return self._changes.cumsum(dim=0)[:-1]
