"""What opens a text: ours the end of text, those of published models what their files say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.many_tokenizers import byte_level, codestral_like, every_tokenizer, gpt_like, sentencepiece_like
from support.strange_files import needs_posix, soon
from support.texts import bpe, snippets
from tokenizers import processors

from mamba2_lab import load_tokenizer
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.text import ByteTokenizer, HuggingFaceTokenizer, prompt_ids, save

START = ("<s>", 1)
TEMPLATE = processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [START])
BOTH = processors.TemplateProcessing("<s>:0 $A </s>:0", None, [START, ("</s>", 2)])
BEHIND = processors.TemplateProcessing("$A </s>", None, [("</s>", 2)])
TWICE = processors.TemplateProcessing("<s> </s> $A", None, [START, ("</s>", 2)])
BYTES = processors.ByteLevel(trim_offsets=False)
POST_PROCESSORS = {
    "none": (None, ()),
    "bytes": (BYTES, ()),
    "template": (TEMPLATE, (1,)),
    "before and behind": (BOTH, (1,)),
    "behind": (BEHIND, ()),
    "two": (TWICE, (1, 2)),
    "after bytes, as Llama 3": (processors.Sequence([BYTES, TEMPLATE]), (1,)),
}


@pytest.mark.parametrize(("post_processor", "opening"), POST_PROCESSORS.values(), ids=POST_PROCESSORS.keys())
def test_what_opens_a_text_is_what_the_library_puts_there(post_processor, opening):
    made = sentencepiece_like()
    if post_processor is not None:
        made.post_processor = post_processor
    tokenizer = HuggingFaceTokenizer(made, "</s>")
    assert tokenizer.opening == opening
    whole, own = made.encode("ab").ids, made.encode("ab", add_special_tokens=False).ids
    assert whole[: len(opening) + len(own)] == [*opening, *own], "the oracle: the library itself"
    assert prompt_ids(tokenizer, "ab") == [*opening, *tokenizer.encode("ab")]


@given(snippets)
def test_a_text_of_ours_is_opened_by_its_end_as_every_document_of_a_training(text):
    for tokenizer in (ByteTokenizer(), bpe()):
        assert prompt_ids(tokenizer, text) == [tokenizer.end_of_text, *tokenizer.encode(text)]


def test_where_nothing_opens_a_text_an_empty_prompt_is_the_end_of_text():
    assert gpt_like().opening == ()
    assert prompt_ids(gpt_like(), "") == [gpt_like().end_of_text]
    assert prompt_ids(gpt_like(), "a") == gpt_like().encode("a")
    assert prompt_ids(codestral_like(), "") == [1]


@pytest.mark.parametrize(
    ("post_processor", "files", "opening"),
    [
        (None, {"add_bos_token": True, "bos_token": "<s>"}, (1,)),
        (None, {"add_bos_token": True, "bos_token": {"content": "<s>"}}, (1,)),
        (None, {"add_bos_token": False, "bos_token": "<s>"}, ()),
        (None, {"bos_token": "<s>"}, ()),
        (None, {"add_bos_token": True}, ()),
        (None, {"add_bos_token": True, "bos_token": "<no token>"}, ()),
        (None, {"add_bos_token": "yes", "bos_token": "<s>"}, ()),
        (TEMPLATE, {"add_bos_token": True, "bos_token": "</s>"}, (1,)),
        (TEMPLATE, {"add_bos_token": False}, (1,)),
    ],
    ids=str,
)
def test_the_files_say_what_opens_a_text_and_it_travels_with_a_model(tmp_path, post_processor, files, opening):
    """The post-processor comes first, as for transformers; add_bos_token is asked where that puts nothing there."""
    made = sentencepiece_like()
    if post_processor is not None:
        made.post_processor = post_processor
    made.save(str(tmp_path / "tokenizer.json"))
    config = {"eos_token": "</s>", **files}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.opening == opening
    assert tokenizer.encode("ab") == made.encode("ab", add_special_tokens=False).ids
    save(tokenizer, tmp_path / "ours")
    assert load_tokenizer(tmp_path / "ours").opening == opening


def test_transformers_opens_a_text_alike(tmp_path):
    transformers = pytest.importorskip("transformers")
    for post_processor, _ in POST_PROCESSORS.values():
        made = sentencepiece_like()
        if post_processor is not None:
            made.post_processor = post_processor
        made.save(str(tmp_path / "tokenizer.json"))
        config = {"eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
        ids = prompt_ids(load_tokenizer(tmp_path), "ab")
        assert theirs("ab")["input_ids"][: len(ids)] == ids


def test_a_published_one_can_be_opened_as_documents_are_here():
    for made in (byte_level(), sentencepiece_like()):
        made.post_processor = processors.ByteLevel()
        published = HuggingFaceTokenizer(made, made.id_to_token(2 if made.token_to_id("</s>") else 258))
        opened = published.opened_by_end_of_text()
        assert (published.opening, opened.opening) == ((), (published.end_of_text,))
        assert opened.encode(" ab é</s>") == published.encode(" ab é</s>")
        again = HuggingFaceTokenizer.from_dict(json.loads(json.dumps(opened.to_dict())))
        assert again.opening == opened.opening


@needs_posix
@pytest.mark.parametrize(
    ("tokens", "times", "got"),
    [
        ({}, 1, r"\(16777216,\)"),
        ({"<s>": {"id": "<s>", "ids": [9999], "tokens": ["<s>"]}}, 1, r"\(9999,\)"),
        ({"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}, 17, r"\(1, 1, 1,"),
        ({"<s>": {"id": "<s>", "ids": [1] * 30_000, "tokens": ["<s>"] * 30_000}}, 30_000, r"\(1, 1, 1,"),
    ],
    ids=["no token", "an id beyond the vocabulary", "seventeen", "many of many: 900,000,000"],
)
def test_what_opens_a_text_must_be_a_few_tokens(tmp_path, tokens, times, got):
    made = json.loads(sentencepiece_like().to_str())
    single = [{"SpecialToken": {"id": "<s>", "type_id": 0}}] * times + [{"Sequence": {"id": "A", "type_id": 0}}]
    made["post_processor"] = {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": tokens}
    (tmp_path / "tokenizer.json").write_text(json.dumps(made), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "</s>"}', encoding="utf-8")
    expected = rf"tokenizer.json: what opens a text must be at most 16 tokens of the tokenizer; got the ids {got}"
    with soon(), pytest.raises(CheckpointError, match=expected):
        load_tokenizer(tmp_path)


@given(st.data())
def test_every_tokenizer_says_what_opens_a_text(data):
    tokenizer = data.draw(st.sampled_from(list(every_tokenizer().values())))
    assert all(0 <= i < tokenizer.vocab_size for i in tokenizer.opening)
    assert len(prompt_ids(tokenizer, "")) > 0
