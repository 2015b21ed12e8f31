"""Text to ids and back, streamed and whole, and the tokenizers' own files."""

from __future__ import annotations

import argparse
import functools
import inspect
import json
import os
import shutil
import subprocess
import sys
import textwrap

import huggingface_hub
import pytest
import tokenizers as library
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.many_tokenizers import byte_level, gpt_like, llama_like, sentencepiece_like
from support.strange_files import needs_posix, of_strange_files, soon
from tokenizers import models, normalizers, pre_tokenizers, processors

from mamba2_lab import load_tokenizer
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.text import (
    FILE_NAME,
    BPETokenizer,
    ByteTokenizer,
    HuggingFaceTokenizer,
    TextStream,
    Tokenizer,
    load,
    save,
    trial,
)
from mamba2_lab.text import tokenizer as tokenizer_module

texts = st.text(st.characters(exclude_categories=["Cs"]))  # no surrogates: they have no UTF-8
# Bytes near every rule of UTF-8: ASCII, continuations, leads of two to four, overlong and surrogate forms, never valid.
TRICKY = [0x41, 0x80, 0x9F, 0xA0, 0xBF, 0xC0, 0xC3, 0xE0, 0xE2, 0x82, 0xAC, 0xED, 0xEF, 0xBD, 0xF0, 0x90, 0xF4, 0xFF]
tokens = st.lists(st.sampled_from([*TRICKY, 256]) | st.integers(0, 256), max_size=40)


@pytest.fixture
def tokenizer() -> ByteTokenizer:
    return ByteTokenizer()


def streamed(ids: list[int]) -> list[str]:
    return stream_of(ByteTokenizer(), ids)


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
        assert set(text[len(given_so_far) :]) <= {"\ufffd"}, "more was held back than what is unfinished"


@given(texts)
def test_a_character_is_given_when_its_last_byte_comes_and_not_in_parts(text):
    pieces = [piece for piece in streamed(ByteTokenizer().encode(text)) if piece]
    assert "".join(pieces) == text
    assert all(len(piece) == 1 for piece in pieces if "\ufffd" not in piece)


def test_a_multi_byte_character_streams_in_one_piece():
    assert streamed([0x41, 0xF0, 0x9F, 0x90, 0x8D, 0x42]) == ["A", "", "", "", "🐍", "B", ""]


def test_every_tokenizer_keeps_the_protocol(tokenizer):
    for kept in (tokenizer, bpe(), llama_like()):
        assert isinstance(kept, Tokenizer)
    assert not isinstance("text", Tokenizer)


def test_a_saved_tokenizer_is_loaded_again(tmp_path, tokenizer):
    save(tokenizer, tmp_path)
    assert json.loads((tmp_path / FILE_NAME).read_text(encoding="utf-8")) == {"type": "bytes"}
    loaded = load(tmp_path)
    assert loaded.decode(loaded.encode("né")) == "né"
    assert loaded.to_dict() == tokenizer.to_dict()


def test_a_folder_without_a_tokenizer_says_which_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path.name} has no tokenizer: expected a file {FILE_NAME}"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"type": "words"}', "tokenizer type must be 'bytes', 'bpe' or 'hugging_face'; got 'words'"),
        ("{}", "tokenizer type must be 'bytes', 'bpe' or 'hugging_face'; got None"),
        ("[1, 2]", "expected a JSON object; found list"),
        ('{"type": "bpe"}', "expected a field 'tokenizer'; found none"),
        ('{"type": "bpe", "tokenizer": {}}', "expected a field 'end_of_text'; found none"),
        (
            '{"type": "bpe", "tokenizer": ' + "[" * 900 + "]" * 900 + ', "end_of_text": "a"}',
            "expected a tokenizer of type",
        ),
        ('{"type": ["bpe"]}', "tokenizer type must be 'bytes', 'bpe' or 'hugging_face'; got ['bpe']"),
        ('{"type": "bytes", "type": "bpe"}', "expected JSON; found the key 'type' more than once"),
        ('{"a": [' + "[]," * 2_000_000 + "1]}", "expected at most 2,000,000 lists and objects; found 2,000,002"),
        ('{"type": "bpe", "tokenizer": {}, "end_of_text": "<|e|>"}', "expected a tokenizer of type 'bpe'; found "),
        (
            '{"type": "hugging_face", "tokenizer": 3, "end_of_text": "a"}',
            "expected a tokenizer of type 'hugging_face'; ",
        ),
        ("not json", "expected JSON; found "),
        ("", "expected JSON; found "),
    ],
    ids=lambda value: value[:30],
)
def test_a_foreign_or_damaged_tokenizer_file_is_refused_by_name(tmp_path, content, expected):
    (tmp_path / FILE_NAME).write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path)
    assert str(tmp_path / FILE_NAME) in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize("make", [ByteTokenizer, lambda: bpe(), lambda: llama_like()], ids=["bytes", "bpe", "llama"])
