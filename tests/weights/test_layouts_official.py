"""The official layout. Names, shapes and fields are those of state-spaces/mamba, written out here once more."""

from __future__ import annotations

import pytest
import torch
from support.oracle.mamba2 import raises
from support.published_shapes import official_shapes
from support.saved_models import (
    OFFICIAL_VARIANTS,
    WEIGHTS,
    assert_refused,
    assert_same,
    assert_same_bits,
    change_config,
    change_weights,
    read,
    read_config,
)
from support.small_models import random_ids, small_model

from mamba2_lab import Mamba2LM
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.weights.layouts import official

OFFICIAL_MIXER_ARGUMENTS = {  # of mamba_ssm.modules.mamba2.Mamba2.__init__, those that a config may set
    *("d_state", "d_conv", "conv_init", "expand", "headdim", "d_ssm", "ngroups", "A_init_range", "D_has_hdim"),
    *("rmsnorm", "norm_before_gate", "dt_min", "dt_max", "dt_init_floor", "dt_limit", "bias", "conv_bias"),
    *("chunk_size", "use_mem_eff_path"),
}


def test_an_official_folder_is_read_with_the_official_defaults(official_folder):
    model = Mamba2LM.from_pretrained(official_folder)
    config = model.config
    assert (config.d_state, config.headdim, config.chunk_size, config.ngroups) == (128, 64, 256, 1)
    assert (config.vocab_size, config.padded_vocab_size, config.tie_embeddings) == (27, 32, True)
    weights = read(official_folder)
    mixer = model.layers[1].mixer
    for ours, name in {
        model.embedding.weight: "backbone.embedding.weight",
        model.norm_f.weight: "backbone.norm_f.weight",
        model.layers[1].norm.weight: "backbone.layers.1.norm.weight",
        mixer.in_proj.weight: "backbone.layers.1.mixer.in_proj.weight",
        mixer.conv1d.weight: "backbone.layers.1.mixer.conv1d.weight",
        mixer.conv1d.bias: "backbone.layers.1.mixer.conv1d.bias",
        mixer.dt_bias: "backbone.layers.1.mixer.dt_bias",
        mixer.A_log: "backbone.layers.1.mixer.A_log",
        mixer.D: "backbone.layers.1.mixer.D",
        mixer.norm.weight: "backbone.layers.1.mixer.norm.weight",
        mixer.out_proj.weight: "backbone.layers.1.mixer.out_proj.weight",
    }.items():
        assert_same_bits(ours.detach(), weights[name], name)


def test_an_official_model_computes_what_transformers_computes_with_its_weights(official_folder):
    transformers = pytest.importorskip("transformers")
    config = transformers.Mamba2Config(
        hidden_size=64, num_hidden_layers=2, vocab_size=32, state_size=128, head_dim=64, num_heads=2, n_groups=1,
        tie_word_embeddings=True,
    )  # fmt: skip
    theirs = transformers.Mamba2ForCausalLM(config)
    theirs.load_state_dict(
        {
            name.replace("backbone.embedding.", "backbone.embeddings."): tensor
            for name, tensor in read(official_folder).items()
        }
    )
    ids = random_ids(2, 9, vocab_size=27)
    ours = Mamba2LM.from_pretrained(official_folder)(ids)
    with torch.no_grad():
        torch.testing.assert_close(ours, theirs(ids).logits[..., :27], rtol=1e-4, atol=1e-4)


