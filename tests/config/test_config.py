"""The shape of a model: official names, sizes that fit, and errors that say what does not."""

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.oracle.mamba2 import raises

from mamba2_lab import Mamba2, Mamba2Config, Mamba2LM
from mamba2_lab.config import PRESETS


def test_derived_sizes_follow_their_formulas() -> None:
    config = Mamba2Config(d_model=48, expand=3, headdim=16, ngroups=3, d_state=10, vocab_size=100)
    assert config.d_inner == 144
    assert config.nheads == 9
    assert config.conv_dim == 144 + 2 * 3 * 10
    assert config.padded_vocab_size == 104


@given(st.integers(1, 10_000), st.integers(1, 300))
def test_the_vocabulary_is_padded_to_the_next_multiple(vocab_size: int, multiple: int) -> None:
    padded = Mamba2Config(vocab_size=vocab_size, pad_vocab_size_multiple=multiple).padded_vocab_size
    assert padded % multiple == 0
    assert 0 <= padded - vocab_size < multiple


@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 60), st.integers(1, 12))
def test_sizes_are_accepted_exactly_if_heads_and_groups_divide(
    d_model: int, expand: int, headdim: int, ngroups: int
) -> None:
    fits = (expand * d_model) % headdim == 0 and (expand * d_model // headdim) % ngroups == 0
    try:
        config = Mamba2Config(d_model=d_model, expand=expand, headdim=headdim, ngroups=ngroups)
    except ValueError:
        assert not fits
    else:
        assert fits
        assert config.nheads * config.headdim == config.d_inner


def test_the_defaults_are_those_of_the_official_code_where_it_has_them() -> None:
    config = Mamba2Config()
    assert (config.d_conv, config.expand, config.ngroups) == (4, 2, 1)
    assert (config.A_init_range, config.dt_min, config.dt_max) == ((1.0, 16.0), 0.001, 0.1)
    assert (config.dt_init_floor, config.dt_limit, config.norm_eps) == (1e-4, (0.0, math.inf), 1e-5)
    assert (config.bias, config.conv_bias, config.norm_before_gate, config.tie_embeddings) == (False, True, False, True)


OFFICIAL_SHAPES = {"130m": (768, 24), "370m": (1024, 48), "780m": (1536, 48), "1.3b": (2048, 48), "2.7b": (2560, 64)}


@pytest.mark.parametrize(("name", "shape"), OFFICIAL_SHAPES.items())
def test_official_presets_have_the_official_shapes(name: str, shape: tuple[int, int]) -> None:
    config = Mamba2Config.preset(name)
    assert (config.d_model, config.n_layer) == shape
    assert (config.d_state, config.headdim, config.ngroups) == (128, 64, 1)
    assert (config.vocab_size, config.padded_vocab_size) == (50277, 50288)


MAMBA_2 = [name for name, fields in PRESETS.items() if "mixers" not in fields]


@pytest.mark.parametrize("name", MAMBA_2)
def test_a_preset_can_be_changed_field_by_field(name: str) -> None:
    changed = Mamba2Config.preset(name, n_layer=3, vocab_size=999)
    expected = {**Mamba2Config.preset(name).to_dict(), "n_layer": 3, "vocab_size": 999}
    assert changed.to_dict() == expected


def test_a_dictionary_and_json_hold_the_whole_config() -> None:
    config = Mamba2Config(
        d_model=64, headdim=16, ngroups=2, dt_limit=(0.01, 0.5), bias=True, learnable_init_states=True
    )
    assert Mamba2Config.from_dict(config.to_dict()) == config
    read_back = Mamba2Config.from_dict(json.loads(json.dumps(config.to_dict())))
    assert read_back == config
    assert isinstance(read_back.dt_limit, tuple)


def test_a_config_is_a_value() -> None:
    config = Mamba2Config()
    assert hash(config) == hash(Mamba2Config()) and config == Mamba2Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.d_model = 3


def test_a_mixer_takes_the_fields_of_a_config_and_keeps_them() -> None:
    config = Mamba2Config(
        d_model=24,
        d_state=6,
        d_conv=3,
        expand=3,
        headdim=12,
        ngroups=2,
        chunk_size=7,
        A_init_range=(2, 3),
        dt_min=0.01,
        dt_max=0.02,
        dt_init_floor=0.001,
        dt_limit=(0.1, 0.2),
        bias=True,
        conv_bias=False,
        norm_before_gate=True,
        learnable_init_states=True,
        norm_eps=1e-3,
    )
    mixer = Mamba2(**config.mixer_fields())
    assert mixer.config.to_dict() == config.mixer_fields()
    others = {"n_layer", "vocab_size", "tie_embeddings", "pad_vocab_size_multiple"}
    assert set(config.mixer_fields()) == set(config.to_dict()) - others


def test_the_model_knows_its_config_however_it_was_given() -> None:
    fields = {"d_model": 16, "headdim": 8, "n_layer": 1, "vocab_size": 11}
    assert Mamba2LM(**fields).config == Mamba2LM(Mamba2Config(**fields)).config == Mamba2Config(**fields)


# Bad input

COUNTS = [
    "d_model",
    "n_layer",
    "vocab_size",
    "d_state",
    "d_conv",
    "expand",
    "headdim",
    "ngroups",
    "chunk_size",
    "pad_vocab_size_multiple",
]
SWITCHES = ["bias", "conv_bias", "norm_before_gate", "learnable_init_states", "tie_embeddings"]
POSITIVE = ["dt_min", "dt_max", "dt_init_floor", "norm_eps"]


def assert_refused(error: type[Exception], fields: dict[str, Any], *parts: str) -> None:
    """By the config itself, and by what is made with it."""
    for make in (Mamba2Config, Mamba2LM):
        with raises(error, *parts):
            make(**fields)


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [0, -3])
def test_a_size_below_one_is_an_error(name: str, value: int) -> None:
    assert_refused(ValueError, {name: value}, f"{name} must be at least 1", f"got {value}")


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [2.0, "2", None, True], ids=repr)
def test_a_size_that_is_no_whole_number_is_an_error(name: str, value: object) -> None:
    assert_refused(TypeError, {name: value}, f"{name} must be a whole number", f"got {value!r}")


