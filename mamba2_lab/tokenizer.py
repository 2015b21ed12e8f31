"""Text to token ids and back, behind one small protocol. Bytes first: nothing to learn, no text it cannot read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from mamba2_lab.files import write_text

REPLACEMENT = "\ufffd"  # what decoding shows for bytes that are not (yet) UTF-8
FILE_NAME = "mamba2_lab_tokenizer.json"


@runtime_checkable
class Tokenizer(Protocol):
    """What the package needs of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Ids are 0..vocab_size-1."""

    @property
    def end_of_text(self) -> int:
        """The id that stands before and after every document."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without `end_of_text`."""

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

    def encode(self, text: str) -> list[int]:
        """The UTF-8 bytes of the text."""
        if not isinstance(text, str):
            raise TypeError(f"text must be a str; got {type(text).__name__}")
        return list(text.encode("utf-8"))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the bytes.

        Raises:
            ValueError: for an id outside 0..256.
        """
        ids = [int(i) for i in ids]
        for i in ids:
            if not 0 <= i < self.vocab_size:
                raise ValueError(f"ids must lie in 0..{self.vocab_size - 1}; got {i}")
        return bytes(i for i in ids if i != self.end_of_text).decode("utf-8", errors="replace")

    def to_dict(self) -> dict[str, Any]:
        """{"type": "bytes"}: there is nothing else to know."""
        return {"type": "bytes"}


class TextStream:
    """Text of a growing list of tokens, piece by piece, never cut inside a character.

    `push` returns what the new token adds. A token that ends inside a character adds nothing until the character is
    whole; `flush` gives what was held back at the end. All pieces together are the text of all tokens together.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._held: list[int] = []  # tokens since the last point where the text was whole
        self._given = 0  # characters of their text that were returned already

    def push(self, token: int) -> str:
        """The text that is certain now and was not before."""
        self._held.append(token)
        text = self._tokenizer.decode(self._held)
        # An unfinished character decodes to one U+FFFD at the end; everything before it is certain.
        unfinished = text.endswith(REPLACEMENT)
        piece = text[self._given : -1 if unfinished else None]
        if unfinished:
            self._given += len(piece)
        else:
            self._held, self._given = [], 0
        return piece

    def flush(self) -> str:
        """What was held back, broken or not."""
        piece = self._tokenizer.decode(self._held)[self._given :]
        self._held, self._given = [], 0
        return piece


def save(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Write the tokenizer into a model's folder."""
    write_text(Path(folder) / FILE_NAME, json.dumps(tokenizer.to_dict(), indent=2) + "\n")


def load(folder: str | Path) -> Tokenizer:
    """The tokenizer of a model's folder.

    Raises:
        FileNotFoundError: if the folder has none.
        ValueError: if it is damaged, or of an unknown type.
    """
    path = Path(folder) / FILE_NAME
    if not path.exists():
        raise FileNotFoundError(f"{folder} has no tokenizer: expected a file {FILE_NAME}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON; found {error}") from error
    kind = found.get("type") if isinstance(found, dict) else None
    if kind != "bytes":
        raise ValueError(f"{path}: tokenizer type must be 'bytes'; got {kind!r}")
    return ByteTokenizer()
