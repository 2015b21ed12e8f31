"""What a model of attention and Mamba-2 remembers: some of it grows, and all of it is a value."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from support.devices import DEVICE, EXACT, WIDEST
from support.oracle import attention, mamba2
from support.oracle.mamba2 import perturb, raises, relative_error
from torch import Tensor

from mamba2_lab import Mamba2Cache, Mamba2LM
from mamba2_lab.config import MambaConfig
from mamba2_lab.layers import AttentionState

HEADS: dict[str, Any] = {"num_heads": 4, "rotary_emb_dim": 4}
CONFIG = MambaConfig(
    d_model=16,
    n_layer=3,
    vocab_size=29,
    mixers=["attention", "mamba2", "attention"],
    attention={**HEADS, "num_heads_kv": 2, "d_conv": 3},
    mamba2={"d_state": 5, "headdim": 8},
)
PER_TOKEN = 2 * (2 * 2 * 4 * WIDEST.itemsize + 1)  # layers; keys and values, heads, channels; and whether it is real


@pytest.fixture(scope="module")
def model() -> Mamba2LM:
    return perturb(Mamba2LM(CONFIG, seed=0)).to(WIDEST).to(DEVICE).eval()


@pytest.fixture
def cache(model: Mamba2LM) -> Mamba2Cache:
    """Four rows that have read 9, 2, 9 and 5 tokens, and one more."""
    mask = torch.arange(9) < torch.tensor([[9], [2], [9], [5]])
    with torch.no_grad():
        _, cache = model.prefill(torch.randint(0, 29, (4, 9)), attention_mask=mask)
        return model.step(torch.tensor([3, 1, 4, 1]), cache)[1]


def tensors(cache: Mamba2Cache) -> list[Tensor]:
    return [part for layer in cache.layers for part in layer.tensors().values()] + [cache.tokens_read]


def assert_identical(one: Mamba2Cache, other: Mamba2Cache) -> None:
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(tensors(one), tensors(other), strict=True))


def expected_of(model: Mamba2LM, input_ids: Tensor) -> Tensor:
    """Logits (b,l,vocab_size), from the oracles of the mixers."""
    weights = {name: weight.cpu().double() for name, weight in model.state_dict().items()}

    def normed(u: Tensor, name: str) -> Tensor:
        return u / torch.sqrt(u.square().mean(-1, keepdim=True) + 1e-5) * weights[name]

    u = weights["embedding.weight"][input_ids]
    for i, name in enumerate(CONFIG.mixers):
        prefix = f"layers.{i}.mixer."
        own = {key.removeprefix(prefix): weight for key, weight in weights.items() if key.startswith(prefix)}
        v = normed(u, f"layers.{i}.norm.weight")
        u = u + (attention.mixer(own, v, **HEADS)[0] if name == "attention" else mamba2.mixer(own, v)[0])
    return (normed(u, "norm_f.weight") @ weights["lm_head.weight"].T)[..., :29]


def read_in_steps(model: Mamba2LM, ids: Tensor, cache: Mamba2Cache) -> tuple[Tensor, Mamba2Cache]:
    for tokens in ids.unbind(1):
        logits, cache = model.step(tokens, cache)
    return logits, cache


@torch.no_grad()
def test_one_cache_continued_in_two_ways_gives_what_each_text_alone_gives(model: Mamba2LM) -> None:
    start, *rests = (torch.randint(0, 29, (2, l)) for l in (6, 40, 50))
    _, cache = read_in_steps(model, start, model.new_cache(2))
    kept = cache.clone()
    for rest in (*rests, rests[0]):
        expected = expected_of(model, torch.cat([start, rest], 1))[:, -1]
        for read in (model.prefill, lambda rest, cache: read_in_steps(model, rest, cache)):
            assert relative_error(read(rest, cache)[0], expected) <= EXACT
            assert_identical(cache, kept)


@torch.no_grad()
def test_ragged_rows_go_on_as_each_row_alone(model: Mamba2LM) -> None:
    """Padding to the left, to the right, in between; then more of it; then token by token."""
    parts = [torch.randint(0, 29, (3, l)) for l in (8, 5, 3)]
    masks = [torch.rand(3, l) < 0.7 for l in (8, 5, 3)]
    masks[0][:, 3], masks[1][:, 1], masks[2][:] = True, True, True
    _, cache = model.prefill(parts[0], attention_mask=masks[0])
    _, cache = model.prefill(parts[1], cache, attention_mask=masks[1])
    found, cache = read_in_steps(model, parts[2], cache)
    ids, real = torch.cat(parts, 1), torch.cat(masks, 1)
    assert cache.tokens_read.tolist() == real.sum(1).tolist()
    for row in range(3):
        assert relative_error(found[row], expected_of(model, ids[None, row, real[row]])[0, -1]) <= EXACT


@torch.no_grad()
def test_its_bytes_grow_by_a_key_and_a_value_for_each_token(model: Mamba2LM) -> None:
    cache = model.new_cache(2)
    empty = cache.nbytes
    for step in (1, 7, 40):
        _, cache = model.prefill(torch.zeros(2, step, dtype=torch.long), cache)
        assert cache.nbytes == empty + 2 * PER_TOKEN * int(cache.tokens_read[0])
    _, cache = model.step(torch.zeros(2, dtype=torch.long), cache)
    assert cache.nbytes == empty + 2 * PER_TOKEN * 49


@pytest.mark.parametrize("rows", [[2], [3, 0], [1, 1, 1, 0, 3, 2], [], torch.tensor([2, 2])], ids=str)
@torch.no_grad()
def test_selected_rows_go_on_as_they_would_have(model: Mamba2LM, cache: Mamba2Cache, rows: list[int] | Tensor) -> None:
    kept, selected, chosen = cache.clone(), cache.select(rows), [int(row) for row in rows]
    assert selected.batch_size == len(chosen)
    if chosen:
        ids = torch.randint(0, 29, (4, 3))
        expected, end = read_in_steps(model, ids, cache)
        found, own_end = read_in_steps(model, ids[chosen], selected)
        assert relative_error(found, expected[chosen]) <= EXACT
        assert own_end.nbytes * 4 == end.nbytes * len(chosen)
    for tensor in tensors(selected):
        tensor.fill_(1)
    assert_identical(cache, kept)


@pytest.mark.parametrize("copied", [Mamba2Cache.clone, copy.deepcopy], ids=["clone", "deepcopy"])
@torch.no_grad()
def test_a_copy_is_the_same_and_goes_on_by_itself(model: Mamba2LM, cache: Mamba2Cache, copied: Any) -> None:
    kept, twin, ids = cache.clone(), copied(cache), torch.randint(0, 29, (4, 2))
    assert_identical(twin, cache)
    read_in_steps(model, ids.flip(0), twin)
    found, _ = read_in_steps(model, ids, twin)
    assert relative_error(found, read_in_steps(model, ids, cache)[0]) <= EXACT
    for tensor in tensors(twin):
        tensor.fill_(1)
    assert_identical(cache, kept)


@torch.no_grad()
def test_what_is_kept_is_not_a_view_that_keeps_everything(model: Mamba2LM) -> None:
    """nbytes would not show it; the memory would. Room for more is at most as large as what there is."""
    _, cache = model.prefill(torch.zeros(1, 200, dtype=torch.long))
    _, stepped = model.step(torch.zeros(1, dtype=torch.long), cache)
    for one in (cache, stepped):
        held = {part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in tensors(one)}
        assert sum(held.values()) <= 2 * one.nbytes


@torch.no_grad()
def test_an_erased_memory_is_forgotten(model: Mamba2LM, cache: Mamba2Cache) -> None:
    """All of it set to zero: nothing is real, and the row starts anew."""
    found, _ = model.step(torch.tensor([3, 1, 4, 1]), cache.map(torch.zeros_like))
    assert relative_error(found, expected_of(model, torch.tensor([[3], [1], [4], [1]]))[:, 0]) <= EXACT


@torch.no_grad()
def test_a_cache_that_does_not_fit_is_refused_by_name(model: Mamba2LM, cache: Mamba2Cache) -> None:
    keys, values, real, window = cache.layers[2].tensors().values()
    tokens = torch.zeros(4, dtype=torch.long)
    with raises(ValueError, "cache.layers[2].values must have shape (4, 9, 2, 4); got (4, 10, 2, 4)"):
        model.step(tokens, cache.replace_layer(2, AttentionState(keys[:, :9], values, real, window)))
    with raises(ValueError, "cache.layers[1] must hold conv_window, ssm_state; got keys, values, real, conv_window"):
        model.step(tokens, cache.replace_layer(1, cache.layers[0]))