def test_a_batch_is_encoded_like_each_text_alone(make):
    batch = ["", "def f(x):\n    return x", "né 🐍\n", "  "]
    assert make().encode_batch(batch) == [make().encode(text) for text in batch]
    assert make().encode_batch([]) == []
    with pytest.raises(TypeError, match="text must be a str; got int"):
        make().encode_batch(["a", 3])
    with pytest.raises(UnicodeEncodeError, match="position 1: surrogates not allowed"):
        make().encode("a\ud800")


# Byte-pair encoding, trained here

SOURCE = [inspect.getsource(argparse), inspect.getsource(textwrap), "<|end_of_text|> " * 500, "naïve café 2024\n" * 50]


@functools.cache
def bpe() -> BPETokenizer:
    return BPETokenizer.train(SOURCE, 700)


parts = "<|end_of_text|>", "def ", "\n", "    ", "\t", " ", "é", "🐍", "\r\n", "12", "self._x", "\0", "\ufffd", "日本"
snippets = st.lists(st.sampled_from(parts) | texts, max_size=12).map("".join)


@given(snippets)
@example("<|end_of_text|>")
def test_every_text_comes_back_whole_from_pairs(text):
    ids = bpe().encode(text)
    assert bpe().decode(ids) == text
    assert all(0 <= i < bpe().vocab_size and i != bpe().end_of_text for i in ids)


def test_the_name_of_the_end_of_text_is_text_and_its_id_is_none():
    ids = bpe().encode("a<|end_of_text|>b")
    assert bpe().end_of_text not in ids
    assert bpe().decode(ids) == "a<|end_of_text|>b"
    assert bpe().decode([bpe().end_of_text, *ids, bpe().end_of_text]) == "a<|end_of_text|>b"


def test_the_vocabulary_is_of_the_size_asked_for_or_what_the_texts_give():
    assert bpe().vocab_size == 700
    assert BPETokenizer.train([], 257).vocab_size == BPETokenizer.train(["aa"], 257).vocab_size == 257
    assert BPETokenizer.train(["ab ab"], 300).vocab_size == 257 + 2  # "ab" and " ab"


@pytest.mark.parametrize("size", [256, 0, -1])
def test_a_vocabulary_without_room_for_the_bytes_is_refused(size):
    expected = f"vocab_size must be at least 257, the bytes and the end of text; got {size}"
    with pytest.raises(ValueError, match=expected):
        BPETokenizer.train(SOURCE, size)


@pytest.mark.parametrize("name", ["", "end", ".end", " ", "7", "\n  ", "==", "Ġ==", "é|é"])
def test_an_end_of_text_that_text_could_come_out_as_is_refused(name):
    with pytest.raises(ValueError) as caught:
        BPETokenizer.train([name * 2, " ==" * 9], 300, name)
    assert str(caught.value) == f"end_of_text must be ASCII and no single word, such as '<|end|>'; got {name!r}"


def test_another_end_of_text_may_be_named():
    other = BPETokenizer.train(["<eot> <eot>"] * 9, 400, "<eot>")
    assert other.end_of_text not in other.encode("<eot>")
    assert other.decode([other.end_of_text]) == ""


def pieces(text: str) -> list[str]:
    """Tokens of a tokenizer that has learned every piece of this text by heart."""
    learned = BPETokenizer.train([text] * 9, 2000)
    return [learned.decode([i]) for i in learned.encode(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f(x):\n        return x", ["def", " f", "(x", "):", "\n        ", "return", " x"]),
        ("a\n\n\tb", ["a", "\n\n\t", "b"]),
        ("x = 1024", ["x", " =", " ", "1", "0", "2", "4"]),
        ("self._held.append", ["self", "._", "held", ".append"]),
        ("a      # note", ["a", "      ", "#", " note"]),
        ("été हिन्दी", ["été", " हिन्दी"]),
        ("a\r\n  b", ["a", "\r", "\n  ", "b"]),
    ],
)
def test_pieces_are_indented_line_ends_words_digits_and_signs(text, expected):
    assert pieces(text) == expected