def test_the_official_layout_is_written_with_the_official_names_shapes_and_fields(tmp_path):
    model = small_model(d_model=16, n_layer=2, vocab_size=27, d_state=8, headdim=16)
    model.save_pretrained(tmp_path, layout="official")
    weights = read(tmp_path)
    ssm = {"layer": "Mamba2", "d_state": 8, "headdim": 16}
    expected = official_shapes({"d_model": 16, "n_layer": 2, "vocab_size": 32, "ssm_cfg": ssm})
    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == expected
    assert torch.equal(weights["lm_head.weight"], weights["backbone.embedding.weight"])
    config = read_config(tmp_path)
    assert config["ssm_cfg"]["layer"] == "Mamba2"
    assert config["ssm_cfg"].keys() - {"layer"} <= OFFICIAL_MIXER_ARGUMENTS
    assert config.keys() == {
        *("d_model", "d_intermediate", "n_layer", "vocab_size", "ssm_cfg", "attn_layer_idx", "attn_cfg", "rms_norm"),
        *("residual_in_fp32", "fused_add_norm", "pad_vocab_size_multiple", "tie_embeddings"),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("changes", OFFICIAL_VARIANTS, ids=str)
def test_official_layout_out_and_in_is_bit_exact(tmp_path, changes, dtype):
    model = small_model(**changes).to(dtype)
    model.save_pretrained(tmp_path, layout="official")
    assert_same(Mamba2LM.from_pretrained(tmp_path, dtype=dtype), model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"learnable_init_states": True},
            "the official Mamba2 has no learnable_init_states; it must be False to convert, got True",
        ),
        ({"norm_eps": 1e-6}, "the official layout has no norm_eps; it must be 1e-5 to convert, got 1e-06"),
    ],
)
def test_what_the_official_layout_cannot_hold_is_refused_and_nothing_is_written(tmp_path, changes, message):
    with pytest.raises(ValueError) as caught:
        small_model(**changes).save_pretrained(tmp_path / "out", layout="official")
    assert str(caught.value) == message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change_config(rms_norm="yes"), "rms_norm must be True or False; got 'yes'"),
        (change_config(attn_layer_idx=3), "attn_layer_idx must be a list of layers; found 3"),
        (change_config(attn_layer_idx=[-1]), "attn_layer_idx must be a list of layers; found [-1]"),
        (
            change_config(attn_layer_idx=[3]),
            "n_layer must be above 3, for attn_layer_idx names it, and at most 4096; found 2",
        ),
        (change_config(d_intermediate=-64), "d_intermediate must be at least 0; got -64"),
        (
            change_config(ssm_cfg={"layer": "Mamba4"}),
            "ssm_cfg.layer must be one of Mamba1, Mamba2, Mamba3; found 'Mamba4'",
        ),
        (change_config(ssm_cfg=None), "ssm_cfg must be an object; found None"),
        (change_config(ssm_cfg={"layer": "Mamba2", "d_ssm": 32}), "ssm_cfg.d_ssm must be None; found 32"),
        (change_config(n_layer=...), "expected a field 'n_layer'; found none"),
    ],
)
def test_an_official_config_that_is_of_no_model_is_refused(official_folder, damage, message):
    damage(official_folder)
    assert_refused(official_folder, f"{official_folder / 'config.json'}: {message}")


# All arguments of mamba_ssm.modules at e9594ce that change what is computed or drawn, each with another value than its
# default. (d_model or embed_dim, layer_idx, device and dtype are given by the model.)
_TIMES = {"dt_min": 0.01, "dt_max": 0.5, "dt_init_floor": 1e-3}
ARGUMENTS = {
    "Mamba1": {
        **{"d_state": 8, "d_conv": 3, "expand": 3, "dt_rank": 3, "dt_init": "constant", "dt_scale": 2.0, **_TIMES},
        **{"conv_bias": False, "bias": True},
    },
    "Mamba2": {
        **{"d_state": 8, "d_conv": 3, "expand": 3, "headdim": 32, "ngroups": 2, "chunk_size": 16, **_TIMES},
        **{"A_init_range": (1.0, 2.0), "dt_limit": (0.0, 1.0), "norm_before_gate": True, "bias": True},
        **{"conv_bias": False},
    },
    "Mamba3": {
        **{"d_state": 8, "expand": 3, "headdim": 32, "ngroups": 2, "rope_fraction": 1.0, "A_floor": 1e-2, **_TIMES},
        **{"is_outproj_norm": True, "is_mimo": True, "mimo_rank": 2, "chunk_size": 16},
    },
    "MHA": {
        **{"num_heads": 8, "num_heads_kv": 2, "head_dim": 8, "qkv_proj_bias": False, "out_proj_bias": False},
        **{"softmax_scale": 0.5, "d_conv": 4, "rotary_emb_dim": 8, "rotary_emb_base": 1e6},
        **{"rotary_emb_interleaved": True, "causal": True},
    },
}
DEFAULTS = {  # of the official code, where ours are others
    "Mamba1": {},
    "Mamba2": {"d_state": 128, "headdim": 64, "chunk_size": 256},
    "Mamba3": {},
    "MHA": {},  # but causal, of which no other than True can be read
}
UNWRITTEN = {  # what we have and they have not
    "Mamba1": {"b_c_dt_rms", "b_c_dt_rms_eps"},
    "Mamba2": {"norm_eps", "learnable_init_states"},
    "Mamba3": {"A_activation"},
    "MHA": set(),
}
NO_EFFECT = {
    "Mamba1": {"use_fast_path": False},
    "Mamba2": {"use_mem_eff_path": False, "sequence_parallel": False, "conv_init": 0.1},
    "Mamba3": {"fuse_pregate_headwise_norm": False, "dropout": 0.1, "n_layer": 7},
    "MHA": {},
}


