"""The tokenizer that a published model came with, by the files that transformers writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import tokenizers

from mamba2_lab.machine import hub
from mamba2_lab.machine.untrusted import CheckpointError, read_json, read_text, shown
from mamba2_lab.text.subwords import Subwords, explained, opened_by
from mamba2_lab.text.trial import try_out

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HUGGING_FACE_FILE = "tokenizer.json"  # what the tokenizers library writes
LARGEST_FILE = 64_000_000  # bytes: several hundred thousand tokens and their merges
_NAMING = ("tokenizer_config.json", "special_tokens_map.json")  # eos_token, the token itself
_NUMBERING = ("generation_config.json", "config.json")  # eos_token_id, its number
FILES = (HUGGING_FACE_FILE, *_NAMING, *_NUMBERING)  # that are read here


class HuggingFaceTokenizer(Subwords):
    """The tokenizer of a published model. It is read with the `tokenizers` library; transformers is not needed.

    The official Mamba-2 models come without one and use that of "EleutherAI/gpt-neox-20b". What a tokenizer loses
    (an unknown character, doubled spaces) stays lost; those that work on bytes lose nothing.

    Args:
        tokenizer: of transformers, one with a `backend_tokenizer`, or of the `tokenizers` library.
        end_of_text: one of its tokens; by default the `eos_token` that a tokenizer of transformers names.

    Raises:
        TypeError: for anything else.
        ValueError: if there is no such token.
    """

    kind = "hugging_face"

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase | tokenizers.Tokenizer, end_of_text: str | None = None
    ) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if not isinstance(backend, tokenizers.Tokenizer):
            expected = "a tokenizers.Tokenizer or a transformers tokenizer with a backend_tokenizer"
            raise TypeError(f"tokenizer must be {expected}; got {type(tokenizer).__name__}")
        if end_of_text is None:
            end_of_text = getattr(tokenizer, "eos_token", None)
        if end_of_text is None:
            raise ValueError("the tokenizer must have an eos_token, or end_of_text must name a token; got neither")
        super().__init__(backend, end_of_text)

    @classmethod
    def from_pretrained(cls, source: str | Path) -> HuggingFaceTokenizer:
        """Read tokenizer.json and, beside it, which token ends a text.

        Args:
            source: a folder, or a Hub id such as "EleutherAI/gpt-neox-20b" (downloaded, then cached).

        Raises:
            FileNotFoundError: if there is no tokenizer.json.
            CheckpointError: if it is damaged, explodes when it is tried, or no file names the end of text.
        """
        folder = folder_of(source, lambda names: [name for name in FILES if name in names])
        path = folder / HUGGING_FACE_FILE
        if not path.exists():
            raise missing(folder, HUGGING_FACE_FILE)
        backend = _try_and_read(read_text(path, LARGEST_FILE), path)
        if (end_of_text := _named_end_of_text(folder, backend)) is None:
            raise CheckpointError(
                f"{folder}: expected an end of text (eos_token in tokenizer_config.json); found none. To name one: "
                f"HuggingFaceTokenizer(tokenizers.Tokenizer.from_file(path), end_of_text=...)"
            )
        try:
            found = cls(backend, end_of_text)
            opening = None if found.opening else _declared_opening(folder, backend)
            return found if opening is None else found._opened_by(opening)
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from error

    def opened_by_end_of_text(self) -> HuggingFaceTokenizer:
        """The same, but that its end of text opens a text too, as it opens every document of a training here."""
        return self._opened_by(self._end_of_text)

    def _opened_by(self, token: str) -> HuggingFaceTokenizer:
        return HuggingFaceTokenizer(opened_by(self._backend, [token]), self._end_of_text)


def folder_of(source: str | Path, choose: hub.Choice) -> Path:
    """A folder as it is, or that of a Hub id with the files that are chosen there."""
    folder = Path(source).expanduser()
    return folder if folder.is_dir() else hub.fetch(str(source), "tokenizer", choose)


def missing(folder: Path, expected: str) -> FileNotFoundError:
    """What is said of a folder without a tokenizer that is read here."""
    text = f"{folder} has no tokenizer: expected a file {expected}"
    for name in of_sentencepiece(folder)[:1]:
        text += (
            f"; found {name}, which transformers reads: AutoTokenizer.from_pretrained(folder).save_pretrained(folder) "
            f"makes a {HUGGING_FACE_FILE} of it"
        )
    return FileNotFoundError(text)


def of_sentencepiece(folder: Path) -> list[str]:
    """The files in a folder that SentencePiece has written, or Mistral for it: tokenizer.model.v3."""
    return sorted(path.name for path in folder.glob("tokenizer.model*"))


def _try_and_read(description: str, path: Path) -> tokenizers.Tokenizer:
    """A tokenizer of the library, by what stands in the file at `path`."""
    try:
        try_out(description)
        with explained(""):
            return tokenizers.Tokenizer.from_str(description)
    except ValueError as error:
        raise CheckpointError(f"{path}: expected what the tokenizers library writes; found {error}") from error


def _named_end_of_text(folder: Path, backend: tokenizers.Tokenizer) -> str | None:
    """The token that the files of a folder name as the end of a text."""
    if (token := _named(folder, "eos_token")) is not None:
        return token
    special = {i: token.content for i, token in backend.get_added_tokens_decoder().items() if token.special}
    for name in _NUMBERING:
        numbers = _fields(folder / name).get("eos_token_id")
        for number in numbers if isinstance(numbers, list) else [numbers]:
            # Where nobody chose, transformers writes a default, and that may be any word's.
            if type(number) is int and number in special:
                return special[number]
    return None


def _declared_opening(folder: Path, backend: tokenizers.Tokenizer) -> str | None:
    """The token that tokenizer_config.json lets open a text; for those whose post-processor does not say so itself."""
    if _fields(folder / _NAMING[0]).get("add_bos_token") is not True:
        return None
    token = _named(folder, "bos_token")
    return token if token is not None and backend.token_to_id(token) is not None else None


def _named(folder: Path, role: str) -> str | None:
    """The token that the files of a folder give a role, "eos_token" say."""
    for name in _NAMING:
        token = _fields(folder / name).get(role)
        if isinstance(token, dict):
            token = token.get("content")
        if not isinstance(token, str | None):
            raise CheckpointError(f"{folder / name}: {role}: expected a text; found {shown(token)}")
        if token is not None:
            return token
    return None


def _fields(path: Path) -> dict[str, Any]:
    """What `read_json` gives; {} if there is no such file."""
    return read_json(path) if path.exists() else {}