def test_a_prompt_that_ends_with_a_colon_or_an_indentation_is_cut_where_training_text_was():
    whole = bpe().encode("def f(self):\n        return self")
    for prompt in ("def f(self):", "def f(self):\n        "):
        ids = bpe().encode(prompt)
        assert whole[: len(ids)] == ids


def test_python_takes_a_few_bytes_to_a_token():
    text = inspect.getsource(textwrap)
    assert len(bpe().encode(text)) < 0.45 * len(text)


def test_training_does_not_depend_on_order_process_or_number_of_threads(tmp_path):
    assert BPETokenizer.train(SOURCE[::-1], 700).to_dict() == bpe().to_dict()
    save(bpe(), tmp_path)
    code = """
        import argparse, inspect, json, sys, textwrap
        from mamba2_lab.text import BPETokenizer, load
        names = "<|end_of_text|> " * 500, "naïve café 2024\\n" * 50
        here = BPETokenizer.train([inspect.getsource(argparse), inspect.getsource(textwrap), *names], 700)
        assert here.to_dict() == load(sys.argv[1]).to_dict()
        assert "transformers" not in sys.modules
    """
    environment = {**os.environ, "PYTHONHASHSEED": "1", "TOKENIZERS_PARALLELISM": "false"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], env=environment, check=True)


def test_pairs_are_saved_in_one_file_and_loaded_again(tmp_path):
    save(bpe(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    loaded = load_tokenizer(tmp_path)
    assert type(loaded) is BPETokenizer
    assert loaded.to_dict() == bpe().to_dict()
    assert (loaded.vocab_size, loaded.end_of_text) == (700, bpe().end_of_text)
    text = SOURCE[1] + "<|end_of_text|>"
    assert loaded.encode(text) == bpe().encode(text)
    assert loaded.decode(loaded.encode(text)) == text


def test_negative_ids_are_refused_and_padding_of_a_models_vocabulary_has_no_text():
    with pytest.raises(ValueError, match="ids must be 0 or more; got -3"):
        bpe().decode([5, -3])
    a = bpe().encode("a")
    assert bpe().decode([*a, 700, 2**40, *a]) == "aa"


# Tokenizers of published models


@given(snippets)
@example("<|endoftext|>    <|padding|></s><s><0x41>")
def test_text_comes_back_from_tokenizers_of_published_models(text):
    for tokenizer in (gpt_like(), llama_like()):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == (text if tokenizer is gpt_like() else text.replace("▁", " "))
        assert tokenizer.end_of_text not in ids


def test_no_special_token_is_added_written_or_shown():
    made = byte_level()
    start, end = made.token_to_id("<|padding|>"), made.token_to_id("<|endoftext|>")
    specials = [("<|padding|>", start), ("<|endoftext|>", end)]
    made.post_processor = processors.TemplateProcessing("<|padding|> $A <|endoftext|>", None, specials)
    tokenizer = HuggingFaceTokenizer(made, "<|endoftext|>")
    assert made.encode("ab").ids == [start, 256, end], "the tokenizer itself adds both"
    assert tokenizer.encode("ab") == [256]
    assert tokenizer.decode([start, 256, end, 257]) == "ab ab"
    assert {start, end}.isdisjoint(tokenizer.encode("<|padding|><|endoftext|>"))
    assert (tokenizer.end_of_text, tokenizer.vocab_size) == (end, 261)
    assert tokenizer.encode("    ") == [260], "a token that is not special is text"


def test_a_tokenizer_that_cuts_and_pads_does_neither_here_and_is_left_as_it_was():
    made = byte_level()
    made.enable_truncation(3)
    made.enable_padding(length=5)
    tokenizer = HuggingFaceTokenizer(made, "<|endoftext|>")
    assert len(tokenizer.encode("x" * 50)) == 50
    assert len(tokenizer.encode("x")) == 1
    assert len(made.encode("x" * 50).ids) == 5
    assert made.encode("<|endoftext|>").ids[0] == made.token_to_id("<|endoftext|>")


# Special tokens that the model itself knows


def whole_words() -> library.Tokenizer:
    vocabulary = {"[UNK]": 0, "[MASK]": 1, "[END]": 2, "a": 3, "b": 4, "[": 5}
    return library.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))


