"""The text of tokens that come one by one, never cut inside a character."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Self

from mamba2_lab.text.tokenizer import REPLACEMENT, Tokenizer

CONTEXT = 32  # tokens of a prompt that are decoded again in front of new ones; more where these have no text


class TextStream:
    """What each new token adds to the text of all of them, the tokens before it included.

        pieces given so far + `rest`  =  what decoding all tokens gives, behind the text of those before

    A token is decoded after the ones that stand before it, because decoders drop the space that a text begins with.
    What a later token could still change is held back: an unfinished character, and a run of the tokens for single
    bytes that Llama's tokenizers fall back to, which are judged together. `settle` is for when nothing may be coming;
    what it gives stands, even if a broken byte comes after all.

    Args:
        before: the tokens that these follow, of a prompt say. Their text is not given again.
    """

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._bytes: frozenset[int] = getattr(tokenizer, "fallback_bytes", frozenset())
        self._tokens = self._context(before)  # some that have been given, then the new ones
        self._old = len(self._tokens)  # how many of them were given whole
        self._given = len(self._text().rstrip(REPLACEMENT))  # characters of their text that need not be given

    def push(self, token: int) -> str:
        """The text that is certain now and was not before."""
        self._tokens.append(token)
        text = self._text()
        # Unfinished characters decode to U+FFFD, once or for each byte; everything before them is certain.
        certain = len((self._before_bytes() if self._bytes else text).rstrip(REPLACEMENT))
        piece = self._give(text, certain)
        if piece and certain == len(text):  # later ones need no more than these to be decoded after
            del self._tokens[: self._old]
            self._old, self._given = len(self._tokens), len(self._text())
        return piece

    def settle(self) -> str:
        """All that was held back but an unfinished character, as if nothing were coming. More may come all the same."""
        text = self._text()
        return self._give(text, len(text.rstrip(REPLACEMENT)))

    @property
    def rest(self) -> str:
        """What is held back, as it reads now: each unfinished character as U+FFFD."""
        return self._text()[self._given :]

    def copy(self) -> Self:
        """A stream at the same place, which goes on by itself."""
        other = copy.copy(self)
        other._tokens = list(self._tokens)
        return other

    def _text(self) -> str:
        return self._tokenizer.decode(self._tokens)

    def _give(self, text: str, certain: int) -> str:
        piece = text[self._given : certain]
        self._given = max(self._given, certain)
        return piece

    def _before_bytes(self) -> str:
        """The text before a run of single bytes that may go on. A token without a text does not end such a run."""
        start = end = len(self._tokens)
        while end and (self._tokens[end - 1] in self._bytes or not self._tokenizer.decode([self._tokens[end - 1]])):
            end -= 1
            start = end if self._tokens[end] in self._bytes else start
        return self._tokenizer.decode(self._tokens[:start])

    def _context(self, before: Iterable[int]) -> list[int]:
        """The end of `before`, not cut in a run of single bytes, and long enough that it has a text to stand behind."""
        before = list(before)
        for count in (CONTEXT * 2**i for i in range(len(before).bit_length())):
            context = before[-count:]
            if context[0] not in self._bytes and self._tokenizer.decode(context).strip(REPLACEMENT + " "):
                return context
        return before
