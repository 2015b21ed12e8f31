"""The config of a whole model: which mixer each layer has, what surrounds it, and the shapes that are published."""

import dataclasses
import json
from typing import Any

import pytest
import torch
from support.oracle.mamba2 import raises

from mamba2_lab import Mamba2Config, MambaConfig, MambaLM
from mamba2_lab.config import MIXERS, PRESETS, Mamba2Fields, longest_chunk, tokens_per_piece

SIZES: dict[str, Any] = {"d_model": 64, "n_layer": 3, "vocab_size": 50}
HYBRID = ["mamba2", "attention", "mamba3"]


def test_one_name_serves_all_layers() -> None:
    config = MambaConfig(**SIZES, mixers="mamba3", mamba3={"headdim": 16, "d_state": 8}, d_intermediate=64)
    for i in range(3):
        layer = config.layer(i)
        assert (layer.mixer, layer.d_intermediate) == ("mamba3", 64)
        assert (layer.fields.d_model, layer.fields.headdim, layer.fields.d_state) == (64, 16, 8)
    assert config.mamba1 is config.mamba2 is config.attention is None
    assert (
        MambaConfig(**SIZES, mixers=["mamba3"] * 3, mamba3={"headdim": 16, "d_state": 8}, d_intermediate=64) == config
    )


def test_each_layer_may_have_a_name_of_its_own() -> None:
    config = MambaConfig(**SIZES, mixers=HYBRID, mamba2={"headdim": 16}, mamba3={"headdim": 32})
    assert [config.layer(i).mixer for i in range(3)] == HYBRID
    assert config.layer(0).fields.headdim == 16
    assert config.layer(2).fields.headdim == 32
    assert set(config.mixer_fields_by_name) == set(HYBRID)


def test_a_dictionary_and_json_hold_the_whole_config() -> None:
    config = MambaConfig(**SIZES, mixers=HYBRID, mamba2={"headdim": 16}, attention={"num_heads": 8}, norm_eps=1e-6)
    assert list(config.to_dict())[:3] == ["d_model", "n_layer", "vocab_size"]
    assert MambaConfig.from_dict(config.to_dict()) == config
    assert MambaConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_field_can_be_replaced_and_mixers_follow() -> None:
    config = dataclasses.replace(MambaConfig(**SIZES, mixers=HYBRID), d_model=128)
    assert [config.layer(i).fields.d_model for i in range(3)] == [128] * 3
    assert hash(config) == hash(dataclasses.replace(config))


def test_a_pure_mamba_2_is_a_mamba2_config_however_it_is_given() -> None:
    flat = Mamba2Config(**SIZES, headdim=16, norm_eps=1e-6)
    nested = MambaConfig(**SIZES, mixers="mamba2", mamba2={"headdim": 16, "norm_eps": 1e-6}, norm_eps=1e-6)
    assert MambaLM(nested, device="meta").config == MambaLM(flat, device="meta").config == flat
    for other in ({"d_intermediate": 8}, {"rms_norm": False}, {"norm_eps": 1e-5}):
        changed = dataclasses.replace(nested, **other)
        assert MambaLM(changed, device="meta").config == changed


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_config_and_can_be_changed(name: str) -> None:
    config = MambaConfig.preset(name, vocab_size=100, pad_vocab_size_multiple=8)
    assert (config.vocab_size, config.d_model) == (100, PRESETS[name]["d_model"])
    assert isinstance(config, Mamba2Config) == ("mixers" not in PRESETS[name])


