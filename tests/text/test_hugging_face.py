"""Tokenizers of published models, and the files that they come in."""

from __future__ import annotations

import pytest
import tokenizers as library
from hypothesis import example, given
from support.many_tokenizers import byte_level, gpt_like, llama_like, sentencepiece_like
from support.strange_files import needs_posix, of_strange_files, soon
from support.strange_tokenizers import folder_with
from support.texts import snippets
from tokenizers import models, processors

from mamba2_lab import load_tokenizer
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.text import ByteTokenizer, HuggingFaceTokenizer


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


def test_a_text_without_tokens_is_an_error_of_that_text(tmp_path):
    """Not of the tokenizer: one without an unknown token is loaded, and says so when such a text comes."""
    words = library.Tokenizer(models.WordPiece({"a": 0, "[END]": 1}, unk_token="[UNK]"))
    words.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "[END]"}', encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode("a") == [0]
    with pytest.raises(ValueError, match=r"can read; it gave up: .*Missing \[UNK\] token"):
        tokenizer.encode("b")


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


def test_a_hub_id_is_fetched_without_the_weights(hub, tmp_path):
    folder_with(tmp_path, tokenizer_config={"eos_token": "<|endoftext|>"})
    (tmp_path / "model.safetensors").touch()
    hub.put("owner/name", tmp_path)
    assert HuggingFaceTokenizer.from_pretrained("owner/name").end_of_text == 258
    assert sorted(hub.asked()) == ["tokenizer.json", "tokenizer_config.json"]


def test_a_hub_that_does_not_answer_and_a_folder_without_a_tokenizer_say_so(hub, tmp_path):
    with hub.offline(), pytest.raises(FileNotFoundError) as caught:
        HuggingFaceTokenizer.from_pretrained("owner/name")
    assert str(caught.value).startswith("no tokenizer at 'owner/name': no such folder, not in the cache at ")
    with pytest.raises(FileNotFoundError, match="has no tokenizer: expected a file tokenizer.json"):
        HuggingFaceTokenizer.from_pretrained(tmp_path)
