"""Every published model from its repository's own files: the same weights, the same logits, the right size."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from support.oracle.language_model import Layer, language_model
from support.oracle.mamba2 import largest_difference
from support.published import ONE_OF_EACH, PUBLISHED, write_bin, write_shards
from support.saved_models import assert_refused, assert_same, assert_same_bits, read, read_config, write, write_config
from support.small_models import random_ids
from torch import Tensor

from mamba2_lab import MambaLM
from mamba2_lab.weights.build import check_shapes, renamed, shapes_of
from mamba2_lab.weights.layouts import layout_of

OFFICIAL = "state-spaces/mamba2-130m"
CODESTRAL = "mistralai/Mamba-Codestral-7B-v0.1"
FALCON = "tiiuae/falcon-mamba-7b"

each = pytest.mark.parametrize("hub_id", ONE_OF_EACH)


def our_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What was written, as the oracle calls it: all weights, a tied head too."""
    found = {
        name.removeprefix("backbone.").replace("embeddings", "embedding"): tensor for name, tensor in tensors.items()
    }
    return {"lm_head.weight": found["embedding.weight"], **found}


def expected_logits(config: Mapping[str, Any], tensors: Mapping[str, Tensor], ids: Tensor) -> Tensor:
    """From the float64 oracle, by config.json and the tensors that were written: nothing of the package takes part."""
    in_float64 = {name: tensor.double() for name, tensor in our_names(tensors).items()}
    rows = len(in_float64["embedding.weight"])
    layers = of_transformers(config) if "model_type" in config else of_the_official_code(config)
    return language_model(in_float64, ids, layers, vocab_size=min(config["vocab_size"], rows))


def of_transformers(config: Mapping[str, Any]) -> list[Layer]:
    kind = {
        "mamba": Layer("mamba1", {}),
        "falcon_mamba": Layer("mamba1", {"b_c_dt_rms_eps": config.get("mixer_rms_eps", 1e-6)}),
        "mamba2": Layer("mamba2", {"ngroups": config.get("n_groups")}),
    }
    return [kind[config["model_type"]]] * config["num_hidden_layers"]


def of_the_official_code(config: Mapping[str, Any]) -> list[Layer]:
    name = config["ssm_cfg"].get("layer", "Mamba1").lower()
    fields = {"mamba3": ("rope_fraction", "ngroups", "A_floor")}.get(name, ())
    mixer = Layer(name, {field: config["ssm_cfg"][field] for field in fields})
    wanted = {name: config.get("attn_cfg", {}).get(name) for name in ("num_heads", "rotary_emb_dim")}
    attention = Layer("attention", wanted)
    return [attention if i in config.get("attn_layer_idx", []) else mixer for i in range(config["n_layer"])]


@each
@torch.no_grad()
def test_a_published_model_gives_the_logits_of_its_own_code(tmp_path: Path, hub_id: str) -> None:
    """Of transformers, where it has the family, reading the same folder; of the oracle in any case."""
    published = PUBLISHED[hub_id]
    tensors = published.write(tmp_path)
    model, ids = MambaLM.from_pretrained(tmp_path), random_ids(2, 23, vocab_size=250)
    found = model(ids)
    expected = expected_logits(read_config(tmp_path), tensors, ids)
    size = float(expected.abs().max())
    assert largest_difference([found], [expected]) <= 1e-5 * size
    alone = model(ids[:, -6:])[:, -1]
    assert largest_difference([found[:, -1]], [alone]) > 1e-3 * size, "what came before must count"
    if published.of_transformers:
        transformers = pytest.importorskip("transformers")
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
        assert largest_difference([found], [theirs(ids).logits]) <= 1e-5 * size


@each
def test_every_weight_is_the_one_in_the_file(tmp_path: Path, hub_id: str) -> None:
    """Rounded once, from whatever it is there; nothing is lost on the way to float32, which is what comes unasked."""
    tensors = our_names(PUBLISHED[hub_id].write(tmp_path))
    for dtype, asked in (
        (torch.float32, {}),
        *((dtype, {"dtype": dtype}) for dtype in (torch.bfloat16, torch.float16)),
    ):
        found = MambaLM.from_pretrained(tmp_path, **asked).state_dict()
        assert found.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert_same_bits(found[name], tensor.to(dtype), name)


