"""Our layout, out and in, bit for bit."""

from __future__ import annotations

import json
import math

import pytest
import torch
from support.saved_models import ALL_VARIANTS, assert_same, change_weights, read
from support.small_models import small_model

from mamba2_lab import Mamba2LM


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("changes", ALL_VARIANTS, ids=str)
def test_a_saved_model_is_loaded_bit_for_bit(tmp_path, changes, dtype):
    model = small_model(**changes).to(dtype)
    model.save_pretrained(tmp_path)
    assert_same(Mamba2LM.from_pretrained(tmp_path, dtype=dtype), model)


def test_numbers_that_are_no_numbers_are_kept_as_they_are(tmp_path):
    model = small_model()
    with torch.no_grad():
        model.embedding.weight[0, :4] = torch.tensor([math.nan, math.inf, -0.0, 1e-42])
    model.save_pretrained(tmp_path)
    assert_same(Mamba2LM.from_pretrained(tmp_path), model)


def test_a_tied_head_is_stored_once_and_tied_again(tmp_path):
    small_model().save_pretrained(tmp_path)
    assert "lm_head.weight" not in read(tmp_path)
    model = Mamba2LM.from_pretrained(tmp_path)
    assert model.lm_head.weight is model.embedding.weight


def test_a_head_of_its_own_is_stored_and_stays_its_own(tmp_path):
    small_model(tie_embeddings=False).save_pretrained(tmp_path)
    model = Mamba2LM.from_pretrained(tmp_path)
    assert model.lm_head.weight is not model.embedding.weight
    assert not torch.equal(model.lm_head.weight, model.embedding.weight)


def test_config_json_is_json_also_where_a_limit_is_infinite(tmp_path):
    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    small_model(dt_limit=(0.0, math.inf)).save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text(encoding="utf-8")
    config = json.loads(text, parse_constant=no_constant)
    assert config["model_type"] == "mamba2_lab"
    assert config["dt_limit"] == [0.0, {"__float__": "Infinity"}]


def test_a_head_that_is_stored_although_it_is_tied_may_stay(folder):
    change_weights(lambda w: w.update({"lm_head.weight": w["embedding.weight"].clone()}))(folder)
    assert_same(Mamba2LM.from_pretrained(folder), small_model())
