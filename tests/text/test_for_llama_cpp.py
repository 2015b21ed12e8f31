"""Vocabularies for llama.cpp. Its patterns are written out here once more, by published tokenizers' own files."""

from __future__ import annotations

import argparse
import ast
import itertools
import json
import subprocess
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from support.oracle.mamba2 import raises
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from mamba2_lab import load_tokenizer
from mamba2_lab.text import BPETokenizer, ByteTokenizer, HuggingFaceTokenizer
from mamba2_lab.text.for_llama_cpp import CONTROL, NORMAL, UNUSED, USER_DEFINED, for_llama_cpp

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def published(cut: Any, normalizer: Any = None, **model: Any) -> HuggingFaceTokenizer:
    """A small one, as GPT-NeoX's: byte-level, the end of text first, runs of blanks added behind."""
    made = tokenizers.Tokenizer(models.BPE(**model))
    made.pre_tokenizer, made.decoder = cut, decoders.ByteLevel()
    if normalizer is not None:
        made.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=270, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(["a rose is a rose is a rose"], trainer)
    made.add_tokens([tokenizers.AddedToken("  ", normalized=True)])
    return HuggingFaceTokenizer(made, "<|endoftext|>")


def split(pattern: str) -> pre_tokenizers.Sequence:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


@pytest.mark.parametrize(
    ("cut", "name"),
    [
        (pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True), "gpt-2"),
        (split(LLAMA3), "llama-bpe"),
        (split(QWEN2), "qwen2"),
    ],
    ids=["gpt-2", "llama-bpe", "qwen2"],
)
def test_a_published_tokenizer_is_known_by_how_it_cuts(cut: Any, name: str) -> None:
    tokenizer = published(cut)
    found = for_llama_cpp(tokenizer, 280)
    assert (found.pre, found.losses, found.opening) == (name, (), ())
    assert found.end_of_text == found.tokens.index("<|endoftext|>") == 0
    blanks = found.tokens.index("  ")
    assert [found.types[i] for i in (0, 1, blanks, 279)] == [CONTROL, NORMAL, USER_DEFINED, UNUSED]
    described = json.loads(tokenizer._backend.to_str())["model"]
    assert found.merges == [f"{a} {b}" for a, b in described["merges"]]


def test_what_llama_cpp_leaves_out_is_said() -> None:
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    found = for_llama_cpp(published(cut, normalizers.NFC()), 280)
    assert found.losses == ("llama.cpp leaves out the tokenizer's normalizer, NFC",)


def test_our_own_pieces_are_cut_nearly_so_and_it_is_said() -> None:
    found = for_llama_cpp(BPETokenizer.train(["a rose is a rose is a rose"], 270), 270)
    assert found.pre == "superbpe"
    [loss] = found.losses
    assert loss.startswith("llama.cpp cuts text nearly as this tokenizer does, not quite")
    assert found.opening == (0,)


def test_merges_of_our_own_come_in_an_order_that_changes_nothing_inside_a_piece_and_little_across() -> None:
    """llama.cpp's pattern is stood in for by the library, cut at numbers alone."""
    tokenizer = load_tokenizer("medium")
    merges = [merge.split(" ") for merge in for_llama_cpp(tokenizer, tokenizer.vocab_size).merges]
    described = tokenizer.to_dict()["tokenizer"]
    assert merges != described["model"]["merges"] and sorted(merges) == sorted(described["model"]["merges"])
    texts = [Path(module.__file__).read_text(encoding="utf-8") for module in (argparse, ast, subprocess, tarfile)]
    texts += ["né  (x), ’a’ --> …  \t\n\n\t if x:  # 12½\n", "\u00a0\u2003 —(a) «b»  语言\n  "]
    ours = tokenizer.encode_batch(texts)
    assert encoded(described, merges, texts) == ours
    pieces = described["pre_tokenizer"]["pretokenizers"][0]
    assert pieces.pop("pattern") is not None
    pieces["pattern"] = {"Regex": r"\p{N}+"}
    assert shared(encoded(described, merges, texts), ours) > 0.99
    assert shared(encoded(described, described["model"]["merges"], texts), ours) < 0.99


def encoded(described: dict[str, Any], merges: list[Any], texts: list[str]) -> list[list[int]]:
    other = {**described, "model": {**described["model"], "merges": merges}}
    library = tokenizers.Tokenizer.from_str(json.dumps(other))
    return [found.ids for found in library.encode_batch(texts, add_special_tokens=False)]


def shared(found: list[list[int]], ours: list[list[int]]) -> float:
    """The share of our tokens that begin and end where they do in the other's."""
    both = [(starts(a), starts(b)) for a, b in zip(found, ours, strict=True)]
    return sum(len(a & b) for a, b in both) / sum(len(b) for _, b in both)


def starts(ids: list[int]) -> set[tuple[int, int]]:
    """Each token, and how many bytes stand before it."""
    lengths = [len(library_tokens()[i]) for i in ids]
    return {(before, i) for before, i in zip(itertools.accumulate([0, *lengths]), ids, strict=False)}


@cache
def library_tokens() -> list[str]:
    tokenizer = load_tokenizer("medium")
    return for_llama_cpp(tokenizer, tokenizer.vocab_size).tokens


def test_bytes_are_cut_as_they_are_everywhere() -> None:
    found = for_llama_cpp(ByteTokenizer(), 257)
    assert (found.pre, found.losses, found.opening, found.end_of_text) == ("gpt-2", (), (256,), 256)
    assert set(found.tokens[:256]) == set(pre_tokenizers.ByteLevel.alphabet())
    text = "".join(map(chr, range(0x250))) + "語🎉"  # all bytes that UTF-8 has but the rarest
    assert decoders.ByteLevel().decode([found.tokens[byte] for byte in text.encode()]) == text


WORDS = tokenizers.Tokenizer(models.WordLevel({"a": 0, "<end>": 1}, unk_token="a"))
UNIGRAM = tokenizers.Tokenizer(models.Unigram([("<end>", 0.0), ("a", -1.0)], unk_id=0))
FALLING_BACK = tokenizers.Tokenizer(
    models.BPE({"<end>": 0, **{f"<0x{i:02X}>": i + 1 for i in range(256)}}, [], byte_fallback=True)
)


@pytest.mark.parametrize(
    ("backend", "kind"),
    [(WORDS, "WordLevel"), (UNIGRAM, "Unigram"), (FALLING_BACK, "BPE with tokens for single bytes")],
    ids=["words", "unigram", "falling back"],
)
def test_other_kinds_are_refused_by_name(backend: tokenizers.Tokenizer, kind: str) -> None:
    with raises(ValueError, f"tokenizer must be a byte-level BPE for llama.cpp; got {kind}"):
        for_llama_cpp(HuggingFaceTokenizer(backend, "<end>"), 300)


@pytest.mark.parametrize(
    "cut",
    [
        pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        split(r"\w+|\W+"),
        pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
    ],
    ids=["a blank before", "not at all", "another pattern", "digits before"],
)
def test_another_way_to_cut_is_refused(cut: Any) -> None:
    with raises(ValueError, "tokenizer must cut text in a way that llama.cpp knows; got {"):
        for_llama_cpp(published(cut), 300)
