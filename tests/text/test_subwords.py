"""Pairs of bytes learned here; and no text that comes out as a special token."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import textwrap

import pytest
import tokenizers as library
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.many_tokenizers import byte_level
from support.strange_tokenizers import whole_words
from support.texts import SOURCE, bpe, snippets
from tokenizers import models, normalizers, pre_tokenizers

from mamba2_lab.text import BPETokenizer, HuggingFaceTokenizer, save


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


def test_negative_ids_are_refused_and_padding_of_a_models_vocabulary_has_no_text():
    with pytest.raises(ValueError, match="ids must be 0 or more; got -3"):
        bpe().decode([5, -3])
    a = bpe().encode("a")
    assert bpe().decode([*a, 700, 2**40, *a]) == "aa"


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


def test_an_expression_that_gives_up_on_a_text_is_an_error_of_that_text():
    """One that no trial finds: it needs letters in an order that nobody thinks of."""
    made = byte_level()
    made.pre_tokenizer = pre_tokenizers.Split(library.Regex("((xyz)+)+$"), "isolated")
    tokenizer = HuggingFaceTokenizer(made, "<|endoftext|>")
    assert tokenizer.encode("ab") == [256]
    with pytest.raises(ValueError, match="text must be one that this tokenizer can read; it gave up: Onig"):
        tokenizer.encode("xyz" * 40 + "!")
    assert tokenizer.encode("ab") == [256]


def test_ids_are_bounded():
    words = library.Tokenizer(models.WordLevel({"[END]": 2**24 - 1, "a": 1}, unk_token="a"))
    assert HuggingFaceTokenizer(words, "[END]").vocab_size == 2**24
    words = library.Tokenizer(models.WordLevel({"[END]": 1, "a": 2**31}, unk_token="a"))
    with pytest.raises(ValueError, match="ids of the tokenizer must be at most 16777215; got 2147483648"):
        HuggingFaceTokenizer(words, "[END]")


def test_ids_may_have_gaps():
    words = library.Tokenizer(models.WordLevel({"[UNK]": 0, "[END]": 9, "a": 5}, unk_token="[UNK]"))
    assert HuggingFaceTokenizer(words, "[END]").vocab_size == 10
