"""A tokenizer as llama.cpp knows one: the fields `tokenizer.ggml.*` of a GGUF file, of byte-level BPE alone.

The file holds the tokens and the merges, but how text is cut before it is merged stands in llama.cpp itself, as a list
of patterns with names (`llm_tokenizer_bpe` in its src/llama-vocab.cpp).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from tokenizers import decoders

from mamba2_lab.text.for_transformers import as_library
from mamba2_lab.text.subwords import PIECES
from mamba2_lab.text.tokenizer import Tokenizer

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # llama.cpp's types of tokens

_ENDINGS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_NO_WORDS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CUTS: Mapping[str, str] = {  # patterns that published tokenizers have, and llama.cpp's names for them
    rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_NO_WORDS}": "llama-bpe",
    rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_NO_WORDS}": "qwen2",
}
_OF_GPT2 = "gpt-2"  # the pattern that the library's ByteLevel has built in
_AT_NUMBERS = "superbpe"  # cuts at numbers and nowhere else
_NEARLY = (
    "llama.cpp cuts text nearly as this tokenizer does, not quite: where signs or blanks meet a word, it may come to "
    "other tokens. Prompts that are given as ids are not touched by that"
)
_DECODER = decoders.ByteLevel()


class Vocabulary(NamedTuple):
    """The fields.

    tokens: by id; bytes are written in GPT-2's alphabet, names of special tokens as they are.
    merges: pairs of tokens, the first to be made first.
    pre: the name of the pattern.
    losses: where the ids of a text will be others than ours, a sentence each.
    """

    tokens: list[str]
    types: list[int]
    merges: list[str]
    pre: str
    end_of_text: int
    opening: tuple[int, ...]
    losses: tuple[str, ...]


def for_llama_cpp(tokenizer: Tokenizer, vocab_size: int) -> Vocabulary:
    """The vocabulary of a model.

    Args:
        vocab_size: of the model, at least the tokenizer's; ids that the tokenizer does not have get names, too.

    Raises:
        TypeError: for a tokenizer of a kind that this package does not know.
        ValueError: for one that is no byte-level BPE, or that cuts text as llama.cpp never does.
    """
    described = json.loads(as_library(tokenizer).to_str())
    pre, losses = _cut(described)
    tokens = [f"[PAD{i}]" for i in range(vocab_size)]
    types = [UNUSED] * vocab_size
    for token, i in described["model"]["vocab"].items():
        tokens[i], types[i] = token, NORMAL
    for added in described["added_tokens"]:
        tokens[added["id"]], types[added["id"]] = added["content"], CONTROL if added["special"] else USER_DEFINED
    end = tokenizer.end_of_text
    never = f"{tokens[end]} {tokens[end]}"  # no text comes out as its parts; a file without merges is not read
    merges = described["model"]["merges"]
    if pre == _AT_NUMBERS:
        merges = sorted(merges, key=_place)
    if len(tokenizer.opening) > 1:
        losses = (*losses, f"llama.cpp puts one token before a text; this tokenizer {len(tokenizer.opening)}")
    merges = [" ".join(pair) for pair in merges] or [never]
    return Vocabulary(tokens, types, merges, pre, end, tokenizer.opening, losses)


def _cut(described: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """llama.cpp's name for the way in which text is cut, and what it does otherwise."""
    model = described["model"]
    if model["type"] != "BPE" or model["byte_fallback"]:
        kind = f"{model['type']} with tokens for single bytes" if model.get("byte_fallback") else model["type"]
        raise ValueError(f"tokenizer must be a byte-level BPE for llama.cpp; got {kind}")
    normalizer = described["normalizer"]
    losses = () if normalizer is None else (f"llama.cpp leaves out the tokenizer's normalizer, {normalizer['type']}",)
    match described["pre_tokenizer"]:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": cuts} if cuts or not model["merges"]:
            return _OF_GPT2, losses  # without merges it does not matter how text is cut
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        } if pattern in _CUTS:
            return _CUTS[pattern], losses
        case {"pretokenizers": [{"pattern": {"Regex": pattern}}, _]} if pattern == PIECES:
            return _AT_NUMBERS, (*losses, _NEARLY)
        case other:
            raise ValueError(f"tokenizer must cut text in a way that llama.cpp knows; got {json.dumps(other)}")


def _place(pair: tuple[str, str]) -> int:
    """Where a merge of our own tokenizers goes for llama.cpp: of blanks first, of signs next, of all else last.

    None of our `PIECES` holds merges of two of these, so inside a piece their order stays as it was. Where pieces meet,
    which llama.cpp does not see, what is a token of ours is now nearly always made before what reaches across.
    """
    text = _DECODER.decode(["".join(pair)])
    if not text.isascii():
        return 2
    signs = text.removeprefix(" ")
    is_run_of_signs = len(text) > 1 and not any(character.isalnum() or character.isspace() for character in signs)
    return 0 if text.isspace() else 1 if is_run_of_signs else 2
