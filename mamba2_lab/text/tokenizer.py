"""What a tokenizer is, and the smallest one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

REPLACEMENT = "\ufffd"  # what decoding shows for bytes that are not (yet) UTF-8


@runtime_checkable
class Tokenizer(Protocol):
    """What the package needs of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Ids are 0..vocab_size-1."""

    @property
    def end_of_text(self) -> int:
        """The id that stands behind every document."""

    @property
    def opening(self) -> tuple[int, ...]:
        """The ids that stand before every text: see `prompt_ids`."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without `end_of_text`."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text: what `encode` gives, faster where there are many."""

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids; `end_of_text` is dropped, bytes that are not UTF-8 become U+FFFD."""

    def to_dict(self) -> dict[str, Any]:
        """All it takes to make this tokenizer again, ready for JSON, its kind under "type"."""


class ByteTokenizer:
    """Ids 0..255 are the bytes of UTF-8, and 256 is the end of a text.

    >>> ByteTokenizer().encode("né")
    [110, 195, 169]
    """

    vocab_size = 257
    end_of_text = 256
    opening = (end_of_text,)

    def encode(self, text: str) -> list[int]:
        """The UTF-8 bytes of the text."""
        require_text(text)
        return list(text.encode("utf-8"))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The UTF-8 bytes of each text."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the bytes.

        Raises:
            ValueError: for an id below 0. Ids beyond the vocabulary have no text: models pad theirs.
        """
        return bytes(i for i in natural(ids) if i < self.end_of_text).decode("utf-8", errors="replace")

    def to_dict(self) -> dict[str, Any]:
        """{"type": "bytes"}: there is nothing else to know."""
        return {"type": "bytes"}


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """What a model reads of a prompt, at least one token: those that open a text, then those of the prompt itself.

    A model writes best where it begins as in training. Documents are packed end to end there, and what stands between
    them depends on who trained. What begins to learn here opens every document with `end_of_text`. Of published models,
    the tokenizer's files say what they open a text with (post_processor, or else add_bos_token): Codestral and Llama
    with a token of its own, <s> or <|begin_of_text|>; GPT-NeoX, and with it the official Mambas, with nothing. Their
    documents ended with <|endoftext|> too, so that is what they begin with where there is nothing else to read.
    """
    return [*tokenizer.opening, *tokenizer.encode(prompt)] or [tokenizer.end_of_text]


def natural(ids: Iterable[int]) -> list[int]:
    """The ids in a list; ValueError if one is below 0."""
    ids = [int(i) for i in ids]
    if any(i < 0 for i in ids):
        raise ValueError(f"ids must be 0 or more; got {min(ids)}")
    return ids


def require_text(text: object) -> None:
    """TypeError unless it is a text."""
    if not isinstance(text, str):
        raise TypeError(f"text must be a str; got {type(text).__name__}")
