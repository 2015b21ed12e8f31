"""Models of every family, and what they remember, in files: bit for bit, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from support.caches import assert_identical
from support.families import FAMILIES, NAMES, each_family, expected_logits, family_config, family_model
from support.oracle.mamba2 import largest_difference, raises
from support.saved_models import assert_refused, assert_same, read, read_config, write_config
from support.small_models import random_ids

from mamba2_lab import MambaLM
from mamba2_lab.inspect import load_cache, save_cache
from mamba2_lab.machine.untrusted import CheckpointError

WITHOUT_A_PLACE = {  # in the official layout
    "falcon": "the official Mamba1 has no b_c_dt_rms; it must be False to convert, got True",
    "hybrid": "the official layout has no norm_eps; it must be 1e-5 to convert, got 0.001",
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@each_family
def test_a_saved_model_is_loaded_bit_for_bit(tmp_path: Path, family: str, dtype: torch.dtype) -> None:
    model = family_model(family).cpu().to(dtype)
    model.save_pretrained(tmp_path)
    assert_same(MambaLM.from_pretrained(tmp_path, dtype=dtype), model)


@each_family
def test_the_official_layout_holds_it_bit_for_bit_or_refuses_it(tmp_path: Path, family: str) -> None:
    model = family_model(family).cpu()
    if family in WITHOUT_A_PLACE:
        with raises(ValueError, WITHOUT_A_PLACE[family]):
            model.save_pretrained(tmp_path / "out", layout="official")
        assert not (tmp_path / "out").exists()
        return
    model.save_pretrained(tmp_path, layout="official")
    assert_same(MambaLM.from_pretrained(tmp_path), model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mamba3": {**FAMILIES["mamba3-siso"]["mamba3"], "A_activation": "softplus"}}, "Mamba3 has no A_activation"),
        ({"mixers": ["mamba1", "mamba3"]}, "one kind of mixer beside attention; got mamba1, mamba3"),
    ],
)
def test_what_the_official_code_cannot_say_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with raises(ValueError, message):
        MambaLM(family_config("mamba3-siso", **changes)).save_pretrained(tmp_path, layout="official")


def test_a_hybrid_of_one_mixer_and_attention_is_written_as_the_official_code_has_it(tmp_path: Path) -> None:
    changes = {"mixers": ["mamba3", "attention", "mamba3"], "n_layer": 3, "attention": {"num_heads": 2, "d_conv": 4}}
    model = family_model("mamba3-mimo", **changes)
    model.save_pretrained(tmp_path, layout="official")
    assert_same(MambaLM.from_pretrained(tmp_path), model)
    config = read_config(tmp_path)
    assert (config["ssm_cfg"]["layer"], config["attn_layer_idx"], config["attn_cfg"]["num_heads"]) == ("Mamba3", [1], 2)
    assert {"backbone.layers.1.mixer.conv1d.bias", "backbone.layers.2.mlp.fc1.weight"} <= read(tmp_path).keys()


# Caches


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@each_family
@torch.no_grad()
def test_a_saved_cache_comes_back_bit_for_bit_and_goes_on_exactly(
    tmp_path: Path, family: str, dtype: torch.dtype
) -> None:
    model, ids, more = family_model(family).cpu().to(dtype), random_ids(2, 6), random_ids(2, 3, seed=1)
    mask = torch.arange(6) < torch.tensor([[6], [2]])
    _, cache = model.prefill(ids, attention_mask=mask)
    for name, kept in (("new", model.new_cache(2)), ("read", cache)):
        save_cache(kept, tmp_path / name, model.config)
        assert_identical_tensors(load_cache(tmp_path / name, model.config), kept)
    logits, _ = model.prefill(more, load_cache(tmp_path / "read", model.config))
    assert torch.equal(logits, model.prefill(more, cache)[0])
    if dtype == torch.float64:
        read = torch.cat([ids[1, :2], more[1]])[None]
        assert largest_difference([logits[1:]], [expected_logits(model, read)[:, -1]]) <= 1e-10


def assert_identical_tensors(one: Any, other: Any) -> None:
    """But for the room in which growing states stand, which is nobody's memory."""
    assert [layer.tensors().keys() for layer in one.layers] == [layer.tensors().keys() for layer in other.layers]
    assert_identical(*(cache.map(torch.clone) for cache in (one, other)))


def test_a_cache_of_another_family_is_refused_by_the_field(tmp_path: Path) -> None:
    model = family_model("mamba1").cpu()
    save_cache(model.new_cache(), tmp_path / "cache", model.config)
    with raises(CheckpointError, "mixers: expected a cache of a model with 'mamba3'; found 'mamba1'"):
        load_cache(tmp_path / "cache", family_config("mamba3-siso"))
    with raises(ValueError, "cache must fit the config: layers.0."):
        save_cache(model.new_cache(), tmp_path / "other", family_config("mamba3-siso"))


# Configs


@pytest.mark.parametrize("family", [name for name in NAMES if name != "mamba2"])  # whose fields stand flat
def test_a_mixer_without_one_of_its_fields_or_with_a_foreign_one_is_refused(tmp_path: Path, family: str) -> None:
    model = family_model(family).cpu()
    model.save_pretrained(tmp_path)
    whole = read_config(tmp_path)
    name = next(iter(model.config.mixer_fields_by_name))
    field = "num_heads" if name == "attention" else "d_state"
    for changed, message in (
        ({key: value for key, value in whole[name].items() if key != field}, f": {name}: expected a field '{field}'"),
        ({**whole[name], "rope": 1}, f": {name}: unknown config field 'rope'"),
        ({**whole[name], field: 0}, f": {name}: {field} must be at least 1; got 0"),
    ):
        write_config(tmp_path, {**whole, name: changed})
        assert message in assert_refused(tmp_path, str(tmp_path / "config.json"))


def test_a_tensor_of_a_wrong_shape_is_refused_by_name(tmp_path: Path) -> None:
    family_model("mamba3-mimo").save_pretrained(tmp_path)
    weights = read(tmp_path)
    weights["layers.1.mixer.mimo_x"] = weights["layers.1.mixer.mimo_x"][:, :1].clone()
    safetensors.torch.save_file(weights, tmp_path / "model.safetensors")
    expected = "layers.1.mixer.mimo_x: expected shape (4, 2, 8); found (4, 1, 8)"
    assert_refused(tmp_path, f"{tmp_path / 'model.safetensors'}: {expected}")
