"""The official layout. Names, shapes and fields are those of state-spaces/mamba, written out here once more."""

from __future__ import annotations

import pytest
import torch
from support.saved_models import (
    OFFICIAL_VARIANTS,
    WEIGHTS,
    assert_refused,
    assert_same,
    assert_same_bits,
    change_config,
    change_weights,
    official_shapes,
    read,
    read_config,
)
from support.small_models import random_ids, small_model

from mamba2_lab import Mamba2LM
from mamba2_lab.machine.untrusted import CheckpointError

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
    expected = official_shapes(d_model=16, n_layer=2, rows=32, d_state=8, heads=2)
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


def test_a_tensor_under_two_names_is_refused(official_folder, unbuilt):
    change_weights(lambda w: w.update({"layers.1.mixer.D": w["backbone.layers.1.mixer.D"] + 1}))(official_folder)
    with pytest.raises(CheckpointError) as caught:
        Mamba2LM.from_pretrained(official_folder)
    expected = "layers.1.mixer.D: expected one tensor 'layers.1.mixer.D'; found it under two names"
    assert str(caught.value) == f"{official_folder / WEIGHTS}: {expected}"


def test_a_layout_that_is_not_written_here_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError) as caught:
        small_model().save_pretrained(tmp_path / "out", layout="transformers")
    assert str(caught.value) == "layout must be one of ours, official; got 'transformers'"
    assert not (tmp_path / "out").exists()