def official_config(layer: str, **arguments):
    """The config that is read where the mixer has these arguments; its mixer's fields."""
    model = {"d_model": 64, "n_layer": 2, "vocab_size": 27}
    if layer == "MHA":
        attention = {"causal": True, "num_heads": 4, **arguments}
        found = {**model, "ssm_cfg": {}, "attn_layer_idx": [0, 1], "attn_cfg": attention}
    else:
        found = {**model, "ssm_cfg": {"layer": layer, **arguments}}
    return official.read_config(found, "config").layer(0).fields


@pytest.mark.parametrize("layer", ARGUMENTS)
def test_every_official_argument_is_a_field_of_ours_with_the_official_default(layer):
    plain = official_config(layer)
    fields = {name: value for name, value in plain.to_dict().items() if name not in ("d_model", *UNWRITTEN[layer])}
    assert fields.keys() == ARGUMENTS[layer].keys()
    assert fields == {name: getattr(type(plain)(), name) for name in fields} | DEFAULTS[layer]
    for name, other in ARGUMENTS[layer].items():
        found = official_config(layer, **{name: list(other) if isinstance(other, tuple) else other})
        assert found.to_dict() == plain.to_dict() | {name: other}, name
    assert official_config(layer, **NO_EFFECT[layer]) == plain


@pytest.mark.parametrize(
    ("layer", "arguments", "message"),
    [
        ("Mamba1", {"dt_init": "log"}, "mamba1: dt_init must be one of random, constant; got 'log'"),
        ("Mamba1", {"headdim": 64}, "mamba1: unknown config field 'headdim'"),
        ("Mamba2", {"D_has_hdim": True}, "ssm_cfg.D_has_hdim must be False; found True"),
        ("Mamba2", {"rmsnorm": False}, "ssm_cfg.rmsnorm must be True; found False"),
        ("Mamba2", {"process_group": "all"}, "ssm_cfg.process_group must be None; found 'all'"),
        ("Mamba3", {"rope_fraction": 0.25}, "mamba3: rope_fraction must be 0.5 or 1.0; got 0.25"),
        ("Mamba3", {"ngroup": 2}, "mamba3: unknown config field 'ngroup'"),  # the official code would not notice
        ("MHA", {"causal": False}, "attention: causal must be True"),
        ("MHA", {"mlp_dim": 256}, "attn_cfg.mlp_dim must be 0; found 256"),
        ("MHA", {"num_heads_kv": 3}, "attention: num_heads_kv must be a divisor of num_heads = 4; got 3"),
    ],
)
def test_an_official_argument_that_would_change_the_numbers_is_refused_by_name(layer, arguments, message):
    with raises(CheckpointError, f"config: {message}"):
        official_config(layer, **arguments)


def test_attention_of_which_the_config_does_not_say_enough_is_refused():
    found = {"d_model": 64, "n_layer": 2, "vocab_size": 27, "ssm_cfg": {}, "attn_layer_idx": [1]}
    with raises(CheckpointError, "config: attn_cfg: expected a field 'num_heads'; found none"):
        official.read_config(found, "config")
    with raises(CheckpointError, "config: attention: causal must be True"):  # the official default is False
        official.read_config({**found, "attn_cfg": {"num_heads": 4}}, "config")


def test_a_tensor_under_two_names_is_refused(official_folder, unbuilt):
    change_weights(lambda w: w.update({"layers.1.mixer.D": w["backbone.layers.1.mixer.D"] + 1}))(official_folder)
    with pytest.raises(CheckpointError) as caught:
        Mamba2LM.from_pretrained(official_folder)
    expected = "layers.1.mixer.D: expected one tensor 'layers.1.mixer.D'; found it under two names"
    assert str(caught.value) == f"{official_folder / WEIGHTS}: {expected}"


def test_a_layout_that_is_not_written_here_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError) as caught:
        small_model().save_pretrained(tmp_path / "out", layout="gguf")
    assert str(caught.value) == "layout must be one of ours, official, transformers, mlx; got 'gguf'"
    assert not (tmp_path / "out").exists()