def pieces_of_words() -> library.Tokenizer:
    vocabulary = {
        "[UNK]": 0,
        "[MASK]": 1,
        "[END]": 2,
        "a": 3,
        "b": 4,
        "##a": 5,
        "##b": 6,
        "##[END]": 7,
        "[": 8,
        "##]": 9,
    }
    return library.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))


def merges_that_lead_there(**options) -> library.Tokenizer:
    tokens = ["<unk>", "[MASK]", "[END]", *"▁ab[]MASKEND<>", "[M", "AS", "ASK", "[MASK", "[E", "ND", "[END", "ab"]
    merges = [("[", "M"), ("A", "S"), ("AS", "K"), ("[M", "ASK"), ("[MASK", "]"), ("[", "E"), ("N", "D"), ("[E", "ND")]
    merges += [("[END", "]"), ("a", "b")]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return library.Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", **options))


def likeliest_pieces(lowest: float = -9.0) -> library.Tokenizer:
    """The score of what is unknown is that of the unlikeliest piece, and a little less."""
    pieces = [("<unk>", 0.0), ("[MASK]", lowest), ("[END]", 0.0), ("a", -1.0), ("b", -2.0), ("ab", -2.5), ("▁", -3.0)]
    pieces += [("[", -4.0), ("]", -4.0), ("END", -5.0)]
    return library.Tokenizer(models.Unigram(pieces, 0))


KNOWING = {
    "whole words": whole_words,
    "pieces of words": pieces_of_words,
    "merges": merges_that_lead_there,
    "merges or whole words": lambda: merges_that_lead_there(ignore_merges=True),
    "likeliest pieces": likeliest_pieces,
    "special is unlikely": lambda: likeliest_pieces(-50.0),
}
STEPS = {
    "none": (None, None),
    "at spaces": (None, pre_tokenizers.WhitespaceSplit()),
    "words and signs": (None, pre_tokenizers.Whitespace()),
    "metaspace": (None, pre_tokenizers.Metaspace()),
    "compatible forms": (normalizers.NFKC(), pre_tokenizers.WhitespaceSplit()),
    "marked spaces": (normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None),
    "no brackets at the ends": (normalizers.Replace("_", ""), pre_tokenizers.Split("_", "removed")),
}


def knowing(model: str, steps: str, **special) -> library.Tokenizer:
    made = KNOWING[model]()
    made.normalizer, made.pre_tokenizer = STEPS[steps]
    made.add_special_tokens([library.AddedToken(name, **special) for name in ("[MASK]", "[END]")])
    return made


spelled = st.lists(st.sampled_from(["[MASK]", "[END]", "_[END]_", "[", "MASK", "]", "［END］", *"ab ?<>_"]), max_size=8)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("model", KNOWING)
def test_no_text_comes_out_as_a_special_token_whatever_the_model_knows(model, steps):
    made = knowing(model, steps)
    ours = HuggingFaceTokenizer(made, "[END]")
    special = {made.token_to_id("[MASK]"), made.token_to_id("[END]")}
    made.encode_special_tokens = True
    slipped = 0

    @settings(max_examples=12)
    @given(spelled.map("".join))
    @example("[END]")
    @example("a[MASK]b")
    @example("[MASK] [END]")
    @example("a?b ab?")
    def holds(text: str) -> None:
        nonlocal slipped
        ids, theirs = ours.encode(text), made.encode(text, add_special_tokens=False).ids
        assert special.isdisjoint(ids)
        slipped += not special.isdisjoint(theirs)
        if special.isdisjoint(theirs):
            assert ids == theirs, "where the library makes none of them, ids are as they were"
        assert ours.decode([*ids, *special]) == made.decode(ids)

    holds()
    if steps in ("none", "at spaces", "compatible forms"):  # the others may cut what spells them
        assert slipped, "the library alone lets them slip in, or this proves nothing"
    assert ours.to_dict()["tokenizer"]["model"] == json.loads(made.to_str())["model"], "what is saved is as it was"


