"""Whole models of every family, on every path by which tokens can be read: all give the float64 oracle's numbers."""

from __future__ import annotations

import pytest
import torch
from support.devices import DEVICE, WIDEST
from support.families import OF_EACH_GENERATION, each_family, expected_logits, family_model
from support.oracle.mamba2 import largest_difference, raises
from support.small_models import random_ids
from torch import Tensor
from torch.func import functional_call

from mamba2_lab import Mamba2Cache, MambaLM
from mamba2_lab.benchmark.clock import peak_bytes
from mamba2_lab.model import network

EXACT = 1e-11 if WIDEST == torch.float64 else 1e-4
L = 13


def exact_model(family: str) -> MambaLM:
    return family_model(family).to(WIDEST)


def by_steps(model: MambaLM, input_ids: Tensor, cache: Mamba2Cache) -> tuple[Tensor, Mamba2Cache]:
    """Logits at every position, one token at a time."""
    read = []
    for tokens in input_ids.unbind(1):
        logits, cache = model.step(tokens, cache)
        read.append(logits)
    return torch.stack(read, dim=1), cache


def assert_equal(found: Tensor, expected: Tensor, within: float = EXACT) -> None:
    """To `within` of the largest logit."""
    assert largest_difference([found], [expected]) <= within * float(expected.abs().max())


def tensors(cache: Mamba2Cache) -> list[Tensor]:
    return [part for layer in cache.layers for part in layer.tensors().values()] + [cache.tokens_read]


@each_family
@torch.no_grad()
def test_forward_gives_the_numbers_of_the_oracle_and_float32_nearly(family: str) -> None:
    model, ids = exact_model(family), random_ids(2, L)
    expected = expected_logits(model, ids)
    assert_equal(model(ids), expected)
    assert_equal(model.float()(ids), expected, 1e-4)


@each_family
@torch.no_grad()
def test_pieces_and_steps_from_every_index_give_the_same(family: str) -> None:
    model, ids = exact_model(family), random_ids(2, L)
    expected = expected_logits(model, ids)
    for cut in range(1, L):
        last, cache = model.prefill(ids[:, :cut])
        assert_equal(last, expected[:, cut - 1])
        rest, after = model.prefill(ids[:, cut:], cache, all_positions=True)
        assert_equal(rest, expected[:, cut:])
        stepped, also_after = by_steps(model, ids[:, cut:], cache)
        assert_equal(stepped, expected[:, cut:])
        assert largest_difference(tensors(also_after), tensors(after)) <= 100 * EXACT
        assert after.tokens_read.tolist() == [L, L]


@each_family
@torch.no_grad()
def test_rows_with_padding_anywhere_are_as_each_row_alone(family: str) -> None:
    model, ids = exact_model(family), random_ids(4, L)
    mask = torch.ones(4, L, dtype=torch.bool)
    mask[0, :5], mask[1, 4:], mask[2, 3:6], mask[2, 9] = False, False, False, False
    logits = model(ids, attention_mask=mask)
    for row in range(4):
        alone = ids[row, mask[row]][None]
        assert_equal(logits[row, mask[row]][None], expected_logits(model, alone))


@each_family
@torch.no_grad()
def test_reading_on_behind_padding_goes_on_from_the_last_real_token(family: str) -> None:
    model, ids, more = exact_model(family), random_ids(3, 9), random_ids(3, 5, seed=1)
    mask = torch.arange(9) < torch.tensor([[9], [1], [4]])
    again = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [0, 1, 0, 1, 0]]).bool()
    last, cache = model.prefill(ids, attention_mask=mask)
    then, cache = model.prefill(more, cache, attention_mask=again)
    stepped, cache = model.step(more[:, 0], cache)
    assert cache.tokens_read.tolist() == [13, 5, 7]
    for row in range(3):
        read = torch.cat([ids[row, mask[row]], more[row, again[row]], more[row, :1]])[None]
        expected = expected_logits(model, read)[0]
        n = int(mask[row].sum())
        assert_equal(last[row], expected[n - 1])
        assert_equal(then[row], expected[-2])
        assert_equal(stepped[row], expected[-1])


@each_family
@torch.no_grad()
def test_packed_documents_are_as_each_document_alone(family: str) -> None:
    model, ids = exact_model(family), random_ids(2, L)
    documents = torch.tensor([[0] * 6 + [1] * 7, [3] * 1 + [2] * 8 + [3] * 4])
    logits, cache = model.prefill(ids, document_ids=documents, all_positions=True)
    assert_equal(model(ids, document_ids=documents), logits)
    for row, bounds in enumerate([[0, 6, 13], [0, 1, 9, 13]]):
        for start, end in zip(bounds, bounds[1:], strict=False):
            assert_equal(logits[row : row + 1, start:end], expected_logits(model, ids[row : row + 1, start:end]))
    stepped, _ = model.step(ids[:, 0], cache)
    for row, start in enumerate([6, 9]):
        read = torch.cat([ids[row, start:], ids[row, :1]])[None]
        assert_equal(stepped[row], expected_logits(model, read)[0, -1])


