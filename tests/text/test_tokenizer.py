"""Text to ids and back: the bytes, and what every tokenizer keeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from support.many_tokenizers import llama_like
from support.texts import bpe, texts

from mamba2_lab.text import ByteTokenizer, Tokenizer


@pytest.fixture
def tokenizer() -> ByteTokenizer:
    return ByteTokenizer()


@given(texts)
def test_every_text_comes_back_whole(text):
    ids = ByteTokenizer().encode(text)
    assert ByteTokenizer().decode(ids) == text
    assert all(0 <= i < 256 for i in ids), "end_of_text is never part of a text"


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", []),
        ("AZ\n", [65, 90, 10]),
        ("né", [110, 195, 169]),
        ("€", [0xE2, 0x82, 0xAC]),
        ("🐍", [0xF0, 0x9F, 0x90, 0x8D]),
        ("\0", [0]),
    ],
)
def test_ids_are_the_bytes_of_utf8(tokenizer, text, ids):
    assert tokenizer.encode(text) == ids


def test_the_end_of_text_is_the_last_id_and_has_no_text(tokenizer):
    assert (tokenizer.end_of_text, tokenizer.vocab_size) == (256, 257)
    assert tokenizer.decode([256, 104, 105, 256]) == "hi"


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([0xFF], "\ufffd"),
        ([0x41, 0x80, 0x42], "A\ufffdB"),
        ([0xC3], "\ufffd"),  # cut inside a character
        ([0xE2, 0x82], "\ufffd"),
        ([0xE2, 0x82, 0x41], "\ufffdA"),
        ([0xED, 0xA0, 0x80], "\ufffd\ufffd\ufffd"),  # a surrogate, which UTF-8 must not hold
        ([0xC0, 0x80], "\ufffd\ufffd"),  # an overlong form
        ([0xEF, 0xBF, 0xBD], "\ufffd"),  # the replacement character itself
    ],
)
def test_bytes_that_are_no_utf8_become_replacement_characters(tokenizer, ids, text):
    assert tokenizer.decode(ids) == text


def test_an_id_below_zero_is_refused_and_padding_of_a_models_vocabulary_has_no_text(tokenizer):
    with pytest.raises(ValueError, match="ids must be 0 or more; got -3"):
        tokenizer.decode([65, -3, -1])
    assert tokenizer.decode([0xC3, 257, 50_000, 0xA9]) == "é"


@pytest.mark.parametrize("bad", [b"bytes", None, 3, ["a"]])
def test_encoding_something_that_is_no_text_is_refused(tokenizer, bad):
    with pytest.raises(TypeError, match=f"text must be a str; got {type(bad).__name__}"):
        tokenizer.encode(bad)


def test_every_tokenizer_keeps_the_protocol(tokenizer):
    for kept in (tokenizer, bpe(), llama_like()):
        assert isinstance(kept, Tokenizer)
    assert not isinstance("text", Tokenizer)


@pytest.mark.parametrize("make", [ByteTokenizer, lambda: bpe(), lambda: llama_like()], ids=["bytes", "bpe", "llama"])
def test_a_batch_is_encoded_like_each_text_alone(make):
    batch = ["", "def f(x):\n    return x", "né 🐍\n", "  "]
    assert make().encode_batch(batch) == [make().encode(text) for text in batch]
    assert make().encode_batch([]) == []
    with pytest.raises(TypeError, match="text must be a str; got int"):
        make().encode_batch(["a", 3])
    with pytest.raises(UnicodeEncodeError, match="position 1: surrogates not allowed"):
        make().encode("a\ud800")