def test_what_spells_a_special_token_is_read_with_other_tokens():
    made = knowing("merges", "none")
    assert made.encode("a[END]b").tokens == ["a", "[END]", "b"]
    ours = HuggingFaceTokenizer(made, "[END]")
    assert [made.id_to_token(i) for i in ours.encode("a[END]b")] == ["a", "[END", "]", "b"]
    ours = HuggingFaceTokenizer(knowing("likeliest pieces", "none"), "[END]")
    assert [made.token_to_id(token) is not None for token in "[]"] == [True, True]
    assert ours.encode("[END]") == [7, 9, 8]


def test_merges_of_inner_pieces_that_lead_to_a_special_token_are_left_out_too():
    vocabulary = {"<unk>": 0, "a": 1, "##b": 2, "ab": 3, "##c": 4, "abc": 5}
    made = library.Tokenizer(
        models.BPE(vocabulary, [("a", "##b"), ("ab", "##c")], unk_token="<unk>", continuing_subword_prefix="##")
    )
    made.add_special_tokens(["ab"])
    assert made.model.tokenize("ab")[0].id == 3
    assert HuggingFaceTokenizer(made, "ab").encode("abc") == [1, 2, 4]


def test_a_special_token_that_is_unknown_too_is_named_where_a_text_comes_out_as_it():
    words = library.Tokenizer(models.WordLevel({"[END]": 1, "a": 2}, unk_token="[END]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = HuggingFaceTokenizer(words, "[END]")
    assert tokenizer.encode("a a") == [2, 2]
    with pytest.raises(ValueError, match=r"text must not come out as this tokenizer's end of text, '\[END\]'; it did"):
        tokenizer.encode("a unknown a")


def test_other_special_tokens_and_added_words_keep_their_ids():
    made = byte_level()
    made.add_special_tokens(["ab"])  # id 256, which merges lead to
    made.add_tokens(["new"])
    tokenizer = HuggingFaceTokenizer(made, "<|endoftext|>")
    assert tokenizer.encode("new    ab") == [made.token_to_id("new"), 260, made.token_to_id("a"), made.token_to_id("b")]
    assert tokenizer.vocab_size == made.get_vocab_size() == 262


# Tokenizers from strangers


def described(**changes) -> dict:
    """What the library writes of whole words, and something else in it."""
    made = whole_words()
    made.add_special_tokens(["[END]"])
    return {**json.loads(made.to_str()), **changes}


def split_at(expression: str) -> dict:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


def in_place_of(pattern: dict, content: str) -> dict:
    return {"type": "Replace", "pattern": pattern, "content": content}


def added(content: str) -> list[dict]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "special"), False)
    return [*described()["added_tokens"], {"id": 9, "content": content, "normalized": True, **flags}]