@pytest.mark.parametrize("name", COUNTS)
def test_a_size_beyond_31_bits_is_an_error(name: str) -> None:
    assert_refused(ValueError, {name: 2**31}, f"{name} must be at most 2147483647", "got 2147483648")


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("value", [1, "yes", None], ids=repr)
def test_a_switch_that_is_not_true_or_false_is_an_error(name: str, value: object) -> None:
    assert_refused(TypeError, {name: value}, f"{name} must be True or False", f"got {value!r}")


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize("value", [0, -0.1, math.inf, math.nan], ids=repr)
def test_a_number_that_is_not_above_zero_and_finite_is_an_error(name: str, value: float) -> None:
    assert_refused(ValueError, {name: value}, f"{name} must be a finite number above 0", f"got {value!r}")


@pytest.mark.parametrize("name", POSITIVE)
def test_a_number_that_no_float_holds_is_an_error(name: str) -> None:
    assert_refused(
        ValueError, {name: 10**400}, f"{name} must be a number that a float can hold", "got one of 1329 bits"
    )


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize("value", ["0.1", None, True, (0.1,)], ids=repr)
def test_a_number_of_another_type_is_an_error(name: str, value: object) -> None:
    assert_refused(TypeError, {name: value}, f"{name} must be a number", f"got {value!r}")


@pytest.mark.parametrize("name", ["A_init_range", "dt_limit"])
@pytest.mark.parametrize(
    "value",
    [3.0, None, (1, 2, 3), (1,), "ab", ("a", "b"), "12", ("1", "2"), (True, True), {"1": 1, "2": 2}, (1, 10**400)],
    ids=lambda value: repr(value)[:20],
)
def test_a_range_that_is_no_pair_of_numbers_is_an_error(name: str, value: object) -> None:
    assert_refused(TypeError, {name: value}, f"{name} must be a pair (low, high) of numbers", f"got {value!r}")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("A_init_range", (16, 1), "low <= high"),
        ("A_init_range", (0, 1), "0 < low <= high"),
        ("A_init_range", (1, math.inf), "0 < low <= high < inf"),
        ("A_init_range", (math.nan, 1), "low <= high"),
        ("dt_limit", (0.5, 0.1), "low <= high"),
        ("dt_limit", (-0.1, 0.1), "0 <= low <= high"),
    ],
    ids=str,
)
def test_a_range_with_wrong_ends_is_an_error(name: str, value: tuple[float, float], expected: str) -> None:
    assert_refused(ValueError, {name: value}, name, expected, "got", str(value[0]), str(value[1]))


def test_a_dt_max_below_dt_min_is_an_error() -> None:
    assert_refused(ValueError, {"dt_min": 0.2}, "dt_max must be at least dt_min = 0.2", "got 0.1")


def test_a_head_size_that_does_not_divide_is_an_error_that_shows_the_sum() -> None:
    fields = {"d_model": 100, "headdim": 64}
    assert_refused(ValueError, fields, "headdim must divide expand * d_model = 2 * 100 = 200", "got 64")


def test_groups_that_do_not_divide_the_heads_are_an_error_that_shows_the_sum() -> None:
    fields = {"d_model": 128, "headdim": 32, "ngroups": 3}
    assert_refused(
        ValueError, fields, "ngroups must divide the number of heads", "expand * d_model / headdim = 8", "got 3"
    )


def test_an_unknown_preset_is_an_error_that_lists_the_presets() -> None:
    with raises(ValueError, f"preset must be one of {', '.join(MAMBA_2)}; got 'tiny'"):
        Mamba2Config.preset("tiny")


@pytest.mark.parametrize("make", [Mamba2Config.from_dict, lambda fields: Mamba2Config.preset("small", **fields)])
def test_an_unknown_field_is_an_error_that_lists_the_fields(make: Any) -> None:
    listed = ", ".join(field.name for field in dataclasses.fields(Mamba2Config))
    with raises(ValueError, "unknown config field 'n_layers'", listed):
        make({"d_model": 64, "n_layers": 3})