# Tied weights counted once. Of mamba-130m and of the two of 187m the published numbers are known; the others agree with
# the names of their checkpoints, huggingface.co/state-spaces/NAME.
PUBLISHED = {
    "mamba-130m": 129_135_360,
    "mamba-370m": 371_516_416,
    "mamba-790m": 793_204_224,
    "mamba-1.4b": 1_372_178_432,
    "mamba-2.8b": 2_768_345_600,
    "mamba2-130m": 128_989_632,
    "mamba2-370m": 368_346_624,
    "mamba2-780m": 780_161_280,
    "mamba2-1.3b": 1_343_757_312,
    "mamba2-2.7b": 2_702_599_680,
    "mamba2attn-2.7b": 2_697_590_880,
    "transformerpp-2.7b": 2_666_457_600,
    "mamba3-siso-187m": 186_849_600,
    "mamba3-siso-443m": 443_015_680,
    "mamba3-siso-893m": 892_782_336,
    "mamba3-siso-1.5b": 1_494_723_584,
    "mamba3-mimo-187m": 187_291_968,
    "mamba3-mimo-444m": 444_195_328,
    "mamba3-mimo-894m": 894_551_808,
    "mamba3-mimo-1.5b": 1_497_082_880,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_shape_has_the_published_number_of_parameters(name: str) -> None:
    assert MambaLM(MambaConfig.preset(name), device="meta").num_parameters() == PUBLISHED[name]


def test_every_published_shape_is_tested_here() -> None:
    of_the_box, short = {"small", "medium", "large"}, {"130m", "370m", "780m", "1.3b", "2.7b"}
    assert set(PRESETS) == {*of_the_box, *short, *PUBLISHED}
    assert all(PRESETS[name] == PRESETS[f"mamba2-{name}"] for name in short)


def test_tokens_are_read_in_whole_chunks_of_the_longest() -> None:
    config = MambaConfig(**SIZES, mixers=HYBRID, mamba2={"chunk_size": 48}, mamba3={"chunk_size": 16})
    assert longest_chunk(config) == 48
    assert tokens_per_piece(config) == 21 * 48
    assert longest_chunk(MambaConfig(**SIZES, mixers="attention")) == 1


WRONG = {
    "a name that is none": (
        {"mixers": "mamba4"},
        f"mixers must be made of the names {', '.join(MIXERS)}; got 'mamba4'",
    ),
    "a name in the wrong case": (
        {"mixers": ["mamba2", "Mamba3", "mamba2"]},
        f"mixers must be made of the names {', '.join(MIXERS)}; got 'Mamba3'",
    ),
    "too few names": (
        {"mixers": ["mamba2", "mamba3"]},
        "mixers must be one name, or one for each of 3 layers; got 2",
    ),
    "no names": ({"mixers": []}, "mixers must be a name, or a name for each layer; got []"),
    "a number": ({"mixers": 3}, "mixers must be a name, or a name for each layer; got 3"),
    "fields of a mixer that no layer has": (
        {"mixers": "mamba2", "mamba3": {"headdim": 8}},
        "mamba3 must be left out, for no layer of mixers is one; got {'headdim': 8}",
    ),
    "fields that are no dict": ({"mixers": "mamba3", "mamba3": 8}, "mamba3 must be a dict of its fields; got 8"),
    "another d_model": (
        {"mixers": "mamba3", "mamba3": {"d_model": 8}},
        "mamba3 must leave d_model to the model, 64; got 8",
    ),
    "an unknown field of a mixer": (
        {"mixers": "mamba3", "mamba3": {"d_conv": 4}},
        "mamba3: unknown config field 'd_conv'",
    ),
    "a field that does not fit": (
        {"mixers": "mamba2", "mamba2": {"headdim": 24}},
        "mamba2: headdim must divide expand * d_model = 2 * 64 = 128; got 24",
    ),
    "an unknown field": ({"mixers": "mamba2", "d_state": 8}, "unknown config field 'd_state'"),
    "a negative MLP": ({"mixers": "mamba2", "d_intermediate": -1}, "d_intermediate must be at least 0; got -1"),
    "half an MLP": ({"mixers": "mamba2", "d_intermediate": 0.5}, "d_intermediate must be a whole number; got 0.5"),
}


@pytest.mark.parametrize(("fields", "message"), WRONG.values(), ids=WRONG.keys())
def test_what_does_not_fit_is_an_error_that_says_so(fields: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        MambaLM(**SIZES, **fields)
    assert str(caught.value).startswith(message)


def test_a_config_and_fields_together_are_refused() -> None:
    with raises(TypeError, "not both", "mixers"):
        MambaLM(MambaConfig(**SIZES), mixers="mamba2")
    with raises(TypeError, "config must be a Mamba2Config or a MambaConfig", "Mamba2Fields"):
        MambaLM(Mamba2Fields())  # type: ignore[arg-type]


def test_weights_that_write_to_the_stream_begin_smaller_in_deeper_models() -> None:
    """By 1 / sqrt(number of them): two a layer where there is an MLP."""
    for d_intermediate, writers in ((0, 1), (128, 2)):
        shallow, deep = (
            MambaLM(**{**SIZES, "n_layer": n}, mixers="mamba2", d_intermediate=d_intermediate, seed=0) for n in (1, 16)
        )
        bound = 1 / torch.tensor(shallow.blocks[0].mixer.out_proj.in_features).sqrt()
        for model, n_layer in ((shallow, 1), (deep, 16)):
            largest = model.blocks[0].mixer.out_proj.weight.abs().max()
            assert 0.9 < largest / bound * (writers * n_layer) ** 0.5 <= 1
