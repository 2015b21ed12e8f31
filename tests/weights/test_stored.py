"""Models whose matrices are stored in 8 or 4 bits: what they compute, where they come from, and what they refuse."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from support.families import FAMILIES, expected_logits, family_model
from support.oracle.mamba2 import relative_error
from support.small_models import random_ids, small_model
from torch.func import functional_call

from mamba2_lab import Mamba2LM, MambaLM, load_tokenizer
from mamba2_lab.data import Document, pack, standard_library
from mamba2_lab.machine.untrusted import CheckpointError
from mamba2_lab.operation import plainly
from mamba2_lab.text import ByteTokenizer
from mamba2_lab.training import TrainingConfig, bits_per_byte, fit, parameter_groups
from mamba2_lab.weights import WEIGHTS_NAME, with_weights
from mamba2_lab.weights.adapters import merge
from mamba2_lab.weights.build import shapes_of
from mamba2_lab.weights.stored import ROUNDED, description, number_of_weights, storage_of, stored_bytes

EACH = pytest.mark.parametrize("weights", ROUNDED)
LARGEST = {"int8": 0.28, "int4": 0.16}  # share of the bytes of float32
MOST_WORSE = {"int8": 0.003, "int4": 0.03}  # share of the bits per byte


def meant(model: MambaLM) -> dict[str, torch.Tensor]:
    """The weights that the oracle is to compute with: names of the model in floats, numbers as they are kept."""
    weights = {}
    for name, tensor in model.state_dict().items():
        owner, _, own = name.rpartition(".")
        if own in ("numbers", "scales"):
            weights[f"{owner}.weight"] = model.get_submodule(owner).weight
        else:
            weights[name] = tensor
    return weights


@EACH
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_every_family_reads_and_steps_as_the_oracle_does_with_the_weights_that_are_kept(family, weights) -> None:
    model, ids = family_model(family), random_ids(2, 9)
    stored = with_weights(model, weights)
    expected = expected_logits(model, ids, meant(stored))
    with plainly():
        assert relative_error(stored(ids), expected) <= 1e-5
    stepped, _ = stored.step(ids[:, -1], stored.prefill(ids[:, :-1])[1])
    for found in (stored(ids)[:, -1], stepped):  # few rows may go through bfloat16
        assert relative_error(found, expected[:, -1]) <= 2e-2
    assert relative_error(model(ids), expected) > 1e-3  # nor are they those that were given
    assert storage_of(stored) == weights and storage_of(model) is None
    assert number_of_weights(stored) == number_of_weights(model) == sum(p.numel() for p in model.parameters())


@EACH
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_saved_is_loaded_by_names_and_shapes_that_the_config_promises(family, weights, tmp_path) -> None:
    model, ids = family_model(family), random_ids(2, 9)
    model.save_pretrained(tmp_path / "floats")
    stored = MambaLM.from_pretrained(tmp_path / "floats", weights=weights)
    stored.save_pretrained(tmp_path / "stored")
    assert json.loads((tmp_path / "stored" / "config.json").read_text())["weights"] == weights
    for again in (
        MambaLM.from_pretrained(tmp_path / "stored"),
        MambaLM.from_pretrained(tmp_path / "stored", weights=weights),
        with_weights(MambaLM.from_pretrained(tmp_path / "floats"), weights),
    ):
        assert again.state_dict().keys() == stored.state_dict().keys()
        for name, tensor in again.state_dict().items():
            assert torch.equal(tensor, stored.state_dict()[name]), name
        with torch.no_grad():
            assert torch.equal(again(ids), stored(ids))
    tied = "lm_head." if model.config.tie_embeddings else "nothing"
    shapes = {name: tuple(p.shape) for name, p in stored.named_parameters() if not name.startswith(tied)}
    assert dict(shapes_of(model.config, "here", weights)) == shapes


@EACH
def test_files_and_memory_are_as_small_as_promised_and_reading_is_hardly_worse(weights, tmp_path) -> None:
    model, tokenizer = Mamba2LM.from_pretrained("medium"), load_tokenizer("medium")
    stored = Mamba2LM.from_pretrained("medium", weights=weights)
    stored.save_pretrained(tmp_path)
    floats = 4 * model.num_parameters()
    assert (tmp_path / WEIGHTS_NAME).stat().st_size <= LARGEST[weights] * floats
    assert stored_bytes(model) == floats and stored_bytes(stored) <= (LARGEST[weights] + 0.01) * floats
    assert stored.num_parameters() == model.num_parameters()
    held_out = [min(standard_library().held_out, key=lambda document: abs(document.bytes - 3000))]
    exact, found = (bits_per_byte(m, held_out, tokenizer) for m in (model, stored))
    assert exact * (1 - MOST_WORSE[weights]) <= found <= exact * (1 + MOST_WORSE[weights])


@EACH
@torch.no_grad()
def test_it_is_moved_copied_cast_and_called_as_any_model(weights) -> None:
    stored, ids = with_weights(small_model(), weights), random_ids(2, 9)
    expected = stored(ids)
    assert torch.equal(copy.deepcopy(stored)(ids), expected)
    assert torch.equal(functional_call(stored, dict(stored.named_parameters()), ids), expected)
    fresh = with_weights(small_model(seed=1), weights)
    fresh.load_state_dict(stored.state_dict())
    assert torch.equal(fresh(ids), expected)
    back = copy.deepcopy(stored).to(torch.bfloat16)
    assert back.dtype == back.prefill(ids)[1].layers[0].conv_window.dtype == torch.bfloat16
    assert relative_error(back(ids), expected.double()) <= 3e-2
    assert torch.equal(back.lm_head.scales.float(), stored.lm_head.scales)
    assert back.lm_head.numbers is back.embedding.numbers and back.lm_head.scales is back.embedding.scales
    cold = {"max_new_tokens": 8, "temperature": 0.0}
    assert torch.equal(stored.generate(ids, **cold), copy.deepcopy(stored).generate(ids, **cold))


@EACH
@pytest.mark.parametrize("family", FAMILIES)
def test_states_have_the_dtype_of_the_model_however_its_matrices_are_stored(family, weights) -> None:
    model = family_model(family).to(torch.bfloat16)
    stored = with_weights(model, weights)
    for layer, expected in zip(stored.new_cache(2).layers, model.new_cache(2).layers, strict=True):
        kept = {name: tensor.dtype for name, tensor in layer.tensors().items()}
        assert kept == {name: tensor.dtype for name, tensor in expected.tensors().items()}
        assert not layer.grows or kept["keys"] == kept["values"] == torch.bfloat16


@EACH
@torch.no_grad()
def test_a_compiled_step_multiplies_without_a_break(weights) -> None:
    stored = with_weights(small_model(d_model=64, headdim=16), weights)
    token, cache = random_ids(1, 1)[:, 0], stored.prefill(random_ids(1, 5))[1]
    expected, _ = stored.step(token, cache)
    stored.compile(backend="aot_eager", fullgraph=True)
    found, _ = stored.step(token, cache)
    stored.uncompile()
    assert relative_error(found, expected) <= 2e-2  # compiled, by kernels that round rows to bfloat16


@EACH
def test_the_given_model_stays_as_it_was(weights) -> None:
    model, fresh = small_model(), small_model()
    stored = with_weights(model, weights)
    with torch.no_grad():
        stored.norm_f.weight.zero_()
    assert all(map(torch.equal, model.parameters(), fresh.parameters()))
    assert all(p.requires_grad for p in model.parameters()) and not any(p.requires_grad for p in stored.parameters())


@EACH
def test_what_cannot_be_is_refused_at_once(weights, tmp_path: Path) -> None:
    stored = with_weights(small_model(), weights)
    tokens = pack([Document("a", "a text that is long enough")], ByteTokenizer())
    refused = {
        "be trained": [
            lambda: fit(stored, tokens, TrainingConfig(steps=1, batch_size=1, length=8), folder=tmp_path / "run"),
            lambda: parameter_groups(stored, 0.1),
        ],
        "be saved in another layout than ours, or converted": [
            lambda: stored.save_pretrained(tmp_path / "official", layout="official"),
            stored.to_transformers,
        ],
        "have an adapter added": [lambda: merge(tmp_path, stored)],
        "be stored in 8 or 4 bits": [lambda: with_weights(stored, weights)],
    }
    for what, calls in refused.items():
        for call in calls:
            expected = f"^model must have weights in floats to {what}; got a model whose weights are {weights}$"
            with pytest.raises(ValueError, match=expected):
                call()
    assert not list(tmp_path.iterdir())
    stored.save_pretrained(tmp_path)
    other = next(name for name in ROUNDED if name != weights)
    with pytest.raises(ValueError, match=f"^weights must be {weights}, as .* has them; got '{other}'$"):
        Mamba2LM.from_pretrained(tmp_path, weights=other)
    with pytest.raises(ValueError, match="^weights must be one of int8, int4 or None; got 'int2'$"):
        Mamba2LM.from_pretrained("small", weights="int2")


def spoil(folder: Path, **changes) -> None:
    """Write other tensors into a folder, by a part of their names."""
    tensors = safetensors.torch.load_file(folder / WEIGHTS_NAME)
    for name in tensors:
        tensors[name] = next((f(tensors[name]) for end, f in changes.items() if name.endswith(end)), tensors[name])
    safetensors.torch.save_file(tensors, folder / WEIGHTS_NAME)


@pytest.mark.parametrize(
    ("changes", "config", "message"),
    [
        ({"numbers": lambda t: t.view(torch.uint8)}, {}, "numbers: expected torch.int8; found torch.uint8"),
        ({"numbers": lambda t: t.float()}, {}, "numbers: expected a dtype of I8, U8; found F32"),
        ({"norm_f.weight": lambda t: t.to(torch.int8)}, {}, "norm_f.weight: expected a dtype of F64, F32, F16, BF16"),
        ({"scales": lambda t: t[:-1].clone()}, {}, "embedding.scales: expected shape"),
        ({}, {"weights": "int4"}, "embedding.scales: expected shape"),
        ({}, {"weights": None}, "embedding.weight: expected a tensor of shape"),
        ({}, {"weights": "int3"}, "weights: expected one of int8, int4; found 'int3'"),
        ({}, {"weights": ["int8"]}, "weights: expected one of int8, int4; found "),
    ],
)
def test_a_damaged_folder_is_told_by_file_and_key(changes, config, message, tmp_path) -> None:
    with_weights(small_model(d_model=32), "int8").save_pretrained(tmp_path)
    spoil(tmp_path, **changes)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    with pytest.raises(CheckpointError) as error:
        Mamba2LM.from_pretrained(tmp_path)
    assert str(tmp_path) in str(error.value) and message in str(error.value)


@EACH
def test_its_card_says_how_it_is_stored_and_what_is_not(weights) -> None:
    card = with_weights(small_model(), weights).push_to_hub("owner/name").card
    assert f"\n\nIts weights are stored as {description(weights)}.\n\n" in card
    assert description(weights).startswith(f"{weights}: ") and "norms" in description(weights)
    assert "stored" not in small_model().push_to_hub("owner/name").card
