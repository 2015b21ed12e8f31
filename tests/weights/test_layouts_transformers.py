"""The layout of transformers, and its models themselves, there and back, bit for bit."""

from __future__ import annotations

import pytest
import torch
from support.saved_models import (
    COMMON_VARIANTS,
    WEIGHTS,
    assert_refused,
    assert_same_bits,
    assert_same_but_for_padding,
    change_config,
)
from support.small_models import random_ids, small_model

from mamba2_lab import Mamba2LM
from mamba2_lab.machine.untrusted import CheckpointError


def hf_model(dtype: torch.dtype = torch.float32, **changes):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    fields = {
        "hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 40, "state_size": 8, "head_dim": 8, "num_heads": 4,
        "n_groups": 2, "chunk_size": 4, "layer_norm_epsilon": 1e-5,
    }  # fmt: skip
    model = transformers.Mamba2ForCausalLM(transformers.Mamba2Config(**{**fields, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    return model.to(dtype).eval()


def assert_same_as_theirs(ours: Mamba2LM, theirs) -> None:
    """Bit for bit, by the one difference in names; and none left over on either side."""
    expected = {
        name.removeprefix("backbone.").replace("embeddings.", "embedding."): tensor
        for name, tensor in theirs.state_dict().items()
    }
    found = ours.state_dict()
    assert found.keys() == expected.keys()
    for name in expected:
        assert_same_bits(found[name], expected[name], name)


HF_VARIANTS = [
    {},
    {"tie_word_embeddings": True},
    {"use_bias": True, "use_conv_bias": False},
    {"n_groups": 1, "time_step_limit": (0.01, 0.2)},
    {"layer_norm_epsilon": 1e-6, "conv_kernel": 3},
]


@pytest.mark.parametrize("sharded", [False, True], ids=["one file", "sharded"])
@pytest.mark.parametrize("changes", HF_VARIANTS, ids=str)
def test_a_folder_written_by_transformers_is_read_bit_for_bit(tmp_path, changes, sharded):
    theirs = hf_model(**changes)
    theirs.save_pretrained(tmp_path, **({"max_shard_size": "4KB"} if sharded else {}))
    assert (tmp_path / WEIGHTS).exists() != sharded
    ours = Mamba2LM.from_pretrained(tmp_path)
    assert_same_as_theirs(ours, theirs)
    ids = random_ids(2, 9, vocab_size=40)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_folder_of_transformers_in_either_dtype_is_read_bit_for_bit(tmp_path, dtype):
    theirs = hf_model(dtype)
    theirs.save_pretrained(tmp_path)
    assert_same_as_theirs(Mamba2LM.from_pretrained(tmp_path, dtype=dtype), theirs)
    assert_same_as_theirs(Mamba2LM.from_pretrained(tmp_path), theirs.float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("changes", HF_VARIANTS, ids=str)
def test_a_model_of_transformers_is_taken_over_bit_for_bit_and_copied(changes, dtype):
    theirs = hf_model(dtype, **changes)
    ours = Mamba2LM.from_transformers(theirs)
    assert_same_as_theirs(ours, theirs)
    before = theirs.backbone.embeddings.weight.detach().clone()
    with torch.no_grad():
        ours.embedding.weight.zero_()
    assert torch.equal(theirs.backbone.embeddings.weight, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("changes", COMMON_VARIANTS, ids=str)
def test_to_transformers_and_back_is_bit_exact(changes, dtype):
    pytest.importorskip("transformers")
    model = small_model(**changes).to(dtype)
    theirs = model.to_transformers()
    back = Mamba2LM.from_transformers(theirs)
    assert_same_as_theirs(back, theirs)
    assert_same_but_for_padding(back, model)
    assert (theirs.lm_head.weight is theirs.backbone.embeddings.weight) == model.config.tie_embeddings
    with torch.no_grad():
        theirs.backbone.embeddings.weight.zero_()
    assert_same_but_for_padding(back, model)


def test_a_converted_model_can_be_saved_by_transformers_and_read_again(tmp_path):
    pytest.importorskip("transformers")
    model = small_model(tie_embeddings=False)
    model.to_transformers().save_pretrained(tmp_path)
    assert_same_but_for_padding(Mamba2LM.from_pretrained(tmp_path), model)


def test_a_converted_model_has_no_token_that_ends_a_text():
    """transformers' own default is id 2, which is any token here: its generate would stop there."""
    pytest.importorskip("transformers")
    theirs = small_model().to_transformers()
    for config in (theirs.config, theirs.generation_config):
        assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (None, None, None)


@pytest.mark.parametrize("variant", ["norm_before_gate", "learnable_init_states"])
def test_what_transformers_does_not_have_is_refused(variant):
    pytest.importorskip("transformers")
    with pytest.raises(ValueError) as caught:
        small_model(**{variant: True}).to_transformers()
    assert str(caught.value) == f"transformers' Mamba2 has no {variant}; it must be False to convert, got True"


def test_what_we_do_not_have_is_refused(tmp_path):
    theirs = hf_model(hidden_act="gelu")
    with pytest.raises(CheckpointError, match="hidden_act must be 'silu'; found 'gelu'"):
        Mamba2LM.from_transformers(theirs)
    theirs.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"config\.json: hidden_act must be 'silu'; found 'gelu'"):
        Mamba2LM.from_pretrained(tmp_path)


def test_a_transformers_config_without_a_field_is_refused(tmp_path):
    hf_model().save_pretrained(tmp_path)
    change_config(state_size=...)(tmp_path)
    with pytest.raises(CheckpointError, match=r"config\.json: expected a field 'state_size'; found none"):
        Mamba2LM.from_pretrained(tmp_path)


def test_a_damaged_index_or_a_missing_shard_is_refused_by_name(tmp_path):
    hf_model().save_pretrained(tmp_path, max_shard_size="4KB")
    index = tmp_path / f"{WEIGHTS}.index.json"
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.unlink()
    assert_refused(tmp_path, f"{shard}: expected a file; found none: ")
    index.write_text("{}")
    with pytest.raises(CheckpointError) as caught:
        Mamba2LM.from_pretrained(tmp_path)
    assert str(caught.value) == f"{index}: weight_map: expected the file of each tensor; found None"