# Sizes

AS_PUBLISHED = {  # how many parameters they are known to have
    "state-spaces/mamba-130m": 129_135_360,
    "state-spaces/mamba-2.8b": 2_768_345_600,
    "state-spaces/mamba3-siso-187m": 186_849_600,
    "state-spaces/mamba3-mimo-187m": 187_291_968,
    FALCON: 7_272_665_088,
    CODESTRAL: 7_285_403_648,
}


@pytest.mark.parametrize("hub_id", AS_PUBLISHED)
def test_the_true_sizes_make_models_of_the_published_size(hub_id: str) -> None:
    config = PUBLISHED[hub_id].config
    model = MambaLM(layout_of(config, "here").read_config(config, "here"), device="meta")
    assert model.num_parameters() == AS_PUBLISHED[hub_id]


@pytest.mark.parametrize("hub_id", PUBLISHED)
def test_every_tensor_has_the_shape_that_the_published_config_promises(hub_id: str) -> None:
    published = PUBLISHED[hub_id]
    layout = layout_of(published.config, "here")
    config = layout.read_config(published.config, "here")
    check_shapes(config, dict(renamed(published.shapes().items(), layout.our_name, "here")), "here")
    size = sum(math.prod(shape) for _, shape in shapes_of(config, "here"))
    assert size == published.parameters()
    stated = re.search(r"-([\d.]+)([mb])(-|$)", hub_id.lower())  # mamba2-2.7b, mamba3-siso-187m
    if stated is not None:
        assert size == pytest.approx(float(stated[1]) * {"m": 1e6, "b": 1e9}[stated[2]], rel=0.05)


# Quirks


def test_codestral_is_read_from_its_shards_though_the_same_lies_beside_them(tmp_path: Path) -> None:
    PUBLISHED[CODESTRAL].write(tmp_path)
    whole = MambaLM.from_pretrained(tmp_path)
    (tmp_path / "consolidated.safetensors").write_bytes(b"not opened")
    assert_same(MambaLM.from_pretrained(tmp_path), whole)


def test_codestral_is_read_from_the_file_of_mistral_where_that_is_all_or_asked_for(tmp_path: Path) -> None:
    PUBLISHED[CODESTRAL].write(tmp_path)
    assert "model.backbone.embedding.weight" in read(tmp_path, "consolidated.safetensors")
    whole = MambaLM.from_pretrained(tmp_path)
    assert_same(MambaLM.from_pretrained(tmp_path / "consolidated.safetensors"), whole)
    for path in [*tmp_path.glob("model-*"), tmp_path / "model.safetensors.index.json"]:
        path.unlink()
    assert_same(MambaLM.from_pretrained(tmp_path), whole)


@pytest.mark.parametrize("limit", ["Infinity", '{"__float__": "Infinity"}'])
def test_an_infinite_limit_is_read_however_it_is_written(tmp_path: Path, limit: str) -> None:
    PUBLISHED[CODESTRAL].write(tmp_path)
    text = (tmp_path / "config.json").read_text().replace("Infinity", limit)
    (tmp_path / "config.json").write_text(text)
    [mixer] = MambaLM.from_pretrained(tmp_path).config.mixer_fields_by_name.values()
    assert mixer.dt_limit == (0.0, math.inf)


@torch.no_grad()
def test_falcon_divides_by_the_epsilon_that_it_names(tmp_path: Path) -> None:
    ids = random_ids(1, 9)
    tensors = PUBLISHED[FALCON].write(tmp_path, mixer_rms_eps=0.3)
    expected = expected_logits(read_config(tmp_path), tensors, ids)
    size = float(expected.abs().max())
    assert largest_difference([MambaLM.from_pretrained(tmp_path)(ids)], [expected]) <= 1e-5 * size
    without = {key: value for key, value in read_config(tmp_path).items() if key != "mixer_rms_eps"}
    write_config(tmp_path, without)
    assert largest_difference([MambaLM.from_pretrained(tmp_path)(ids)], [expected]) > 1e-2 * size


