"""A tokenizer as llama.cpp knows one: the fields `tokenizer.ggml.*` of a GGUF file, for byte-level byte-pair encoding.

llama.cpp has the merges in the file, but not how text is cut before it is merged: it knows a fixed set of patterns by
name. `Vocabulary.losses` says where its ids for a text will be others than ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import tokenizers
from tokenizers import pre_tokenizers

from mamba2_lab.checks import require
from mamba2_lab.text.subwords import PIECES, Subwords
from mamba2_lab.text.tokenizer import ByteTokenizer, Tokenizer

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # what llama.cpp calls types of tokens

_ENGLISH_ENDINGS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_AFTER_WORDS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CUTS: Mapping[str, str] = {  # the patterns of published tokenizers that llama.cpp has, and its names for them
    rf"{_ENGLISH_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_AFTER_WORDS}": "llama-bpe",
    rf"{_ENGLISH_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_AFTER_WORDS}": "qwen2",
}
_GPT2 = "gpt-2"  # what the library's ByteLevel has built in
_NEAREST_TO_OURS = "qwen2"


class Vocabulary(NamedTuple):
    """The fields, and what is lost."""

    tokens: list[str]  # by id; bytes in the alphabet of GPT-2
    types: list[int]
    merges: list[str]
    pre: str  # the name of the pattern that cuts text
    end_of_text: int
    opening: tuple[int, ...]
    losses: tuple[str, ...]


def for_llama_cpp(tokenizer: Tokenizer, vocab_size: int) -> Vocabulary:
    """The vocabulary of a model with `vocab_size` tokens; what the tokenizer lacks of them are tokens that it never gives.

    Raises:
        ValueError: for a tokenizer that is no byte-level byte-pair encoding, or cuts text in a way that llama.cpp does
            not know; and if it has more tokens than the model.
    """
    require(tokenizer.vocab_size <= vocab_size, "tokenizer", f"one of at most {vocab_size} tokens", tokenizer.vocab_size)
    if isinstance(tokenizer, ByteTokenizer):
        return _of_bytes(tokenizer, vocab_size)
    if not isinstance(tokenizer, Subwords):
        raise TypeError(f"tokenizer must be one of this package; got {type(tokenizer).__name__}")
    described = tokenizer.to_dict()["tokenizer"]
    pre, losses = _cut(described)
    ids = {name: i for name, i in described["model"]["vocab"].items()}
    types = dict.fromkeys(ids.values(), NORMAL)
    for added in described["added_tokens"]:
        ids[added["content"]] = added["id"]
        types[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    named = {i: name for name, i in ids.items()}
    tokens = [named.get(i, f"[PAD{i}]") for i in range(vocab_size)]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in described["model"]["merges"]]
    return Vocabulary(
        tokens,
        [types.get(i, UNUSED) for i in range(vocab_size)],
        merges or [_never(tokens[tokenizer.end_of_text])],
        pre,
        tokenizer.end_of_text,
        getattr(tokenizer, "opening", (tokenizer.end_of_text,)),
        losses,
    )


def _of_bytes(tokenizer: ByteTokenizer, vocab_size: int) -> Vocabulary:
    """Every byte is a token, and no merge follows: however text is cut, the ids are the same."""
    end, size = "<|end_of_text|>", tokenizer.vocab_size
    tokens = [*_alphabet(), end, *(f"[PAD{i}]" for i in range(size, vocab_size))]
    types = [NORMAL] * 256 + [CONTROL] + [UNUSED] * (vocab_size - size)
    opening = getattr(tokenizer, "opening", (tokenizer.end_of_text,))
    return Vocabulary(tokens, types, [_never(end)], _GPT2, tokenizer.end_of_text, opening, ())


def _never(token: str) -> str:
    """A merge that is never made, of a token that no text comes out as: llama.cpp reads no file without merges."""
    return f"{token} {token}"


def _alphabet() -> list[str]:
    """The character that GPT-2 writes each byte as: itself where it is printable, else the next that is not taken."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte if byte in printable else 256 + others.index(byte)) for byte in range(256)]


def _cut(described: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """llama.cpp's name for the way text is cut before it is merged, and what it does otherwise."""
    model, cut = described["model"], described["pre_tokenizer"]
    kind = model["type"]
    require(kind == "BPE" and not model.get("byte_fallback"), "tokenizer", "a byte-level BPE for llama.cpp", kind)
    losses = []
    if described["normalizer"] is not None:
        losses.append(f"llama.cpp leaves out what changes text before it is cut: {described['normalizer']['type']}")
    match cut:
        case {"type": "ByteLevel", "use_regex": True, "add_prefix_space": False}:
            return _GPT2, tuple(losses)
        case {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "use_regex": False, "add_prefix_space": False},
        ]}:  # fmt: skip
            if pattern in _CUTS:
                return _CUTS[pattern], tuple(losses)
            if pattern == PIECES:
                return _NEAREST_TO_OURS, (*losses, "xx")
    raise ValueError(f"tokenizer must cut text in a way that llama.cpp knows; got {json.dumps(cut)}")
