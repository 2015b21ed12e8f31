"""Where a text ends: at a stop token, or where it holds a stop string."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

from mamba2_lab.checks import require_token
from mamba2_lab.text import TextStream, Tokenizer

Stop = int | str | Sequence[int | str]


class Stops(NamedTuple):
    """Token ids, and strings."""

    ids: tuple[int, ...]
    strings: tuple[str, ...]

    @classmethod
    def of(cls, stop: Stop | None, tokenizer: Tokenizer | None, vocab_size: int) -> Stops:
        """What a caller may give.

        Raises:
            TypeError, ValueError: as `checks` says it.
        """
        given: list[object] = []
        if isinstance(stop, Iterable) and not isinstance(stop, str):
            given = list(stop)
        elif stop is not None:
            given = [stop]
        ids = tuple(item for item in given if isinstance(item, int))
        strings = tuple(item for item in given if isinstance(item, str))
        if len(ids) + len(strings) != len(given):
            raise TypeError(f"stop must be token ids or strings, or a list of them; got {stop!r}")
        for token in ids:
            require_token("stop", token, vocab_size)
        if "" in strings:
            raise ValueError("stop must not hold an empty string: it would stop everywhere")
        if strings and tokenizer is None:
            raise ValueError(f"stop strings need a tokenizer to be found in the text; got stop={stop!r} without one")
        return cls(ids, strings)


class StoppedText:
    """The text of one sequence, given piece by piece up to a stop, and on from there.

        pieces given so far + `rest`  =  the text of all tokens

    What may be the beginning of a stop string is held back, and so is the text of a stop that was reached: it is given
    with the next piece, should the sequence go on. A stop string counts where it ends in new text; it may have begun in
    text that was given, but not before the last stop.

    Args:
        text: of the tokens; None where nobody reads it.

    Attributes:
        reached: whether it has come to a stop.
    """

    def __init__(self, text: TextStream | None) -> None:
        self.reached = False
        self._text = text
        self._passed = ""  # the text of the last stop, while it is not given
        self._since = ""  # the text since then
        self._given = 0  # characters of that

    def push(self, token: int, stops: Stops) -> str:
        """What this token adds that is certain, and stands before a stop."""
        self.reached = False
        new = "" if self._text is None else self._text.push(token)
        if token in stops.ids:
            return self._stop(len(self._since), new)
        return self._search(new, stops)

    def settle(self, stops: Stops) -> str:
        """What was held back, but for an unfinished character, as if nothing were coming. More may come, though."""
        piece = self._search("" if self._text is None else self._text.settle(), stops)
        return piece if self.reached else piece + self._give(len(self._since))

    @property
    def rest(self) -> str:
        """What is held back, as it reads now."""
        return self._passed + self._since[self._given :] + ("" if self._text is None else self._text.rest)

    def copy(self) -> Self:
        """A text at the same place, which goes on by itself."""
        other = copy.copy(self)
        other._text = None if self._text is None else self._text.copy()
        return other

    def _search(self, new: str, stops: Stops) -> str:
        before, self._since = len(self._since), self._since + new
        found = (self._since.find(string, max(0, before - len(string) + 1)) for string in stops.strings)
        if (start := min((i for i in found if i >= 0), default=None)) is not None:
            return self._stop(max(start, self._given))
        begun = max((_overlap(self._since, string) for string in stops.strings), default=0)
        return self._give(max(self._given, len(self._since) - begun))

    def _stop(self, at: int, behind: str = "") -> str:
        """End at a place of the text since the last stop; what comes after it is `behind`."""
        piece = self._give(at)
        self.reached, self._passed, self._since, self._given = True, self._since[at:] + behind, "", 0
        return piece

    def _give(self, until: int) -> str:
        piece = self._passed + self._since[self._given : until]
        self._passed, self._given = "", until
        return piece


def _overlap(text: str, string: str) -> int:
    """Length of the longest end of text that begins string."""
    longest = min(len(text), len(string) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(string[:n])), 0)
