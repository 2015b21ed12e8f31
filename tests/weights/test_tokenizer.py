"""The tokenizer follows the model: its own files, or the one of another model that it was published without."""

from __future__ import annotations

import json

import pytest
from support.many_tokenizers import byte_level, sentencepiece_like
from support.published import ONE_OF_EACH, PUBLISHED
from support.small_models import small_model
from support.texts import bpe

from mamba2_lab import load_tokenizer, text
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.text import ByteTokenizer, HuggingFaceTokenizer, prompt_ids
from mamba2_lab.weights.tokenizer import PUBLISHED_WITHOUT

NEOX, LLAMA = "EleutherAI/gpt-neox-20b", "meta-llama/Llama-3.1-8B"


def files_of(made, **config) -> dict[str, bytes]:
    """What lies in the repository of a published tokenizer."""
    return {
        "tokenizer.json": made.to_str().encode(),
        "tokenizer_config.json": json.dumps(config).encode(),
        "model.safetensors": b"not to be asked for",
    }


def put(hub, name: str, **changes) -> None:
    """The published config under its id, of the true sizes."""
    hub.put(name, {"config.json": json.dumps({**PUBLISHED[name].config, **changes}).encode(), "README.md": b"#"})


@pytest.mark.parametrize("name", [name for name in ONE_OF_EACH if PUBLISHED[name].tokenizer is None])
def test_a_model_that_is_published_without_a_tokenizer_gets_its_own(hub, name):
    """GPT-NeoX's is asked for by its id, and for Mamba-3 the one that is gated."""
    of_mamba3 = "mamba3" in name
    hub.put(LLAMA if of_mamba3 else NEOX, files_of(byte_level(), eos_token="<|endoftext|>"))
    put(hub, name)
    assert load_tokenizer(name).encode("ab") == [256]
    assert sorted(hub.asked()) == ["config.json", "tokenizer.json", "tokenizer_config.json"]
    hub.requests.clear()
    with hub.offline():
        assert load_tokenizer(name).encode("ab") == [256], "it is in the cache"
    assert hub.asked() == []


def test_so_does_every_other():
    for model in PUBLISHED.values():
        assert model.tokenizer is not None or model.config["vocab_size"] in PUBLISHED_WITHOUT


def test_those_of_transformers_without_their_files_get_it_too(hub, tmp_path):
    hub.put(NEOX, files_of(byte_level(), eos_token="<|endoftext|>"))
    for name in ("state-spaces/mamba-130m-hf", "AntonV/mamba2-130m-hf"):
        put(hub, name)
        assert load_tokenizer(name).encode("ab") == [256]
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED["state-spaces/mamba2-130m"].config), encoding="utf-8")
    assert load_tokenizer(tmp_path).encode("ab") == [256], "so does a folder"


def test_their_own_files_come_first_and_say_what_opens_a_text(hub, tmp_path):
    for name, end, opening in [
        ("AntonV/mamba2-130m-hf", "<|endoftext|>", ()),
        ("tiiuae/falcon-mamba-7b", "<|endoftext|>", ()),
        ("mistralai/Mamba-Codestral-7B-v0.1", "</s>", ("<s>",)),
    ]:
        PUBLISHED[name].write(tmp_path / name, vocab_size=272)
        tokenizer = load_tokenizer(tmp_path / name)
        assert isinstance(tokenizer, HuggingFaceTokenizer)
        made = text.as_library(tokenizer)
        assert made.id_to_token(tokenizer.end_of_text) == end
        assert tuple(map(made.id_to_token, tokenizer.opening)) == opening
    assert hub.requests == []


