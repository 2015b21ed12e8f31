"""Surgery on a cache: what it changes, what it leaves alone, and what is read afterwards, by the float64 model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.caches import MODEL, assert_identical, cache_after, tensors
from support.devices import DEVICE
from support.oracle import mamba2 as oracle
from support.oracle.mamba2 import array, raises, relative_error
from support.small_models import random_ids, small_model
from torch import Tensor

from mamba2_lab import LayerState, Mamba2Cache, stream
from mamba2_lab.inspect import erase, erase_windows, inject, load_cache, save_cache, swap, trace

LAYERS, HEADS, P, N = 2, 4, 8, 8

wheres = st.one_of(
    st.just((None, None)),
    st.tuples(st.integers(0, LAYERS - 1), st.none()),
    st.tuples(st.integers(0, LAYERS - 1), st.integers(0, HEADS - 1)),
)
Where = tuple[int | None, int | None]


def chosen(where: Where) -> list[tuple[int, int]]:
    """The (layer, head) pairs that `where` names."""
    layer, head = where
    pairs = [(i, j) for i in range(LAYERS) for j in range(HEADS)]
    return [(i, j) for i, j in pairs if layer in (None, i) and head in (None, j)]


def assert_only_changed(after: Mamba2Cache, before: Mamba2Cache, where: Where) -> None:
    """Windows, tokens_read and the states of all other heads are bit for bit as they were."""
    assert torch.equal(after.tokens_read, before.tokens_read)
    for i in range(LAYERS):
        assert torch.equal(after.layers[i].conv_window, before.layers[i].conv_window)
        for j in range(HEADS):
            if (i, j) not in chosen(where):
                assert torch.equal(after.layers[i].ssm_state[:, j], before.layers[i].ssm_state[:, j])


def logits_by_hand(cache: Mamba2Cache, ids: Tensor) -> Tensor:
    """What the float64 model says after reading ids (b,l) from this cache: (b,l,v)."""
    before = [oracle.Memory(layer.conv_window, layer.ssm_state) for layer in cache.layers]
    return oracle.language_model(MODEL.state_dict(), ids, vocab_size=257, before=before, ngroups=2)[0]


# Nothing that should not change does


@given(where=wheres, l=st.integers(1, 12), b=st.integers(1, 3), seed=st.integers(0, 1000))
def test_surgery_with_the_identity_changes_nothing(where: Where, l: int, b: int, seed: int) -> None:
    one = cache_after(l, b, seed)
    layer, head = where
    for same in swap(one, one, layer, head):
        assert_identical(same, one)
    nothing = inject(one, layer or 0, head or 0, torch.randn(N), torch.randn(P), strength=0.0)
    assert_identical(nothing, one)


@given(where=wheres, seed=st.integers(0, 1000))
def test_only_the_chosen_heads_change_and_no_cache_is_written_to(where: Where, seed: int) -> None:
    one, other = cache_after(5, 2, seed), cache_after(7, 2, seed + 1)
    kept = one.clone(), other.clone()
    erased, (first, second) = erase(one, *where), swap(one, other, *where)
    for changed, before in ((erased, one), (first, one), (second, other)):
        assert_only_changed(changed, before, where)
    for i, j in chosen(where):
        a, b = one.layers[i].ssm_state[:, j], other.layers[i].ssm_state[:, j]
        assert erased.layers[i].ssm_state[:, j].count_nonzero() == 0 < a.count_nonzero()
        assert torch.equal(first.layers[i].ssm_state[:, j], b)
        assert torch.equal(second.layers[i].ssm_state[:, j], a)
    assert_identical(one, kept[0])
    assert_identical(other, kept[1])


@given(where=wheres, seed=st.integers(0, 1000))
def test_to_swap_twice_is_to_do_nothing(where: Where, seed: int) -> None:
    one, other = cache_after(5, 2, seed), cache_after(7, 2, seed + 1)
    first, second = swap(*swap(one, other, *where), *where)
    assert_identical(first, one)
    assert_identical(second, other)


@torch.no_grad()
def test_learned_initial_states_are_not_written_through() -> None:
    model = small_model(learnable_init_states=True)
    before = [parameter.clone() for parameter in model.parameters()]
    cache = model.new_cache(2)
    for edited in (erase(cache, 0, 1), inject(cache, 0, 1, torch.ones(N), torch.ones(P))):
        assert not torch.equal(edited.layers[0].ssm_state, cache.layers[0].ssm_state)
    assert all(map(torch.equal, before, model.parameters()))


# What is read afterwards


@torch.no_grad()
@pytest.mark.parametrize("l", [1, 2, 9])
def test_with_states_and_windows_erased_reading_on_is_reading_afresh(l: int) -> None:
    cache, ids = cache_after(9, b=2), random_ids(2, l, seed=5)
    blank = erase_windows(erase(cache))
    expected, _ = oracle.language_model(MODEL.state_dict(), ids, vocab_size=257, ngroups=2)
    found, after = MODEL.prefill(ids, blank, all_positions=True)
    assert relative_error(found, expected) <= 1e-11
    assert after.tokens_read.tolist() == [9 + l, 9 + l]  # it still counts what was read before


@torch.no_grad()
def test_with_states_erased_only_the_window_speaks_and_in_the_first_layer_for_three_tokens_only() -> None:
    cache, ids = cache_after(9), random_ids(1, 8, seed=5)
    erased = erase(cache)
    found, _ = MODEL.prefill(ids, erased, all_positions=True)
    assert relative_error(found, logits_by_hand(erased, ids)) <= 1e-11
    afresh = MODEL(ids)
    assert relative_error(found, afresh) > 1e-2
    from_erased, from_nothing = (trace(MODEL, ids, before).layers[0] for before in (erased, None))
    difference = (from_erased.x - from_nothing.x).flatten(1).norm(dim=1)
    assert (difference[:3] > 1e-3).all() and difference[3:].count_nonzero() == 0


def test_erased_windows_are_those_of_one_layer_or_of_all() -> None:
    cache = cache_after(9)
    one = erase_windows(cache, 1)
    assert one.layers[0] is cache.layers[0]
    assert one.layers[1].ssm_state is cache.layers[1].ssm_state
    assert one.layers[1].conv_window.count_nonzero() == 0 < cache.layers[1].conv_window.count_nonzero()
    assert all(layer.conv_window.count_nonzero() == 0 for layer in erase_windows(cache).layers)


@torch.no_grad()
@given(where=wheres, seed=st.integers(0, 1000))
def test_the_model_reads_on_from_an_edited_cache_as_the_float64_model_does(where: Where, seed: int) -> None:
    one, other = cache_after(5, 1, seed), cache_after(7, 1, seed + 1)
    ids = random_ids(1, 3, seed=seed + 2)
    for edited in (erase(one, *where), *swap(one, other, *where)):
        assert relative_error(MODEL.prefill(ids, edited, all_positions=True)[0], logits_by_hand(edited, ids)) <= 1e-11


@given(
    layer=st.integers(0, LAYERS - 1),
    head=st.integers(0, HEADS - 1),
    strength=st.floats(-3, 3),
    seed=st.integers(0, 1000),
)
def test_an_injected_pair_is_read_as_the_overlap_of_c_with_its_key_times_the_decays_since(
    layer: int, head: int, strength: float, seed: int
) -> None:
    """Of two traces that differ by the injection alone; what lies above the layer would change with it."""
    generator = torch.Generator().manual_seed(seed)
    key, value = (torch.randn(size, dtype=torch.float64, generator=generator) for size in (N, P))
    cache, ids = cache_after(6, 1, seed), random_ids(7, seed=seed)
    written = inject(cache, layer, head, key, value, strength)
    assert_only_changed(written, cache, (layer, head))
    change = written.layers[layer].ssm_state[0, head] - cache.layers[layer].ssm_state[0, head]
    for i in range(P):
        for j in range(N):
            assert abs(float(change[i, j]) - strength * float(value[i]) * float(key[j])) <= 1e-12

    before, after = (trace(MODEL, ids, each).layers[layer] for each in (cache, written))
    left = strength
    for t in range(7):
        left *= float(before.decay[t, head])
        overlap = float(array(key) @ array(before.C[t, head // 2]))
        expected = left * overlap * value
        found = after.y[t, head] - before.y[t, head]
        assert (found - expected).abs().max() <= 1e-12 * (1 + expected.abs().max())
        others = [j for j in range(HEADS) if j != head]
        assert torch.equal(after.y[t, others], before.y[t, others])
        faded = after.states(head, [t])[0] - before.states(head, [t])[0]
        assert (faded - left * torch.outer(value, key)).abs().max() <= 1e-11


def test_to_read_with_the_key_itself_gives_the_value_times_the_square_of_its_length() -> None:
    cache = erase(cache_after(6, b=3))
    key, value = torch.tensor([3.0, 4.0, 0, 0, 0, 0, 0, 0]), torch.arange(8.0)
    state = inject(cache, 1, 2, key, value, strength=2.0).layers[1].ssm_state[:, 2]
    for row in range(3):
        assert (state[row] @ key.double()).tolist() == [2.0 * 25.0 * i for i in range(8)]


@torch.no_grad()
def test_writing_goes_on_from_an_edited_cache() -> None:
    cache, prompt = cache_after(9), random_ids(1, 2, seed=3)
    options: dict[str, Any] = {"max_new_tokens": 6, "temperature": 0.0}
    afresh = [token.id for token in stream(MODEL, prompt, **options)]
    blank = erase_windows(erase(cache))
    assert [token.id for token in stream(MODEL, prompt, cache=blank, **options)] == afresh
    loud = inject(cache, 1, 0, 50 * torch.ones(N), torch.randn(P))
    ids = prompt
    for token in stream(MODEL, prompt, cache=loud, **options):
        expected = int(logits_by_hand(loud, ids)[0, -1].argmax())
        assert token.id == expected
        ids = torch.cat([ids, torch.tensor([[expected]])], dim=1)


# Bad input


def test_errors_name_the_argument() -> None:
    cache, key, value = cache_after(), torch.ones(N), torch.ones(P)
    with raises(ValueError, "layer must be in 0..1", "2"):
        erase(cache, 2)
    with raises(ValueError, "head must be in 0..3", "4"):
        erase(cache, 0, 4)
    with raises(ValueError, "layer must be given where a head is", "head=1"):
        swap(cache, cache, head=1)
    with raises(TypeError, "layer must be a whole number", "'0'"):
        erase_windows(cache, "0")  # type: ignore[arg-type]
    with raises(ValueError, "other must have states of the same shapes", "(1, 4, 8, 8)", "(2, 4, 8, 8)"):
        swap(cache, cache_after(b=2))
    with raises(ValueError, "other must have states of the same shapes", "2 layers", "1 layers"):
        swap(cache, Mamba2Cache(cache.layers[:1], cache.tokens_read))
    with raises(ValueError, "key must have shape (n,), (8,)", "(3,)"):
        inject(cache, 0, 0, torch.ones(3), value)
    with raises(ValueError, "value must have shape (p,), (8,)", "(1, 8)"):
        inject(cache, 0, 0, key, torch.ones(1, 8))
    with raises(TypeError, "key must be a tensor of floating point numbers"):
        inject(cache, 0, 0, torch.ones(8, dtype=torch.long), value)
    with raises(TypeError, "strength must be a number", "'much'"):
        inject(cache, 0, 0, key, value, "much")  # type: ignore[arg-type]
    with raises(ValueError, "strength must be finite", "inf"):
        inject(cache, 0, 0, key, value, float("inf"))
    with raises(ValueError, "layer must be in 0..1", "-1"):
        inject(cache, -1, 0, key, value)
    with raises(TypeError, "head must be a whole number", "None"):
        inject(cache, 0, None, key, value)  # type: ignore[arg-type]


@torch.no_grad()
def test_surgery_stays_on_the_device_of_the_cache(tmp_path: Path) -> None:
    model = small_model()
    _, cache = model.prefill(random_ids(1, 5).to(DEVICE))
    edited = inject(swap(cache, cache.to("cpu"))[0], 0, 1, torch.ones(N).double(), torch.ones(P).to(DEVICE))
    assert {tensor.device.type for tensor in tensors(edited)} == {DEVICE.type}
    expected = cache.layers[0].ssm_state[0, 1].cpu() + 1.0
    assert relative_error(edited.layers[0].ssm_state[0, 1], expected) <= 1e-6
    save_cache(edited, tmp_path / "cache", model.config)
    assert_identical(load_cache(tmp_path / "cache", model.config), edited.to("cpu"))
    logits, _ = model.step(torch.tensor([3], device=DEVICE), load_cache(tmp_path / "cache", model.config).to(DEVICE))
    assert relative_error(logits, model.step(torch.tensor([3], device=DEVICE), edited)[0]) <= 1e-6


def test_layers_keep_their_dtype() -> None:
    cache = cache_after()
    half = Mamba2Cache(
        tuple(LayerState(layer.conv_window, layer.ssm_state.float()) for layer in cache.layers), cache.tokens_read
    )
    assert swap(half, cache)[0].layers[0].ssm_state.dtype == torch.float32
    assert inject(half, 0, 0, torch.ones(N).double(), torch.ones(P)).layers[0].ssm_state.dtype == torch.float32
