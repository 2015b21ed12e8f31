"""Mamba-1 of transformers, `MambaForCausalLM` and `FalconMambaForCausalLM`: the same bits, and the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.families import expected_logits, family_config, family_model
from support.oracle.mamba2 import largest_difference, raises
from support.saved_models import assert_refused, assert_same_bits, assert_same_but_for_padding, change_config
from support.small_models import random_ids

from mamba2_lab import MambaConfig, MambaLM
from mamba2_lab.machine.untrusted import CheckpointError

transformers = pytest.importorskip("transformers")

FIELDS = {"hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 40, "state_size": 4}
VARIANTS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "untied, biases": {"tie_word_embeddings": False, "use_bias": True, "use_conv_bias": False},
    "odd sizes": {"hidden_size": 21, "state_size": 5, "conv_kernel": 3, "expand": 3, "time_step_rank": 4},
    "another epsilon": {"layer_norm_epsilon": 1e-2, "num_hidden_layers": 3},
    "as FalconMamba-7B, whose width wins over expand": {"expand": 16, "intermediate_size": 48},
}
each_kind = pytest.mark.parametrize("kind", ["Mamba", "FalconMamba"])
each_variant = pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())


def hf_model(kind: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{**FIELDS, **changes})
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)
    return model.to(dtype).eval()


@each_kind
@each_variant
@torch.no_grad()
def test_logits_are_theirs_and_those_of_the_oracle(kind: str, changes: dict[str, Any]) -> None:
    theirs = hf_model(kind, **changes)
    ours, ids = MambaLM.from_transformers(theirs), random_ids(2, 23, vocab_size=40)
    found, expected = ours(ids), theirs(ids).logits
    assert largest_difference([found], [expected]) <= 1e-5 * float(expected.abs().max())
    assert largest_difference([found], [expected_logits(ours, ids)]) <= 1e-5 * float(expected.abs().max())


@each_kind
@torch.no_grad()
def test_a_cache_goes_on_by_several_tokens_where_theirs_begins_anew(kind: str) -> None:
    theirs = hf_model(kind)
    ours, ids = MambaLM.from_transformers(theirs), random_ids(1, 12, vocab_size=40)
    expected = expected_logits(ours, ids)[:, 7:]
    found, _ = ours.prefill(ids[:, 7:], ours.prefill(ids[:, :7])[1], all_positions=True)
    size = float(expected.abs().max())
    assert largest_difference([found], [expected]) <= 1e-5 * size
    read = theirs(ids[:, :7], use_cache=True).cache_params
    forgetful = theirs(ids[:, 7:], cache_params=read, use_cache=True).logits
    assert largest_difference([forgetful], [expected]) > 0.01 * size, "if it has learned to go on, say so"


@each_kind
@each_variant
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_folder_and_a_model_of_theirs_are_read_bit_for_bit(
    tmp_path: Path, kind: str, changes: dict[str, Any], dtype: torch.dtype
) -> None:
    theirs = hf_model(kind, dtype, **changes)
    theirs.save_pretrained(tmp_path)
    for ours in (MambaLM.from_pretrained(tmp_path, dtype=dtype), MambaLM.from_transformers(theirs)):
        expected = {name.replace("backbone.", "", 1): tensor for name, tensor in theirs.state_dict().items()}
        expected["embedding.weight"] = expected.pop("embeddings.weight")
        assert ours.state_dict().keys() == expected.keys()
        for name, tensor in ours.state_dict().items():
            assert_same_bits(tensor, expected[name], name)


@pytest.mark.parametrize(
    ("family", "changes", "kind"),
    [
        ("mamba1", {}, "MambaForCausalLM"),
        ("mamba1", {"tie_embeddings": False, "norm_eps": 1e-3, "pad_vocab_size_multiple": 16}, "MambaForCausalLM"),
        ("mamba1", {"mamba1": {"bias": True, "conv_bias": False, "d_conv": 2, "expand": 3}}, "MambaForCausalLM"),
        ("mamba1", {"mamba1": {"dt_init": "constant", "dt_scale": 2.0, "dt_min": 0.01}}, "MambaForCausalLM"),
        ("falcon", {}, "FalconMambaForCausalLM"),
    ],
)
@torch.no_grad()
def test_there_and_back_is_bit_exact_and_computes_the_same(family: str, changes: dict[str, Any], kind: str) -> None:
    model = family_model(family, **changes).cpu()
    theirs = model.to_transformers()
    assert type(theirs).__name__ == kind
    back = MambaLM.from_transformers(theirs)
    assert_same_but_for_padding(back, model)
    assert (theirs.lm_head.weight is theirs.backbone.embeddings.weight) == model.config.tie_embeddings
    assert theirs.config.eos_token_id is None
    ids = random_ids(2, 9)
    expected = theirs(ids).logits
    assert largest_difference([model(ids)], [expected]) <= 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("mamba3-siso", {}, "a Mamba-1 or a Mamba-2 alone can be made a transformers model; got one of mamba3"),
        ("attention", {}, "got one of attention"),
        ("hybrid", {}, "got one of mamba1, mamba2, mamba3, attention"),
        (
            "mamba1",
            {"d_intermediate": 24},
            "transformers' Mamba has no d_intermediate; it must be 0 to convert, got 24",
        ),
        (
            "falcon",
            {"rms_norm": False},
            "transformers' FalconMamba has no rms_norm; it must be True to convert, got Fal",
        ),
        ("mamba2", {"norm_eps": 1e-3}, "transformers' Mamba2 has one norm_eps for all its norms; got 0.001, and 1e-05"),
    ],
)
def test_what_transformers_does_not_have_is_refused(family: str, changes: dict[str, Any], message: str) -> None:
    with raises(ValueError, message):
        MambaLM(family_config(family, **changes)).to_transformers()


def test_a_model_of_another_kind_is_refused() -> None:
    config = transformers.GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=11)
    with raises(CheckpointError, "GPT2LMHeadModel: expected one of Mamba2ForCausalLM, MambaForCausalLM, FalconMamba"):
        MambaLM.from_transformers(transformers.GPT2LMHeadModel(config))


def test_older_files_that_leave_fields_out_mean_what_transformers_takes_them_for(tmp_path: Path) -> None:
    """state-spaces/mamba-*-hf says nothing of tying, and has keys of the official code that may be wrong."""
    hf_model("FalconMamba").save_pretrained(tmp_path)
    official = {"d_model": 99, "d_inner": 160, "n_layer": 7, "ssm_cfg": {}, "rms_norm": True}
    change_config(tie_word_embeddings=..., mixer_rms_eps=..., **official)(tmp_path)
    config = MambaLM.from_pretrained(tmp_path).config
    assert isinstance(config, MambaConfig) and config.mamba1 is not None
    assert (config.d_model, config.n_layer, config.tie_embeddings, config.mamba1.b_c_dt_rms_eps) == (16, 2, True, 1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"intermediate_size": 40}, "intermediate_size must be a multiple of hidden_size, 16; found 40"),
        ({"intermediate_size": "32"}, "intermediate_size must be a multiple of hidden_size, 16; found '32'"),
        ({"intermediate_size": 0}, "intermediate_size must be a multiple of hidden_size, 16; found 0"),
        ({"hidden_size": 0}, "intermediate_size must be a multiple of hidden_size, 0; found 32"),
        ({"hidden_act": "gelu"}, "hidden_act must be 'silu'; found 'gelu'"),
        ({"state_size": ...}, "expected a field 'state_size'; found none"),
        ({"time_step_rank": "all"}, "mamba1: dt_rank must be a whole number or 'auto'; got 'all'"),
        ({"time_step_init_scheme": 1}, "mamba1: dt_init must be one of random, constant; got 1"),
        ({"model_type": ["mamba"]}, "expected the config of a Mamba"),
    ],
)
def test_a_config_that_is_of_no_model_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    hf_model("Mamba").save_pretrained(tmp_path)
    change_config(**changes)(tmp_path)
    assert_refused(tmp_path, f"{tmp_path / 'config.json'}: {message}")


def test_what_it_is_compared_with_is_nowhere_trivial() -> None:
    """A skip that outweighed the memory would hide what the memory does."""
    for kind in ("Mamba", "FalconMamba"):
        ours = MambaLM.from_transformers(hf_model(kind))
        ids = random_ids(1, 23, vocab_size=40)
        with torch.no_grad():
            whole, alone = ours(ids)[0, -1], ours(ids[:, -4:])[0, -1]
        assert largest_difference([whole], [alone]) > 0.01 * float(whole.abs().max())
