"""The tokenizer in a model's folder: written, read again, and what is none refused by name."""

from __future__ import annotations

import json

import pytest
from support.many_tokenizers import llama_like
from support.strange_files import needs_posix, of_strange_files, soon
from support.strange_tokenizers import described, folder_with, in_place_of, split_at
from support.texts import SOURCE, bpe

from mamba2_lab import load_tokenizer
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.text import FILE_NAME, BPETokenizer, ByteTokenizer, HuggingFaceTokenizer, load, save, saved


@pytest.fixture
def tokenizer() -> ByteTokenizer:
    return ByteTokenizer()


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


@pytest.mark.parametrize("kind", ["bpe", "hugging_face"])
def test_so_it_is_in_a_file_of_ours(tmp_path, kind):
    fields = {"type": kind, "end_of_text": "[END]", "tokenizer": described(pre_tokenizer=split_at("(a+)+$"))}
    (tmp_path / FILE_NAME).write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(CheckpointError) as caught:
        load_tokenizer(tmp_path)
    expected = f"{tmp_path / FILE_NAME}: expected a tokenizer of type {kind!r}; found Onig: "
    assert str(caught.value).startswith(expected)


def test_what_is_cut_as_here_needs_no_trial_and_all_else_is_tried(tmp_path, monkeypatch):
    tried = []

    def note(description: str) -> None:
        tried.append(json.loads(description))
        raise ValueError("nothing more: it might explode")

    monkeypatch.setattr(saved, "try_out", note)
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


@needs_posix
@of_strange_files
def test_nor_is_it_as_a_tokenizer_of_ours(tmp_path, put, said):
    save(ByteTokenizer(), tmp_path / "model")
    put(tmp_path / "model" / FILE_NAME)
    with soon(), pytest.raises(CheckpointError) as caught:
        load_tokenizer(tmp_path / "model")
    assert str(caught.value).startswith(f"{tmp_path / 'model' / FILE_NAME}: {said}")


def test_it_travels_with_our_model_and_ours_comes_first(tmp_path):
    folder_with(tmp_path, tokenizer_config={"eos_token": "<|endoftext|>"})
    save(llama_like(), tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert type(loaded) is HuggingFaceTokenizer
    assert loaded.to_dict() == llama_like().to_dict()
    assert loaded.encode("ab é") == llama_like().encode("ab é")
    assert loaded.decode(loaded.encode("ab é</s>")) == "ab é</s>"