@each_family
@torch.no_grad()
def test_documents_with_padding_among_them_are_as_each_document_alone(family: str) -> None:
    model, ids = exact_model(family), random_ids(1, L)
    documents = torch.tensor([[0] * 6 + [1] * 7])
    mask = torch.tensor([[0, 0, 1, 1, 0, 1, 1, 0, 1, 1, 1, 1, 0]]).bool()
    logits = model(ids, attention_mask=mask, document_ids=documents)
    for document in (0, 1):
        own = mask & (documents == document)
        assert_equal(logits[own][None], expected_logits(model, ids[own][None]))


@each_family
@torch.no_grad()
def test_a_long_text_in_pieces_is_read_as_at_once(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = exact_model(family), random_ids(2, 19)
    mask = torch.arange(19) >= torch.tensor([[0], [7]])
    expected = model(ids, attention_mask=mask)
    monkeypatch.setattr(network, "tokens_per_piece", lambda *given: 4)
    shares: list[float] = []
    logits, _ = model.prefill(ids, attention_mask=mask, all_positions=True, on_progress=shares.append)
    for row in range(2):
        assert_equal(logits[row, mask[row]], expected[row, mask[row]].cpu())
    assert len(shares) == 5 * model.config.n_layer and shares[-1] == 1


@pytest.mark.skipif(DEVICE.type == "mps", reason="nothing counts a peak there")
@each_family
@torch.no_grad()
def test_reading_on_takes_no_more_memory_but_where_a_layer_attends(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept of a text apart, a piece takes what the one before it took; attention looks back at all of them."""
    model, ids = family_model(family), random_ids(2, 2048)
    monkeypatch.setattr(network, "tokens_per_piece", lambda *given: 64)
    model.prefill(ids[:, :128])
    longer, longest = (peak_bytes(lambda: model.prefill(ids[:, :l]), DEVICE) for l in (1024, 2048))  # noqa: B023
    if "attention" in model.config.mixer_fields_by_name:
        assert longer < longest <= 2.2 * longer  # by so much for each token; for each pair of them it would be 4
    else:
        assert longest == longer


# The cache is a value


@each_family
@torch.no_grad()
def test_rows_of_a_cache_can_be_reordered_and_repeated_as_beam_search_does(family: str) -> None:
    """Two rows become four, then three of these go on: each as if it had been read alone."""
    model, ids = exact_model(family), random_ids(2, 5)
    histories = [row.tolist() for row in ids]
    _, cache = model.prefill(ids)
    for rows, seed in (([1, 0, 1, 1], 1), ([3, 0, 0], 2), ([2, 1], 3)):
        cache = cache.select(rows)
        tokens = random_ids(len(rows), seed=seed)
        histories = [[*histories[row], int(token)] for row, token in zip(rows, tokens, strict=True)]
        logits, cache = model.step(tokens, cache)
        assert_equal(logits, expected_logits(model, torch.tensor(histories))[:, -1])


@each_family
@torch.no_grad()
def test_reading_on_twice_leaves_the_given_cache_as_it_was(family: str) -> None:
    model, ids = exact_model(family), random_ids(2, 7)
    _, cache = model.prefill(ids)
    kept = [tensor.clone() for tensor in tensors(cache)]
    for seed in (1, 2):  # the second goes on from where somebody went on before
        more = random_ids(2, 3, seed=seed)
        stepped, _ = by_steps(model, more, cache)
        assert_equal(stepped, expected_logits(model, torch.cat([ids, more], 1))[:, 7:])
        assert all(map(torch.equal, tensors(cache), kept))


@each_family
@torch.no_grad()
def test_a_clone_shares_no_memory_and_its_bytes_are_those_of_the_tensors(family: str) -> None:
    model, ids = exact_model(family), random_ids(2, 7)
    _, cache = model.prefill(ids)
    clone = cache.clone().to("cpu").to(DEVICE)
    assert cache.nbytes == sum(part.nbytes for layer in cache.layers for part in layer.tensors().values())
    logits, _ = model.step(ids[:, 0], cache)
    for tensor in tensors(cache):
        tensor.zero_()
    assert_equal(model.step(ids[:, 0], clone)[0], logits.cpu())


@torch.no_grad()
def test_bytes_grow_with_the_text_where_a_layer_attends_and_nowhere_else() -> None:
    for family in OF_EACH_GENERATION:
        model = family_model(family)
        few, many = (model.prefill(random_ids(1, l))[1].nbytes for l in (5, 10))
        # keys and values of two heads of 6 channels in float32, and a byte that says they are real; in two layers
        assert many - few == (2 * 5 * (2 * 2 * 6 * 4 + 1) if family == "attention" else 0), family


@each_family
@torch.no_grad()
def test_a_cache_keeps_nothing_of_what_was_read_but_itself(family: str) -> None:
    """A view of what was computed for a long prompt would keep all of that; states that grow have room to spare."""
    model, ids = family_model(family), random_ids(2, 40)
    _, read = model.prefill(ids)
    for _, cache in (model.prefill(ids[:, :1], read), model.step(ids[:, 0], read)):
        for layer in (*read.layers, *cache.layers):
            for name, tensor in layer.tensors().items():
                assert tensor.untyped_storage().nbytes() <= 2 * tensor.nbytes, name


def test_a_cache_of_another_family_is_refused_by_the_layer_and_what_it_holds() -> None:
    attention, mamba3 = family_model("attention"), family_model("mamba3-siso")
    with raises(ValueError, "cache.layers[0] must hold ssm_state, turns, last_k, last_x; got keys, values, real"):
        mamba3.step(random_ids(1), attention.new_cache())
    with raises(ValueError, "cache.layers[0] must hold keys, values, real, conv_window; got ssm_state, turns"):
        attention.prefill(random_ids(1, 3), mamba3.new_cache())


# Gradients, dtypes, transforms


@each_family
def test_gradients_are_those_of_finite_differences_and_blocks_computed_again_give_the_same(family: str) -> None:
    model, ids = family_model(family).cpu().double(), random_ids(2, 9)  # which need float64
    documents = (torch.arange(9) // 5).expand(2, 9)
    weight = torch.randn(2, 9, 257, dtype=torch.float64)

    def loss() -> Tensor:
        return (model(ids, document_ids=documents) * weight).sum()

    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss(), parameters)
    model.checkpoint_blocks = True
    again = torch.autograd.grad(loss(), parameters)
    assert largest_difference(again, gradients) <= 1e-9
    with torch.no_grad():  # along one random direction, all weights at once
        directions = [torch.randn_like(parameter) for parameter in parameters]
        slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
        ends = []
        for sign in (1, -1):
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter += sign * 1e-6 * direction
            ends.append(float(loss()))
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter -= sign * 1e-6 * direction
    assert abs((ends[0] - ends[1]) / 2e-6 - slope) <= 1e-6 * max(1.0, abs(slope))


@each_family
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@torch.no_grad()
def test_weights_of_16_bits_read_nearly_the_same_and_remember_in_float32(family: str, dtype: torch.dtype) -> None:
    model, ids = family_model(family, spread=0.1).to(dtype), random_ids(2, L)
    expected = expected_logits(model, ids)  # of the rounded weights
    within = 0.1 if dtype == torch.bfloat16 else 0.02
    logits, cache = model.prefill(ids[:, :9], all_positions=True)
    assert logits.dtype == torch.float32
    assert_equal(logits, expected[:, :9], within)
    stepped, cache = by_steps(model, ids[:, 9:], cache)
    assert_equal(stepped, expected[:, 9:], within)
    for layer in cache.layers:
        memory = [getattr(layer, name) for name in ("ssm_state", "turns", "last_k") if hasattr(layer, name)]
        assert all(tensor.dtype == torch.float32 for tensor in memory)


@each_family
def test_under_autocast_it_reads_writes_and_learns_nearly_the_same(family: str) -> None:
    model, ids = family_model(family, spread=0.1), random_ids(2, L)
    expected = expected_logits(model, ids)
    with torch.autocast(DEVICE.type, torch.bfloat16):
        logits = model(ids)
        assert logits.dtype == torch.float32
        with torch.no_grad():
            _, cache = model.prefill(ids[:, :9])
            stepped, _ = by_steps(model, ids[:, 9:], cache)
    assert_equal(logits, expected, 0.1)
    assert_equal(stepped, expected[:, 9:], 0.1)
    gradients = torch.autograd.grad(logits.square().mean(), list(model.parameters()))
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


@each_family
def test_called_as_a_function_of_its_weights_it_gives_the_same_and_its_gradients(family: str) -> None:
    model, ids = exact_model(family), random_ids(2, 7)
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return functional_call(model, weights, (ids,)).square().mean()

    gradients = torch.func.grad(loss)(weights)
    expected = torch.autograd.grad(model(ids).square().mean(), list(model.parameters()))
    assert_equal(functional_call(model, weights, (ids,)), model(ids).detach().cpu())
    assert largest_difference(gradients.values(), expected) <= 100 * EXACT
