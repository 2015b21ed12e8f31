"""Tokens one by one: their pieces are the text of all, and nothing is taken back."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from support.many_tokenizers import gpt_like, llama_like
from support.texts import bpe, snippets, texts

from mamba2_lab.text import ByteTokenizer, TextStream, Tokenizer

# Bytes near every rule of UTF-8: ASCII, continuations, leads of two to four, overlong and surrogate forms, never valid.
TRICKY = [0x41, 0x80, 0x9F, 0xA0, 0xBF, 0xC0, 0xC3, 0xE0, 0xE2, 0x82, 0xAC, 0xED, 0xEF, 0xBD, 0xF0, 0x90, 0xF4, 0xFF]
tokens = st.lists(st.sampled_from([*TRICKY, 256]) | st.integers(0, 256), max_size=40)


def streamed(ids: list[int]) -> list[str]:
    return stream_of(ByteTokenizer(), ids)


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
        assert set(text[len(given_so_far) :]) <= {"\ufffd"}, "more was held back than what is unfinished"


@given(texts)
def test_a_character_is_given_when_its_last_byte_comes_and_not_in_parts(text):
    pieces = [piece for piece in streamed(ByteTokenizer().encode(text)) if piece]
    assert "".join(pieces) == text
    assert all(len(piece) == 1 for piece in pieces if "\ufffd" not in piece)


def test_a_multi_byte_character_streams_in_one_piece():
    assert streamed([0x41, 0xF0, 0x9F, 0x90, 0x8D, 0x42]) == ["A", "", "", "", "🐍", "B", ""]


def stream_of(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    stream = TextStream(tokenizer)
    return [*map(stream.push, ids), stream.rest]


@given(st.lists(st.integers(0, 720), max_size=40))
def test_pieces_of_any_tokens_join_to_their_text_where_tokens_are_bytes(ids):
    assert "".join(stream_of(bpe(), ids)) == bpe().decode(ids)
    ids = [i % 262 for i in ids]  # most of them single bytes, many broken
    assert "".join(stream_of(gpt_like(), ids)) == gpt_like().decode(ids)


@given(snippets, st.lists(st.integers(0, 60), max_size=3))
@example(" a b", [])
@example("a  é日本 a", [])
@example("日本a", [3])
def test_pieces_of_a_text_join_to_it_with_every_tokenizer(text, places):
    for tokenizer in (ByteTokenizer(), bpe(), gpt_like(), llama_like()):
        ids = tokenizer.encode(text)
        for place in places:
            ids.insert(place, tokenizer.end_of_text)
        given_pieces = stream_of(tokenizer, ids)
        assert "".join(given_pieces) == tokenizer.decode(ids)
        if not places:
            assert all("\ufffd" not in piece for piece in given_pieces) or "\ufffd" in text


def test_a_character_of_several_tokens_streams_in_one_piece():
    for tokenizer in (bpe(), gpt_like()):
        given_pieces = [piece for piece in stream_of(tokenizer, tokenizer.encode("a日本🐍a")) if piece]
        assert given_pieces == ["a", "日", "本", "🐍", "a"]
    # Llama's decoder judges a run of single bytes as a whole: a broken one after it would take all of it back.
    given_pieces = [piece for piece in stream_of(llama_like(), llama_like().encode("a日本🐍a")) if piece]
    assert given_pieces == ["a", "日本🐍a"]


def test_a_space_before_a_word_is_kept_inside_a_stream():
    assert stream_of(llama_like(), llama_like().encode("ab ab a")) == ["ab", " ab", " a", ""]


def test_a_stream_looks_back_at_no_more_than_the_last_piece():
    seen = []

    class Watched(ByteTokenizer):
        def decode(self, ids):
            seen.append(len(ids))
            return super().decode(ids)

    stream_of(Watched(), list(("é" * 100).encode()))
    assert max(seen) == 4
