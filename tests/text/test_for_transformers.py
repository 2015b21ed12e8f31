"""The files that transformers reads: its AutoTokenizer gives our ids and our texts, and nothing of ours runs there."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.many_tokenizers import every_tokenizer, metaspace, sentencepiece_like
from support.small_models import small_model
from support.texts import bpe, snippets
from tokenizers import processors

from mamba2_lab import load_tokenizer
from mamba2_lab.text import ByteTokenizer, HuggingFaceTokenizer, Tokenizer, as_library, save_for_transformers

transformers = pytest.importorskip("transformers")

# Their vocabulary knows special tokens as words or pieces, and transformers cannot be kept from finding them in a text.
FOUND_IN_TEXT = ("metaspace", "metaspace_with_bytes", "wordpiece", "whole_words")
TOKENIZERS: dict[str, Tokenizer] = {**every_tokenizer(), "learned": bpe()}


@functools.cache
def theirs(name: str):
    """What AutoTokenizer makes of our files, in a folder with nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        save_for_transformers(TOKENIZERS[name], folder)
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=snippets)
@example(text="")
@example(text=" ")
@example(text="  a \n\t<|end_of_text|>hello<s> né 日本🐍</s><end>[SEP]  ")
def test_transformers_gives_our_ids_and_reads_them_as_we_do(name, text):
    tokenizer = TOKENIZERS[name]
    if name in FOUND_IN_TEXT:
        text = text.replace("<", "").replace("[", "")
    ids = tokenizer.encode(text)
    assert theirs(name).encode(text, add_special_tokens=False) == ids
    assert theirs(name)(text)["input_ids"] == [*tokenizer.opening, *ids]
    assert theirs(name).decode(ids, skip_special_tokens=True) == tokenizer.decode(ids)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(ids=st.lists(st.integers(0, 2000), max_size=30))
@example(ids=[0xF0, 0x9F, 256, 0x90, 0x8D, 0xFF])
def test_it_reads_any_ids_as_we_do(name, ids):
    tokenizer = TOKENIZERS[name]
    ids = [i % tokenizer.vocab_size for i in ids]
    assert theirs(name).decode(ids, skip_special_tokens=True) == tokenizer.decode(ids)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_it_names_what_begins_ends_and_pads_a_text(name):
    tokenizer, made = TOKENIZERS[name], theirs(name)
    begin = tokenizer.opening[0] if tokenizer.opening else tokenizer.end_of_text
    assert (made.bos_token_id, made.eos_token_id, made.pad_token_id) == (begin, *[tokenizer.end_of_text] * 2)
    assert len(made) == tokenizer.vocab_size
    assert set(made("a")) == {"input_ids", "attention_mask"}, "what a Mamba takes, and generate refuses all else"


def test_a_name_of_a_special_token_that_is_a_piece_too_is_found_in_a_text():
    """The one exception that the docstring names."""
    made, end = theirs("metaspace"), metaspace().end_of_text
    assert end in made.encode("a</s>") and end not in metaspace().encode("a</s>")


@pytest.mark.parametrize("name", TOKENIZERS)
def test_what_was_written_is_read_here_again(name, tmp_path):
    tokenizer = TOKENIZERS[name]
    save_for_transformers(tokenizer, tmp_path)
    again = load_tokenizer(tmp_path)
    assert (again.vocab_size, again.end_of_text, again.opening) == (
        tokenizer.vocab_size,
        tokenizer.end_of_text,
        tokenizer.opening,
    )
    for text in ("", " a\n\n  b", "né 日本🐍 hello <|end_of_text|></s><s>", "\0\ufffd"):
        ids = tokenizer.encode(text)
        assert again.encode(text) == ids
        assert again.decode(ids) == tokenizer.decode(ids)


def test_beside_a_model_it_is_no_tokenizer_of_that_models_type(tmp_path):
    """For a mamba2 transformers chooses GPTNeoXTokenizer, which cuts otherwise and says nothing."""
    small_model(vocab_size=700).to_transformers().save_pretrained(tmp_path)
    save_for_transformers(bpe(), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["model_type"] == "mamba2"
    made = transformers.AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert made("def f(self):\n    return 12")["input_ids"] == [0, *bpe().encode("def f(self):\n    return 12")]
    config = transformers.GenerationConfig.from_pretrained(tmp_path)
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (0, 0, 0)


def test_no_file_asks_for_code(tmp_path):
    save_for_transformers(ByteTokenizer(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert not any("auto_map" in path.read_text(encoding="utf-8") for path in tmp_path.iterdir())


def test_nothing_is_put_behind_a_text(tmp_path):
    """As T5's tokenizer does, for models that do not write on."""
    made = sentencepiece_like()
    made.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 1), ("</s>", 2)])
    save_for_transformers(HuggingFaceTokenizer(made, "</s>"), tmp_path)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert loaded.convert_ids_to_tokens(loaded.encode("ab")) == ["<s>", "▁ab"]
    assert loaded.bos_token == "<s>"


def test_each_byte_has_the_name_that_gpt_2_gave_it():
    made = as_library(ByteTokenizer())
    assert [made.id_to_token(byte) for byte in b"!~ \n\x00\x7f\xa1\xad\xff"] == [*"!~ĠĊĀġ¡Ńÿ"]
    assert made.get_vocab_size() == 257


def test_another_kind_of_tokenizer_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"tokenizer must be one of mamba2_lab.text; got str"):
        save_for_transformers("gpt2", tmp_path)
    assert not list(Path(tmp_path).iterdir())