def test_a_gated_tokenizer_is_named_and_how_to_do_without_it(hub, tmp_path):
    name = "state-spaces/mamba3-siso-187m"
    put(hub, name)
    hub.put(LLAMA, files_of(byte_level(), eos_token="<|endoftext|>"), gated=True)
    with pytest.raises(FileNotFoundError) as caught:
        load_tokenizer(name)
    without = "tokenizer must be given, as a folder or Hub id, for a model that comes without one"
    assert str(caught.value).startswith(f"{without} (meta-llama/Llama-3.1-8B is gated: ")
    assert str(caught.value).endswith(f"; got {name!r}")
    text.save(bpe(), tmp_path)
    assert load_tokenizer(name, tokenizer=str(tmp_path)).to_dict() == bpe().to_dict()
    hub.put("owner/llama", files_of(byte_level(), eos_token="<|endoftext|>"))
    assert load_tokenizer(name, tokenizer="owner/llama").end_of_text == 258
    assert load_tokenizer(name, tokenizer="bytes").to_dict() == {"type": "bytes"}


def test_a_model_without_a_tokenizer_whose_own_is_unknown_or_out_of_reach_says_so(hub, tmp_path):
    small_model().save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        load_tokenizer(tmp_path)
    assert str(caught.value) == (
        f"tokenizer must be given, as a folder or Hub id, for a model that comes without one ({tmp_path} has no "
        f"tokenizer: expected a file mamba2_lab_tokenizer.json or tokenizer.json); got {str(tmp_path)!r}"
    )
    put(hub, "state-spaces/mamba2-130m")
    with pytest.raises(
        FileNotFoundError, match="comes without one .no tokenizer at 'EleutherAI/gpt-neox-20b': no such"
    ):
        load_tokenizer("state-spaces/mamba2-130m")
    assert set(PUBLISHED_WITHOUT.values()) == {NEOX, LLAMA}


def test_a_tokenizer_of_more_tokens_than_the_model_is_refused(tmp_path):
    small_model(vocab_size=699).save_pretrained(tmp_path, tokenizer=bpe())
    with pytest.raises(CheckpointError) as caught:
        load_tokenizer(tmp_path)
    assert str(caught.value) == f"{tmp_path}: expected a tokenizer of at most 699 tokens; found 700"
    text.save(bpe(), tmp_path / "other")
    with pytest.raises(ValueError, match=r"^tokenizer must be of at most 699 tokens, as the model is; got 700$"):
        load_tokenizer(tmp_path, tokenizer=tmp_path / "other")
    assert load_tokenizer(tmp_path, tokenizer="bytes").vocab_size == 257, "fewer are padding"
    small_model(vocab_size=700).save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).vocab_size == 700


@pytest.mark.parametrize("size", [None, "699", 699.0, True, [699]], ids=repr)
def test_a_config_that_says_no_number_says_nothing_about_the_tokenizer(tmp_path, size):
    text.save(bpe(), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": size}), encoding="utf-8")
    assert load_tokenizer(tmp_path).vocab_size == 700


def test_a_sentencepiece_model_is_refused_with_how_to_make_it_readable(tmp_path):
    (tmp_path / "config.json").write_text('{"vocab_size": 50277}', encoding="utf-8")
    (tmp_path / "tokenizer.model.v3").write_bytes(b"\n\x0e")
    with pytest.raises(FileNotFoundError) as caught:
        load_tokenizer(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} has no tokenizer: expected a file mamba2_lab_tokenizer.json or tokenizer.json; found "
        "tokenizer.model.v3, which transformers reads: AutoTokenizer.from_pretrained(folder).save_pretrained(folder) "
        "makes a tokenizer.json of it"
    )


def test_a_tokenizer_found_by_name_is_ours_or_a_published_one(hub, tmp_path):
    assert isinstance(text.find("bytes"), ByteTokenizer)
    text.save(bpe(), tmp_path)
    hub.put("owner/ours", tmp_path)
    assert text.find(tmp_path).to_dict() == text.find("owner/ours").to_dict() == bpe().to_dict()
    hub.put("owner/theirs", files_of(sentencepiece_like(), eos_token="</s>", add_bos_token=True, bos_token="<s>"))
    assert prompt_ids(text.find("owner/theirs"), "") == [1]
    with pytest.raises(FileNotFoundError, match="no tokenizer at 'owner/none': no such folder, and no such repository"):
        text.find("owner/none")
