"""Text to ids and back, streamed and whole, and the tokenizer's own file."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mamba2_lab import tokenizer as tokenizers
from mamba2_lab.tokenizer import FILE_NAME, ByteTokenizer, TextStream, Tokenizer

texts = st.text(st.characters(exclude_categories=["Cs"]))  # no surrogates: they have no UTF-8
# Bytes near every rule of UTF-8: ASCII, continuations, leads of two to four, overlong and surrogate forms, never valid.
TRICKY = [0x41, 0x80, 0x9F, 0xA0, 0xBF, 0xC0, 0xC3, 0xE0, 0xE2, 0x82, 0xAC, 0xED, 0xEF, 0xBD, 0xF0, 0x90, 0xF4, 0xFF]
tokens = st.lists(st.sampled_from([*TRICKY, 256]) | st.integers(0, 256), max_size=40)


@pytest.fixture
def tokenizer() -> ByteTokenizer:
    return ByteTokenizer()


def streamed(ids: list[int]) -> list[str]:
    stream = TextStream(ByteTokenizer())
    return [*map(stream.push, ids), stream.flush()]


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


@pytest.mark.parametrize("bad", [-1, 257, 50_000])
def test_decoding_an_id_outside_the_vocabulary_is_refused(tokenizer, bad):
    with pytest.raises(ValueError, match=rf"ids must lie in 0\.\.256; got {bad}"):
        tokenizer.decode([65, bad])


@pytest.mark.parametrize("bad", [b"bytes", None, 3, ["a"]])
def test_encoding_something_that_is_no_text_is_refused(tokenizer, bad):
    with pytest.raises(TypeError, match=f"text must be a str; got {type(bad).__name__}"):
        tokenizer.encode(bad)


@given(tokens)
@example([0xF0, 0x9F, 0x90])
@example([0xEF, 0xBF, 0xBD, 0xEF, 0xBF, 0xBD])
@example([0xC3, 256, 0xA9])
def test_streamed_pieces_join_to_the_text_of_all_tokens(ids):
    assert "".join(streamed(ids)) == ByteTokenizer().decode(ids)


@given(tokens)
def test_what_was_streamed_is_never_taken_back(ids):
    stream, given_so_far = TextStream(ByteTokenizer()), ""
    for n, token in enumerate(ids, start=1):
        given_so_far += stream.push(token)
        text = ByteTokenizer().decode(ids[:n])
        assert text.startswith(given_so_far)
        assert len(text) - len(given_so_far) <= 1, "more was held back than one unfinished character"


@given(texts)
def test_a_character_is_given_when_its_last_byte_comes_and_not_in_parts(text):
    pieces = [piece for piece in streamed(ByteTokenizer().encode(text)) if piece]
    assert "".join(pieces) == text
    assert all(len(piece) == 1 for piece in pieces if "\ufffd" not in piece)


def test_a_multi_byte_character_streams_in_one_piece():
    assert streamed([0x41, 0xF0, 0x9F, 0x90, 0x8D, 0x42]) == ["A", "", "", "", "🐍", "B", ""]


def test_an_unfinished_character_is_given_by_flush_and_only_once():
    stream = TextStream(ByteTokenizer())
    assert [stream.push(0xE2), stream.push(0x82), stream.flush(), stream.flush()] == ["", "", "\ufffd", ""]
    assert stream.push(0x41) == "A", "after a flush the stream begins anew"


def test_the_byte_tokenizer_keeps_the_protocol(tokenizer):
    assert isinstance(tokenizer, Tokenizer)
    assert not isinstance("text", Tokenizer)


def test_a_saved_tokenizer_is_loaded_again(tmp_path, tokenizer):
    tokenizers.save(tokenizer, tmp_path)
    assert json.loads((tmp_path / FILE_NAME).read_text(encoding="utf-8")) == {"type": "bytes"}
    loaded = tokenizers.load(tmp_path)
    assert loaded.decode(loaded.encode("né")) == "né"
    assert loaded.to_dict() == tokenizer.to_dict()


def test_a_folder_without_a_tokenizer_says_which_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path.name} has no tokenizer: expected a file {FILE_NAME}"):
        tokenizers.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"type": "words"}', "tokenizer type must be 'bytes'; got 'words'"),
        ("{}", "tokenizer type must be 'bytes'; got None"),
        ("[1, 2]", "tokenizer type must be 'bytes'; got None"),
        ("not json", "expected JSON; found "),
        ("", "expected JSON; found "),
    ],
)
def test_a_foreign_or_damaged_tokenizer_file_is_refused_by_name(tmp_path, content, expected):
    (tmp_path / FILE_NAME).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError) as caught:
        tokenizers.load(tmp_path)
    assert str(tmp_path / FILE_NAME) in str(caught.value)
    assert expected in str(caught.value)
