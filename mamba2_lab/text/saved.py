"""The tokenizer of a model's folder, which a stranger may have written."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from mamba2_lab.machine.files import write_text
from mamba2_lab.machine.untrusted import CheckpointError, read_json, shown
from mamba2_lab.text.hugging_face import (
    FILES,
    HUGGING_FACE_FILE,
    LARGEST_FILE,
    HuggingFaceTokenizer,
    folder_of,
    missing,
    of_sentencepiece,
)
from mamba2_lab.text.subwords import BPETokenizer, Subwords, untaught
from mamba2_lab.text.tokenizer import ByteTokenizer, Tokenizer
from mamba2_lab.text.trial import try_out

FILE_NAME = "mamba2_lab_tokenizer.json"


def save(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Write the tokenizer into a model's folder."""
    text = json.dumps(tokenizer.to_dict(), indent=2, ensure_ascii=False)
    write_text(Path(folder) / FILE_NAME, text + "\n")


def files_among(names: Collection[str]) -> list[str]:
    """Of the files of a model those that `load` reads."""
    return [name for name in (FILE_NAME, *FILES) if name in names]


def has_tokenizer(folder: Path) -> bool:
    """Whether a model's folder has a tokenizer, readable here or not."""
    return any((folder / name).exists() for name in (FILE_NAME, HUGGING_FACE_FILE)) or bool(of_sentencepiece(folder))


def find(name: str | Path) -> Tokenizer:
    """A tokenizer by what people call it: "bytes", a folder, or a Hub id (downloaded, then cached).

    Raises:
        FileNotFoundError, OSError: if it is nowhere, or cannot be fetched.
        CheckpointError: as `load`.
    """
    if name == "bytes":
        return ByteTokenizer()
    return load(folder_of(name, files_among))


def load(folder: str | Path) -> Tokenizer:
    """The tokenizer of a model's folder: ours, or else the one that transformers wrote there.

    Raises:
        FileNotFoundError: if the folder has none.
        CheckpointError: if it is damaged, explodes when it is tried, or is of an unknown type.
    """
    path = Path(folder) / FILE_NAME
    if not path.exists():
        if (Path(folder) / HUGGING_FACE_FILE).exists():
            return HuggingFaceTokenizer.from_pretrained(folder)
        raise missing(Path(folder), f"{FILE_NAME} or {HUGGING_FACE_FILE}")
    found = read_json(path, LARGEST_FILE)
    kind = found.get("type")
    if kind == "bytes":
        return ByteTokenizer()
    for subwords in (BPETokenizer, HuggingFaceTokenizer):
        if kind == subwords.kind:
            return _from_stranger(subwords, found, path)
    raise CheckpointError(f"{path}: tokenizer type must be 'bytes', 'bpe' or 'hugging_face'; got {shown(kind)}")


def _from_stranger(subwords: type[Subwords], found: dict[str, Any], path: Path) -> Tokenizer:
    """`from_dict`, of what stands in the file at `path`."""
    for name in ("tokenizer", "end_of_text"):
        if name not in found:
            raise CheckpointError(f"{path}: expected a field {name!r}; found none")
    try:
        if not _is_ours(found["tokenizer"]):
            try_out(json.dumps(found["tokenizer"]))
        return subwords.from_dict(found)
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: expected a tokenizer of type {subwords.kind!r}; found {error}") from error


def _is_ours(description: Any) -> bool:
    """Whether it cuts text as `BPETokenizer` does, and so needs no trial: it differs in what was learned alone."""
    if not isinstance(description, dict) or not isinstance(description.get("model"), dict):
        return False
    named = description.get("added_tokens")
    learned_nothing = {**description, "added_tokens": [], "model": {**description["model"], "vocab": {}, "merges": []}}
    return isinstance(named, list) and len(named) == 1 and learned_nothing == json.loads(untaught().to_str())