@pytest.mark.parametrize("hub_id", [OFFICIAL, FALCON])
def test_a_head_that_is_not_tied_is_read_for_itself(tmp_path: Path, hub_id: str) -> None:
    tied = {"tie_embeddings": False} if hub_id == OFFICIAL else {}
    tensors = PUBLISHED[hub_id].write(tmp_path, **tied)
    model = MambaLM.from_pretrained(tmp_path)
    assert not torch.equal(tensors["lm_head.weight"], model.embedding.weight.to(tensors["lm_head.weight"].dtype))
    assert torch.equal(model.lm_head.weight, tensors["lm_head.weight"].float())


def test_a_tied_head_must_be_what_it_is_tied_to_whichever_comes_first(tmp_path: Path) -> None:
    tensors = PUBLISHED[OFFICIAL].write(tmp_path)
    other = {**tensors, "lm_head.weight": tensors["lm_head.weight"] + 1e-3}
    for state in (other, dict(reversed(other.items()))):
        write_bin(tmp_path, state)
        assert_refused(tmp_path, f"{tmp_path / 'pytorch_model.bin'}: lm_head.weight: expected the embedding's weights")
    write_bin(tmp_path, {name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"})
    assert torch.equal(MambaLM.from_pretrained(tmp_path).lm_head.weight, tensors["backbone.embedding.weight"])


def test_the_embedding_has_either_name_in_a_folder_of_transformers(tmp_path: Path) -> None:
    """Its own code renames the older one as it loads."""
    PUBLISHED["state-spaces/mamba-130m-hf"].write(tmp_path)
    model, weights = MambaLM.from_pretrained(tmp_path), read(tmp_path)
    write(tmp_path, {name.replace("embeddings", "embedding"): tensor for name, tensor in weights.items()})
    assert_same(MambaLM.from_pretrained(tmp_path), model)


# Files


def test_a_pickle_in_shards_is_read_as_one(tmp_path: Path) -> None:
    tensors = PUBLISHED[OFFICIAL].write(tmp_path)
    whole = MambaLM.from_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    write_shards(tmp_path, tensors, 3, pickled=True)
    assert len(list(tmp_path.glob("pytorch_model-0000?-of-00003.bin"))) == 3
    assert_same(MambaLM.from_pretrained(tmp_path), whole)


def test_safetensors_are_read_where_both_lie_there(tmp_path: Path) -> None:
    tensors = PUBLISHED[OFFICIAL].write(tmp_path)
    whole = MambaLM.from_pretrained(tmp_path)
    write_shards(tmp_path, {name: tensor.clone() for name, tensor in tensors.items()}, 2)
    (tmp_path / "pytorch_model.bin").write_bytes(b"not opened")
    assert_same(MambaLM.from_pretrained(tmp_path), whole)


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("pickled", [True, False], ids=["pickled", "safetensors"])
def test_a_file_of_the_folder_stands_for_the_model_that_has_it(tmp_path: Path, shards: int, pickled: bool) -> None:
    """Weights by their name are those, whatever else is there; config.json is the folder."""
    one = PUBLISHED[OFFICIAL].write(tmp_path / "a")
    other = {name: tensor + 1 for name, tensor in one.items()}
    write_shards(tmp_path / "a", other, 2)
    expected = MambaLM.from_pretrained(tmp_path / "a")
    assert_same(MambaLM.from_pretrained(tmp_path / "a" / "config.json"), expected)
    weights = tmp_path / "a" / ("pytorch_model.bin" if pickled else "model.safetensors.index.json")
    found = MambaLM.from_pretrained(str(weights))
    assert torch.equal(found.embedding.weight, (one if pickled else other)["backbone.embedding.weight"])


@pytest.mark.parametrize("name", ["README.md", "model.gguf", "generation_config.json", "model.safetensors.txt"])
def test_another_file_is_refused_with_what_is_read(tmp_path: Path, name: str) -> None:
    PUBLISHED[OFFICIAL].write(tmp_path)
    (tmp_path / name).write_text("{}")
    assert_refused(
        tmp_path / name, f"{tmp_path / name}: expected a folder, its config.json, or weights in it (.safeten"
    )


def test_the_config_is_what_is_published(tmp_path: Path) -> None:
    """Key by key, but for the sizes, which are made small."""
    for hub_id, published in PUBLISHED.items():
        published.write(tmp_path / hub_id)
        written = json.loads((tmp_path / hub_id / "config.json").read_text())
        assert written.keys() == published.config.keys() | published.small.keys() == published.config.keys()
