"""Text to ids and back, streamed and whole, and the tokenizers' own files."""

from __future__ import annotations

import argparse
import functools
import inspect
import json
import os
import subprocess
import sys
import textwrap

import huggingface_hub
import pytest
import tokenizers as library
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from mamba2_lab import load_tokenizer
from mamba2_lab import tokenizer as tokenizers
from mamba2_lab.text_stream import TextStream
from mamba2_lab.tokenizer import (
    FILE_NAME,
    BPETokenizer,
    ByteTokenizer,
    HuggingFaceTokenizer,
    Tokenizer,
)

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
        ('{"type": "words"}', "tokenizer type must be 'bytes', 'bpe' or 'hugging_face'; got 'words'"),
        ("{}", "tokenizer type must be 'bytes', 'bpe' or 'hugging_face'; got None"),
        ("[1, 2]", "expected a JSON object; found list"),
        ('{"type": "bpe"}', "expected a tokenizer of type 'bpe'; found KeyError('tokenizer')"),
        ('{"type": "bpe", "tokenizer": {}, "end_of_text": "<|e|>"}', "expected a tokenizer of type 'bpe'; found "),
        ('{"type": "hugging_face", "tokenizer": 3}', "expected a tokenizer of type 'hugging_face'; found "),
        ("not json", "expected JSON; found "),
        ("", "expected JSON; found "),
    ],
    ids=lambda value: value[:30],
)
def test_a_foreign_or_damaged_tokenizer_file_is_refused_by_name(tmp_path, content, expected):
    (tmp_path / FILE_NAME).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError) as caught:
        tokenizers.load(tmp_path)
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
    tokenizers.save(bpe(), tmp_path)
    code = """
        import argparse, inspect, json, sys, textwrap
        from mamba2_lab.tokenizer import BPETokenizer, load
        names = "<|end_of_text|> " * 500, "naïve café 2024\\n" * 50
        here = BPETokenizer.train([inspect.getsource(argparse), inspect.getsource(textwrap), *names], 700)
        assert here.to_dict() == load(sys.argv[1]).to_dict()
        assert "transformers" not in sys.modules
    """
    environment = {**os.environ, "PYTHONHASHSEED": "1", "TOKENIZERS_PARALLELISM": "false"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], env=environment, check=True)


def test_pairs_are_saved_in_one_file_and_loaded_again(tmp_path):
    tokenizers.save(bpe(), tmp_path)
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


def byte_level() -> library.Tokenizer:
    """As of GPT-2 and GPT-NeoX: it has learned a few merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {c: i for i, c in enumerate([*alphabet, "ab", "Ġab"])}
    made = library.Tokenizer(models.BPE(vocabulary, [("a", "b"), ("Ġ", "ab")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|endoftext|>", "<|padding|>"])
    made.add_tokens(["    "])  # a run of spaces, as GPT-NeoX has them
    return made


def sentencepiece_like() -> library.Tokenizer:
    """As of Llama: a space goes before every text and is dropped after it; unknown characters fall back to bytes."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *"▁ab", "▁a", "ab", "▁ab"]
    merges = [("▁", "a"), ("a", "b"), ("▁a", "b")]
    made = library.Tokenizer(
        models.BPE({c: i for i, c in enumerate(tokens)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(steps)
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    return made


@functools.cache
def gpt_like() -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(byte_level(), "<|endoftext|>")


@functools.cache
def llama_like() -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(sentencepiece_like(), "</s>")


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


def test_a_vocabulary_that_holds_the_end_of_text_as_a_word_cannot_slip_it_in():
    words = library.Tokenizer(models.WordLevel({"[UNK]": 0, "[END]": 1, "a": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = HuggingFaceTokenizer(words, "[END]")
    assert tokenizer.encode("a a") == [2, 2]
    with pytest.raises(ValueError, match=r"text must not come out as this tokenizer's end of text, '\[END\]'; it did"):
        tokenizer.encode("a [END] a")


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
    tokenizers.save(llama_like(), tmp_path)
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
