"""The tokenizer that a published model came with, by the files that transformers writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import tokenizers

from mamba2_lab.machine import hub
from mamba2_lab.machine.untrusted import CheckpointError, read_json, read_text, shown
from mamba2_lab.text.subwords import Subwords, explained
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
        folder = Path(source).expanduser()
        if not folder.is_dir():
            folder = hub.fetch(str(source), "tokenizer", lambda names: [name for name in FILES if name in names])
        path = folder / HUGGING_FACE_FILE
        if not path.exists():
            raise FileNotFoundError(f"{folder} has no tokenizer: expected a file {HUGGING_FACE_FILE}")
        backend = _try_and_read(read_text(path, LARGEST_FILE), path)
        if (end_of_text := _named_end_of_text(folder, backend)) is None:
            raise CheckpointError(
                f"{folder}: expected an end of text (eos_token in tokenizer_config.json); found none. To name one: "
                f"HuggingFaceTokenizer(tokenizers.Tokenizer.from_file(path), end_of_text=...)"
            )
        try:
            return cls(backend, end_of_text)
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from error


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
    for name in _NAMING:
        token = _fields(folder / name).get("eos_token")
        if isinstance(token, dict):
            token = token.get("content")
        if not isinstance(token, str | None):
            raise CheckpointError(f"{folder / name}: eos_token: expected a text; found {shown(token)}")
        if token is not None:
            return token
    special = {i: token.content for i, token in backend.get_added_tokens_decoder().items() if token.special}
    for name in _NUMBERING:
        numbers = _fields(folder / name).get("eos_token_id")
        for number in numbers if isinstance(numbers, list) else [numbers]:
            # Where nobody chose, transformers writes a default, and that may be any word's.
            if type(number) is int and number in special:
                return special[number]
    return None


def _fields(path: Path) -> dict[str, Any]:
    """What `read_json` gives; {} if there is no such file."""
    return read_json(path) if path.exists() else {}