TENFOLD = {"type": "Sequence", "normalizers": [in_place_of({"String": "a"}, "a" * 10)] * 12}
TOO_MUCH = "found one that takes more than 1 s or 4 GiB to be tried"
EXPLODING = {
    "an expression that tries all ways": (described(pre_tokenizer=split_at("(a+)+$")), "found Onig: "),
    "of two letters": (described(pre_tokenizer=split_at("((ab)+)+$")), "found Onig: "),
    "of a letter that is rare": (described(pre_tokenizer=split_at("(q*)*\\1[^\\s\\S]")), "found "),
    "before anything is read": (
        described(normalizer=in_place_of({"Regex": "(a+)+$"}, ""), added_tokens=added("a" * 40 + "b")),
        "found Onig: ",
    ),
    "one that never ends": (
        described(normalizer=in_place_of({"Regex": "\\s+$"}, ""), added_tokens=added(" " * 100_000 + "b")),
        TOO_MUCH,
    ),
    "replacements that grow": (described(normalizer=TENFOLD), TOO_MUCH),
    "and grow before anything is read": (described(normalizer=TENFOLD, added_tokens=added("a")), TOO_MUCH),
    "and grow where text is made": (
        described(decoder={"type": "Sequence", "decoders": [in_place_of({"String": "a"}, "a" * 10)] * 12}),
        TOO_MUCH,
    ),
    "no expression": (described(pre_tokenizer=split_at("(")), "found Oniguruma error: "),
    "a panic at once": (
        described(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        "found Precompiled",
    ),
    "a panic at the first text": (
        described(pre_tokenizer={"type": "FixedLength", "length": 0}),
        "found chunk size must",
    ),
    "a step that nobody knows": (described(pre_tokenizer={"type": "Magic"}), "found data did not match any variant"),
}


@pytest.mark.parametrize(("description", "message"), EXPLODING.values(), ids=EXPLODING.keys())
def test_a_tokenizer_that_explodes_or_panics_is_refused_and_this_process_goes_on(
    tmp_path, monkeypatch, description, message
):
    monkeypatch.setattr(trial, "SECONDS", 1)
    (tmp_path / "tokenizer.json").write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        load_tokenizer(tmp_path)
    expected = f"{tmp_path / 'tokenizer.json'}: expected what the tokenizers library writes; {message}"
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize("kind", ["bpe", "hugging_face"])
def test_so_it_is_in_a_file_of_ours(tmp_path, kind):
    fields = {"type": kind, "end_of_text": "[END]", "tokenizer": described(pre_tokenizer=split_at("(a+)+$"))}
    (tmp_path / FILE_NAME).write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        load_tokenizer(tmp_path)
    expected = f"{tmp_path / FILE_NAME}: expected a tokenizer of type {kind!r}; found Onig: "
    assert str(caught.value).startswith(expected)


def test_an_expression_that_gives_up_on_a_text_is_an_error_of_that_text():
    """One that no trial finds: it needs letters in an order that nobody thinks of."""
    made = byte_level()
    made.pre_tokenizer = pre_tokenizers.Split(library.Regex("((xyz)+)+$"), "isolated")
    tokenizer = HuggingFaceTokenizer(made, "<|endoftext|>")
    assert tokenizer.encode("ab") == [256]
    with pytest.raises(ValueError, match="text must be one that this tokenizer can read; it gave up: Onig"):
        tokenizer.encode("xyz" * 40 + "!")
    assert tokenizer.encode("ab") == [256]


def test_a_text_without_tokens_is_an_error_of_that_text(tmp_path):
    """Not of the tokenizer: one without an unknown token is loaded, and says so when such a text comes."""
    words = library.Tokenizer(models.WordPiece({"a": 0, "[END]": 1}, unk_token="[UNK]"))
    words.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "[END]"}', encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode("a") == [0]
    with pytest.raises(ValueError, match=r"can read; it gave up: .*Missing \[UNK\] token"):
        tokenizer.encode("b")


def test_ids_are_bounded():
    words = library.Tokenizer(models.WordLevel({"[END]": 2**24 - 1, "a": 1}, unk_token="a"))
    assert HuggingFaceTokenizer(words, "[END]").vocab_size == 2**24
    words = library.Tokenizer(models.WordLevel({"[END]": 1, "a": 2**31}, unk_token="a"))
    with pytest.raises(ValueError, match="ids of the tokenizer must be at most 16777215; got 2147483648"):
        HuggingFaceTokenizer(words, "[END]")


def test_what_is_cut_as_here_needs_no_trial_and_all_else_is_tried(tmp_path, monkeypatch):
    tried = []

    def note(description: str) -> None:
        tried.append(json.loads(description))
        raise ValueError("nothing more: it might explode")

    monkeypatch.setattr(tokenizer_module, "try_out", note)
    save(bpe(), tmp_path)
    assert load_tokenizer(tmp_path).to_dict() == bpe().to_dict()
    load_tokenizer("medium")
    assert tried == []
    own = bpe().to_dict()
    for change in (
        {"normalizer": in_place_of({"Regex": "(a+)+$"}, "")},
        {"pre_tokenizer": split_at("(a+)+$")},
        {"decoder": None},
        {"added_tokens": own["tokenizer"]["added_tokens"] * 2},
        {"model": {**own["tokenizer"]["model"], "continuing_subword_prefix": "a"}},
        {"model": None},
    ):
        described = {**own["tokenizer"], **change}
        (tmp_path / FILE_NAME).write_text(json.dumps({**own, "tokenizer": described}), encoding="utf-8")
        with pytest.raises(CheckpointError, match="nothing more"):
            load_tokenizer(tmp_path)
        assert tried.pop() == described


