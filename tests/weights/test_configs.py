"""A config.json that is foreign, damaged or monstrous is refused by name, before anything is built."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.saved_models import WEIGHTS, assert_refused, change_config, read_config

from mamba2_lab import Mamba2LM
from mamba2_lab.machine.untrusted import CheckpointError


def config_of(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "config.json").write_text(text, encoding="utf-8") and None


FOREIGN_CONFIGS = {
    "not JSON": (config_of("d_model: 16"), "expected JSON; found "),
    "empty": (config_of(""), "expected JSON; found "),
    "not UTF-8": (
        lambda folder: (folder / "config.json").write_bytes(b'{"a": "\xe9"}'),
        "expected text in UTF-8; found ",
    ),
    "a list": (config_of("[1, 2]"), "expected a JSON object; found list"),
    "another model": (change_config(model_type="llama"), "expected the config of a Mamba"),
    "no model": (config_of("{}"), "expected the config of a Mamba"),
    "an unknown field": (change_config(rope_theta=10_000), "unknown config field 'rope_theta'"),
    "a size missing": (change_config(d_model=...), "expected a field 'd_model'; found none"),
    "a switch missing": (change_config(norm_before_gate=...), "expected a field 'norm_before_gate'; found none"),
    "a text for a number": (change_config(n_layer="2"), "n_layer must be a whole number; got '2'"),
    "sizes that do not divide": (change_config(headdim=7), "headdim must divide"),
    "a limit that is no pair": (change_config(dt_limit=0.5), "dt_limit must be a pair"),
}


@pytest.mark.parametrize(("damage", "message"), FOREIGN_CONFIGS.values(), ids=FOREIGN_CONFIGS.keys())
def test_a_foreign_config_is_refused_with_file_expectation_and_finding(folder, damage, message):
    damage(folder)
    assert_refused(folder, f"{folder / 'config.json'}: {message}")


NO_LAYER = "expected a tensor of shape "
MONSTERS = {
    "200,000 layers": ({"n_layer": 200_000}, WEIGHTS, f"layers.2.norm.weight: {NO_LAYER}(16,); found none"),
    "a width of a billion": (
        {"d_model": 10**9, "n_layer": 2},
        WEIGHTS,
        "embedding.weight: expected shape (264, 1000000000); found (264, 16)",
    ),
    "all as large as can be": (
        dict.fromkeys(("d_model", "n_layer", "vocab_size", "d_state", "d_conv", "expand"), 2**31 - 1) | {"headdim": 1},
        WEIGHTS,
        "expected sizes of which tensors can be made; found ",
    ),
    "a convolution as large as can be": (
        dict.fromkeys(("d_conv", "expand"), 2**31 - 1) | {"headdim": 1},
        WEIGHTS,
        "expected sizes of which tensors can be made; found ",
    ),
    "a vocabulary of a trillion": (
        {"vocab_size": 10**12},
        "config.json",
        "vocab_size must be at most 2147483647; got 1000000000000",
    ),
    "chunks without end": ({"chunk_size": 10**9}, "config.json", "chunk_size must be at most 4096; got 1000000000"),
    "a text of two digits": (
        {"dt_limit": "12"},
        "config.json",
        "dt_limit must be a pair (low, high) of numbers; got '12'",
    ),
    "a list nested deep": (
        {"n_layer": functools.reduce(lambda inside, _: [inside], range(900), [])},
        "config.json",
        "n_layer must be a whole number; got [[",
    ),
}


@pytest.mark.parametrize(("changes", "file", "message"), MONSTERS.values(), ids=MONSTERS.keys())
def test_a_config_that_promises_monsters_is_refused_before_anything_is_built(folder, unbuilt, changes, file, message):
    change_config(**changes)(folder)
    assert_refused(folder, f"{folder / file}: {message}")


STRANGE_NUMBERS = [
    ("norm_eps", "1e400", "norm_eps must be a finite number above 0; got inf"),
    ("norm_eps", "NaN", "norm_eps must be a finite number above 0; got nan"),
    ("dt_min", "1" + "0" * 400, "dt_min must be "),
    ("A_init_range", f"[1, 1{'0' * 400}]", "A_init_range must be "),
    ("A_init_range", "[true, true]", "A_init_range must be a pair (low, high) of numbers; got [True, True]"),
    ("dt_limit", '[0, {"__float__": "many"}]', "expected JSON; found could not convert string to float: 'many'"),
    ("dt_limit", '[0, {"__float__": [1]}]', "dt_limit must be a pair"),
    ("d_state", "9" * 5000, "expected JSON; found Exceeds the limit (4300 digits)"),
    ("expand", "9" * 4000, "expand must be at most 2147483647; got 999"),
    ("d_conv", "true", "d_conv must be a whole number; got True"),
    ("ngroups", "3", "ngroups must divide the number of heads"),
    ("d_model", '16, "d_model": 32', "expected JSON; found the key 'd_model' more than once"),
    ("n_layer", "[" * 100_000, "expected JSON; found maximum recursion depth exceeded"),
    ("bias", '"\\ud800"', "bias must be True or False; got '\\ud800'"),
]


@pytest.mark.parametrize(("field", "written", "message"), STRANGE_NUMBERS, ids=lambda value: value[:20])
def test_a_field_that_holds_no_number_of_its_kind_is_refused(folder, unbuilt, field, written, message):
    config = json.dumps({**read_config(folder), field: "@"}).replace('"@"', written)
    (folder / "config.json").write_text(config, encoding="utf-8")
    said = assert_refused(folder, f"{folder / 'config.json'}: {message}")
    assert len(said) < 3000


@pytest.mark.parametrize(
    ("encoding", "expected"), [("utf-8-sig", "JSON"), ("utf-16", "text in UTF-8"), ("utf-32", "text in UTF-8")]
)
def test_a_config_in_another_encoding_is_refused(folder, encoding, expected):
    text = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(text, encoding=encoding)
    with pytest.raises(CheckpointError, match=rf"config\.json: expected {expected}; found"):
        Mamba2LM.from_pretrained(folder)
