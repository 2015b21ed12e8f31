"""Weights in 8 bits: near what they were, a quarter as large, and the model they come from left alone."""

import sys
from pathlib import Path

import pytest
import torch
from support.families import OF_EACH_GENERATION, expected_logits, family_model
from support.oracle.mamba2 import relative_error
from support.small_models import random_ids

from mamba2_lab import Mamba2LM, load_tokenizer
from mamba2_lab.data import Document, pack, standard_library
from mamba2_lab.text import ByteTokenizer
from mamba2_lab.training import TrainingConfig, bits_per_byte, fit, parameter_groups
from mamba2_lab.weights.int8 import int8_weights, stored_bytes


@pytest.fixture(scope="module")
def model() -> Mamba2LM:
    return Mamba2LM.from_pretrained("small")


@pytest.fixture(scope="module")
def smaller(model: Mamba2LM) -> Mamba2LM:
    pytest.importorskip("torchao")
    return int8_weights(model)


def test_each_weight_is_off_by_half_a_step_at_most(model: Mamba2LM, smaller: Mamba2LM) -> None:
    """A row has 127 steps from zero to its largest weight."""
    matrices = 0
    for name, module in smaller.named_modules():
        if not isinstance(module, torch.nn.Linear):
            continue
        exact = model.get_submodule(name).weight.detach()
        step = exact.abs().amax(dim=1, keepdim=True) / 127
        assert ((module.weight.dequantize() - exact).abs() <= 0.51 * step).all(), name
        matrices += 1
    assert matrices == 2 * model.config.n_layer + 1


def test_they_take_a_quarter_of_the_bytes(model: Mamba2LM, smaller: Mamba2LM) -> None:
    assert stored_bytes(model) == 4 * model.num_parameters()
    linears = [module.weight for module in model.modules() if isinstance(module, torch.nn.Linear)]
    rest = stored_bytes(model) - sum(weight.nbytes for weight in linears[:-1])  # the head is the embedding
    scale_and_zero = 4 + 1  # of each row: torchao keeps the zero too, though it is 0
    assert stored_bytes(smaller) == rest + sum(weight.numel() + scale_and_zero * weight.shape[0] for weight in linears)
    assert stored_bytes(smaller) < 0.31 * stored_bytes(model)


@torch.no_grad()
def test_a_compiled_step_of_one_row_computes_with_them_too(smaller: Mamba2LM) -> None:
    token, cache = random_ids(1, 1)[:, 0], smaller.prefill(random_ids(1, 5))[1]
    expected, _ = smaller.step(token, cache)
    smaller.compile(backend="aot_eager", fullgraph=True)
    found, _ = smaller.step(token, cache)
    smaller.uncompile()
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_the_model_reads_hardly_worse_and_all_paths_agree(model: Mamba2LM, smaller: Mamba2LM) -> None:
    held_out = [min(standard_library().held_out, key=lambda document: abs(document.bytes - 3000))]
    tokenizer = load_tokenizer("small")
    exact, found = (bits_per_byte(m, held_out, tokenizer) for m in (model, smaller))
    assert 0 < abs(found - exact) < 0.01
    ids = random_ids(2, 20)
    logits = smaller(ids)
    stepped, _ = smaller.step(ids[:, -1], smaller.prefill(ids[:, :-1])[1])
    assert relative_error(stepped, logits[:, -1].double()) <= 1e-4


@pytest.mark.parametrize("family", OF_EACH_GENERATION)
@torch.no_grad()
def test_every_family_reads_and_steps_as_the_oracle_does_with_the_weights_that_are_kept(family: str) -> None:
    pytest.importorskip("torchao")
    model, ids = family_model(family), random_ids(2, 9)
    smaller = int8_weights(model)
    kept = {name: p.dequantize() if hasattr(p, "dequantize") else p for name, p in smaller.state_dict().items()}
    expected = expected_logits(model, ids, kept)
    assert relative_error(smaller(ids), expected) <= 1e-5
    stepped, _ = smaller.step(ids[:, -1], smaller.prefill(ids[:, :-1])[1])
    assert relative_error(stepped, expected[:, -1]) <= 1e-5
    assert relative_error(model(ids), expected) > 1e-3  # nor are they those that were given


def test_the_given_model_stays_as_it_was(model: Mamba2LM, smaller: Mamba2LM) -> None:
    fresh = Mamba2LM.from_pretrained("small")
    assert all(map(torch.equal, model.parameters(), fresh.parameters()))
    assert model.lm_head.weight is model.embedding.weight


def test_without_torchao_it_is_said_how_to_get_it(model: Mamba2LM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(ImportError, match="weights in 8 bits need torchao: pip install"):
        int8_weights(model)


def test_they_are_refused_at_once_where_they_would_be_trained_or_saved(smaller: Mamba2LM, tmp_path: Path) -> None:
    tokens = pack([Document("a", "a text that is long enough")], ByteTokenizer())
    refused = {
        "be trained": [
            lambda: fit(smaller, tokens, TrainingConfig(steps=1, batch_size=1, length=8), folder=tmp_path / "run"),
            lambda: parameter_groups(smaller, 0.1),
        ],
        "be saved or converted": [
            lambda: smaller.save_pretrained(tmp_path / "model"),
            lambda: smaller.save_pretrained(tmp_path / "official", layout="official"),
            smaller.to_transformers,
        ],
    }
    for what, calls in refused.items():
        for call in calls:
            expected = (
                f"^model must have weights of whole precision to {what}; got weights in 8 bits, from int8_weights$"
            )
            with pytest.raises(ValueError, match=expected):
                call()
    assert not list(tmp_path.iterdir())