def test_a_trial_that_cannot_be_made_says_so_and_blames_no_file(tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text("import no_such_library", encoding="utf-8")
    monkeypatch.setattr(trial, "__file__", str(script))
    with pytest.raises(RuntimeError, match=r"a tokenizer could not be tried: (?s:.*)no_such_library"):
        trial.try_out("{}")


def test_a_trial_finds_the_library_where_this_process_does_and_nothing_beside_it(tmp_path, monkeypatch):
    """Modules of this package are named like some of Python's own: `inspect`."""
    script = shutil.copy(trial.__file__, tmp_path / "script.py")
    (tmp_path / "tokenizers.py").write_text("raise SystemExit(9)", encoding="utf-8")
    monkeypatch.setattr(trial, "__file__", str(script))
    monkeypatch.chdir(tmp_path)
    trial.try_out(json.dumps(described()))


@needs_posix
@of_strange_files
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_what_is_no_file_of_the_folder_is_not_read_as_a_tokenizer(tmp_path, name, put, said):
    folder = tmp_path / "model"
    folder.mkdir()
    folder_with(folder, tokenizer_config={"eos_token": "<|endoftext|>"})
    put(folder / name)
    with soon(), pytest.raises(CheckpointError) as caught:
        load_tokenizer(folder)
    assert str(caught.value).startswith(f"{folder / name}: {said}")


@needs_posix
@of_strange_files
def test_nor_is_it_as_a_tokenizer_of_ours(tmp_path, put, said):
    save(ByteTokenizer(), tmp_path / "model")
    put(tmp_path / "model" / FILE_NAME)
    with soon(), pytest.raises(CheckpointError) as caught:
        load_tokenizer(tmp_path / "model")
    assert str(caught.value).startswith(f"{tmp_path / 'model' / FILE_NAME}: {said}")


@pytest.mark.parametrize("token", [3, True, ["<|endoftext|>"], {"content": 3}], ids=repr)
def test_an_end_of_text_that_is_no_text_is_refused(tmp_path, token):
    with pytest.raises(CheckpointError, match=r"tokenizer_config.json: eos_token: expected a text; found"):
        load_tokenizer(folder_with(tmp_path, tokenizer_config={"eos_token": token}))


@pytest.mark.parametrize("number", [[[258]], {"a": 1}, [None], True, "258", 258.0, 10**30], ids=repr)
def test_an_end_of_text_that_is_no_number_is_none(tmp_path, number):
    with pytest.raises(CheckpointError, match="expected an end of text"):
        load_tokenizer(folder_with(tmp_path, config={"eos_token_id": number}))


def test_an_end_of_text_that_is_no_token_is_refused_with_the_file(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"tokenizer.json: end_of_text must be a token of the tokenizer; got '<e>'"
    ):
        load_tokenizer(folder_with(tmp_path, tokenizer_config={"eos_token": "<e>"}))


def test_ids_may_have_gaps():
    words = library.Tokenizer(models.WordLevel({"[UNK]": 0, "[END]": 9, "a": 5}, unk_token="[UNK]"))
    assert HuggingFaceTokenizer(words, "[END]").vocab_size == 10


def test_a_tokenizer_without_an_end_of_text_is_refused():
    with pytest.raises(ValueError, match="must have an eos_token, or end_of_text must name a token; got neither"):
        HuggingFaceTokenizer(byte_level())
    with pytest.raises(ValueError, match="end_of_text must be a token of the tokenizer; got '<eos>'"):
        HuggingFaceTokenizer(byte_level(), "<eos>")


@pytest.mark.parametrize("wrong", [ByteTokenizer(), "gpt2", None])
def test_what_is_no_tokenizer_is_refused(wrong):
    expected = "tokenizer must be a tokenizers.Tokenizer or a transformers tokenizer with a backend_tokenizer; got "
    with pytest.raises(TypeError, match=expected + type(wrong).__name__):
        HuggingFaceTokenizer(wrong)


def test_a_tokenizer_of_transformers_is_wrapped_and_found_in_a_models_folder(tmp_path):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=sentencepiece_like(), eos_token="</s>")
    theirs.save_pretrained(tmp_path)
    for ours in (HuggingFaceTokenizer(theirs), load_tokenizer(tmp_path)):
        assert type(ours) is HuggingFaceTokenizer
        assert ours.end_of_text == theirs.eos_token_id == 2
        ids = theirs.encode("ab é a  b", add_special_tokens=False)
        assert ours.encode("ab é a  b") == ids
        assert ours.decode(ids) == theirs.decode(ids) == "ab é a  b"
    assert theirs.encode("</s>", add_special_tokens=False)[-1] == 2, "the wrapped one is as it was"
    with pytest.raises(ValueError, match="must have an eos_token"):
        HuggingFaceTokenizer(transformers.PreTrainedTokenizerFast(tokenizer_object=sentencepiece_like()))


