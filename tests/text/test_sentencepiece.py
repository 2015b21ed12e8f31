"""Tokenizers of SentencePiece itself, made readable as transformers does it: no space and no character is lost."""

from __future__ import annotations

import functools
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.texts import SOURCE

from mamba2_lab import load_tokenizer
from mamba2_lab.text import REPLACEMENT, TextStream, Tokenizer, prompt_ids

sentencepiece, transformers = pytest.importorskip("sentencepiece"), pytest.importorskip("transformers")

# The class that reads it in transformers; and whether a space goes before every text, which that one leaves out.
KINDS = {"bpe": ("LlamaTokenizer", True), "unigram": ("PreTrainedTokenizerFast", False)}
WORDS = ["hello", " hello", " world", "  ", "\n", "é", " 日本", "🐍", "def f(x):", "▁", "<s>", "\0", " a", "\t"]
snippets = st.lists(st.sampled_from(WORDS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=8)


@functools.cache
def both(kind: str) -> tuple[Any, Tokenizer]:
    """One that SentencePiece has learned, and ours, of the tokenizer.json that transformers makes of it."""
    learned = io.BytesIO()
    lines = [line for text in SOURCE for line in text.splitlines() if line.strip()][:600]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines + ["hello world 日本"] * 9),
        model_writer=learned,
        model_type=kind,
        vocab_size=450,
        byte_fallback=True,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=KINDS[kind][1],
        minloglevel=2,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tokenizer.model").write_bytes(learned.getvalue())
        config = {"tokenizer_class": KINDS[kind][0], "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True}
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        with pytest.raises(FileNotFoundError, match=r"found tokenizer\.model, which transformers reads"):
            load_tokenizer(folder)
        transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder)  # as that message says
        return sentencepiece.SentencePieceProcessor(model_proto=learned.getvalue()), load_tokenizer(folder)


@pytest.mark.parametrize("kind", KINDS)
@given(text=snippets.map("".join))
@example(text="hello world 🐍 日本\n\n  naïve")
def test_ids_and_texts_are_those_of_sentencepiece(kind, text):
    theirs, ours = both(kind)
    ids = theirs.encode(text)
    assert ours.decode(ids) == theirs.decode(ids)
    assert ours.decode([1, *ids, 2]) == theirs.decode(ids)
    if kind == "unigram" or not text.startswith((" ", "▁")):  # transformers puts no second space before one
        assert ours.encode(text) == ids
        assert ours.decode(ours.encode(text)) == text.replace("▁", " ")


@pytest.mark.parametrize("kind", KINDS)
@given(text=snippets.map("".join), cut=st.integers(0, 30))
@example(text="hello world", cut=1)
@example(text="a日本🐍", cut=2)
def test_a_text_streams_whole_behind_any_part_of_it(kind, text, cut):
    """The oracle is SentencePiece's own text of all tokens."""
    theirs, ours = both(kind)
    ids = theirs.encode(text)
    before, after = ids[:cut], ids[cut:]
    while before and before[-1] in ours.fallback_bytes:  # a prompt is a text: it does not end inside a character
        after, before = [before[-1], *after], before[:-1]
    stream = TextStream(ours, [*ours.opening, *before])
    pieces = [stream.push(i) for i in after]
    assert theirs.decode(before) + "".join(pieces) + stream.rest == theirs.decode(ids)
    assert REPLACEMENT not in "".join(pieces) or REPLACEMENT in text


@pytest.mark.parametrize("kind", KINDS)
@given(ids=st.lists(st.integers(0, 449) | st.integers(3, 258), max_size=25))
@example(ids=[3 + byte for byte in (0xF0, 0x9F, 0x90, 0x8D, 0xE2, 0x82)])
@example(ids=[3 + 0xF0, 3 + 0x9F, 1, 3 + 0x90, 3 + 0x8D, 2, 300])
def test_any_ids_stream_to_what_decoding_all_of_them_gives(kind, ids):
    ours = both(kind)[1]
    stream, given_so_far = TextStream(ours), ""
    for n, token in enumerate(ids, start=1):
        given_so_far += stream.push(token)
        assert given_so_far + stream.rest == ours.decode(ids[:n])


@pytest.mark.parametrize("kind", KINDS)
def test_a_character_of_four_tokens_and_the_space_after_a_prompt(kind):
    theirs, ours = both(kind)
    prompt, ids = prompt_ids(ours, "hello"), theirs.encode("hello🐍 world")
    assert prompt == [1, *ids[: len(prompt) - 1]]
    snake, world = ids[len(prompt) - 1 :][:4], ids[len(prompt) + 3 :]
    assert snake == [3 + byte for byte in "🐍".encode()]
    stream = TextStream(ours, prompt)
    assert [stream.push(i) for i in snake] == [""] * 4 and stream.rest == "🐍"
    assert "".join(stream.push(i) for i in world) == "🐍 world"
    assert stream.rest == ""