def folder_with(tmp_path, **files: object):
    byte_level().save(str(tmp_path / "tokenizer.json"))
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {"eos_token": "<|padding|>"}},
        {"tokenizer_config": {"eos_token": {"content": "<|padding|>", "special": True}}},
        {"tokenizer_config": {"eos_token": None}, "special_tokens_map": {"eos_token": "<|padding|>"}},
        {"special_tokens_map": {"eos_token": "<|padding|>"}, "config": {"eos_token_id": 258}},
        {"tokenizer_config": {"eos_token": "<|padding|>"}, "special_tokens_map": {"eos_token": "<|endoftext|>"}},
        {"generation_config": {"eos_token_id": 259}, "config": {"eos_token_id": 258}},
        {"generation_config": {"eos_token_id": [259, 258]}},
        {"config": {"eos_token_id": 259}},
        {"generation_config": {"eos_token_id": 2}, "config": {"eos_token_id": 259}},
    ],
    ids=str,
)
def test_the_files_beside_it_say_which_token_ends_a_text(tmp_path, files):
    assert load_tokenizer(folder_with(tmp_path, **files)).end_of_text == 259


@pytest.mark.parametrize("files", [{}, {"config": {"eos_token_id": 2}}, {"config": {"eos_token_id": []}}], ids=str)
def test_no_end_of_text_is_guessed(tmp_path, files):
    """2 is what transformers writes for a Mamba-2 whose maker named none: here an exclamation mark or the like."""
    with pytest.raises(ValueError, match=r"expected an end of text \(eos_token in tokenizer_config.json\); found none"):
        load_tokenizer(folder_with(tmp_path, **files))


def test_damaged_files_of_a_published_model_are_named(tmp_path):
    folder_with(tmp_path, tokenizer_config=[1])
    with pytest.raises(ValueError, match=r"tokenizer_config.json: expected a JSON object; found list"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"tokenizer.json: expected what the tokenizers library writes; found "):
        load_tokenizer(tmp_path)


def test_it_travels_with_our_model_and_ours_comes_first(tmp_path):
    folder_with(tmp_path, tokenizer_config={"eos_token": "<|endoftext|>"})
    save(llama_like(), tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert type(loaded) is HuggingFaceTokenizer
    assert loaded.to_dict() == llama_like().to_dict()
    assert loaded.encode("ab é") == llama_like().encode("ab é")
    assert loaded.decode(loaded.encode("ab é</s>")) == "ab é</s>"


def test_a_hub_id_is_fetched_without_the_weights(tmp_path, monkeypatch):
    asked = {}

    def fetch(hub_id, allow_patterns):
        asked[hub_id] = allow_patterns
        return str(folder_with(tmp_path, tokenizer_config={"eos_token": "<|endoftext|>"}))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert HuggingFaceTokenizer.from_pretrained("owner/name").end_of_text == 258
    assert "tokenizer.json" in asked["owner/name"]
    assert all(pattern.endswith(".json") and "*" not in pattern for pattern in asked["owner/name"])


def test_a_hub_that_does_not_answer_and_a_folder_without_a_tokenizer_say_so(tmp_path, monkeypatch):
    def fetch(*_, **__):
        raise OSError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    with pytest.raises(FileNotFoundError) as caught:
        HuggingFaceTokenizer.from_pretrained("owner/name")
    assert str(caught.value) == "no tokenizer at 'owner/name': no such folder, and the Hub answered: offline"
    with pytest.raises(FileNotFoundError, match="has no tokenizer: expected a file tokenizer.json"):
        HuggingFaceTokenizer.from_pretrained(tmp_path)


# Streams of all of them


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
