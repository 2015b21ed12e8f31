"""What a sequence leaves behind is a value: of constant size, never changed by reading on."""

from collections.abc import Iterator

import pytest
import torch
from support.devices import DEVICE
from support.oracle.mamba2 import language_model, largest_difference, perturb, raises
from torch import Tensor

from mamba2_lab import LayerState, Mamba2Cache, Mamba2LM

CONFIG = {"d_model": 12, "n_layer": 3, "vocab_size": 29, "d_state": 5, "d_conv": 3, "headdim": 4, "ngroups": 2}
CONV_DIM, HEADS = 24 + 2 * 2 * 5, 6


@pytest.fixture(scope="module")
def model() -> Mamba2LM:
    return perturb(Mamba2LM(**CONFIG, seed=0)).to(DEVICE).eval()


@pytest.fixture
def cache(model: Mamba2LM) -> Mamba2Cache:
    """Four rows that have read 9, 2, 9 and 5 tokens."""
    mask = torch.arange(9) < torch.tensor([[9], [2], [9], [5]])
    with torch.no_grad():
        return model.prefill(torch.randint(0, 29, (4, 9)), attention_mask=mask)[1]


def tensors(cache: Mamba2Cache) -> Iterator[Tensor]:
    for layer in cache.layers:
        yield from (layer.conv_window, layer.ssm_state)
    yield cache.tokens_read


def assert_identical(one: Mamba2Cache, other: Mamba2Cache) -> None:
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(tensors(one), tensors(other), strict=True))


@torch.no_grad()
def test_a_new_cache_is_zero_and_has_read_nothing(model: Mamba2LM) -> None:
    cache = model.new_cache(4)
    assert cache.batch_size == 4
    assert [tuple(tensor.shape) for tensor in tensors(cache)] == [(4, 2, CONV_DIM), (4, HEADS, 4, 5)] * 3 + [(4,)]
    assert all(tensor.count_nonzero() == 0 for tensor in tensors(cache))


@torch.no_grad()
def test_its_tensors_are_the_last_convolution_inputs_and_the_state(model: Mamba2LM) -> None:
    input_ids = torch.randint(0, 29, (2, 7))
    _, cache = model.prefill(input_ids)
    _, memories = language_model(model.state_dict(), input_ids, vocab_size=29, ngroups=2)
    for layer, memory in zip(cache.layers, memories, strict=True):
        assert largest_difference((layer.conv_window, layer.ssm_state), memory) <= 1e-5


def test_a_clone_is_the_same_and_shares_no_memory(cache: Mamba2Cache) -> None:
    clone = cache.clone()
    assert_identical(clone, cache)
    kept = [tensor.clone() for tensor in tensors(cache)]
    for tensor in tensors(clone):
        tensor.fill_(7)
    assert all(map(torch.equal, tensors(cache), kept))
    assert {t.untyped_storage().data_ptr() for t in tensors(clone)}.isdisjoint(
        t.untyped_storage().data_ptr() for t in tensors(cache)
    )


@torch.no_grad()
def test_a_clone_of_learned_initial_states_shares_no_memory_with_the_weights_or_between_rows() -> None:
    model = perturb(Mamba2LM(**CONFIG, learnable_init_states=True))
    clone = model.new_cache(2).clone()
    clone.layers[0].ssm_state[0] = 7.0
    assert torch.equal(clone.layers[0].ssm_state[1], model.blocks[0].mixer.init_states)


@torch.no_grad()
def test_reading_on_leaves_the_given_cache_bit_identical(model: Mamba2LM, cache: Mamba2Cache) -> None:
    kept = cache.clone()
    tokens = torch.tensor([3, 1, 4, 1])
    first, _ = model.step(tokens, cache)
    model.prefill(tokens[:, None].expand(-1, 6), cache, all_positions=True)
    model.prefill(tokens[:, None].expand(-1, 6), cache, attention_mask=torch.eye(4, 6))
    assert_identical(cache, kept)
    again, _ = model.step(tokens, cache)
    assert torch.equal(first, again)


@torch.no_grad()
def test_one_cache_continued_in_two_ways_gives_what_each_text_alone_gives(model: Mamba2LM) -> None:
    start, one, two = (torch.randint(0, 29, (1, l)) for l in (6, 4, 7))
    _, cache = model.prefill(start)
    for rest in (one, two, one):
        found, _ = model.prefill(rest, cache)
        expected, _ = language_model(model.state_dict(), torch.cat([start, rest], 1), vocab_size=29, ngroups=2)
        assert largest_difference([found], [expected[:, -1]]) <= 2e-5


@pytest.mark.parametrize(
    "rows", [[2], [3, 0], [1, 1, 1, 0, 3, 2], [], torch.tensor([2, 2]), torch.tensor([0], dtype=torch.int32)], ids=str
)
@torch.no_grad()
def test_selected_rows_are_these_rows_in_this_order(
    model: Mamba2LM, cache: Mamba2Cache, rows: list[int] | Tensor
) -> None:
    selected = cache.select(rows)
    expected = [int(row) for row in rows]
    assert selected.batch_size == len(expected)
    for one, other in zip(tensors(selected), tensors(cache), strict=True):
        assert one.tolist() == [other[row].tolist() for row in expected]
    if expected:
        found, _ = model.step(torch.full((len(expected),), 5), selected)
        alone, _ = model.step(torch.full((4,), 5), cache)
        torch.testing.assert_close(found, alone[expected], rtol=0, atol=1e-5)


@pytest.mark.parametrize("rows", [[4], [0, -1], [0, 1, 99], torch.tensor([4])], ids=str)
def test_a_row_outside_the_batch_is_an_error_that_says_which(cache: Mamba2Cache, rows: list[int] | Tensor) -> None:
    with raises(IndexError, "rows must lie in 0..3", f"got {[int(row) for row in rows]}"):
        cache.select(rows)


def test_selected_rows_share_no_memory_with_the_cache(cache: Mamba2Cache) -> None:
    kept = cache.clone()
    for tensor in tensors(cache.select([0, 1, 2, 3])):
        tensor.fill_(7)
    assert_identical(cache, kept)


def test_moving_moves_every_tensor(cache: Mamba2Cache) -> None:
    assert_identical(cache.to("cpu").to(DEVICE), cache)
    moved = cache.to("meta")  # a device that every machine has
    assert {tensor.device.type for tensor in tensors(moved)} == {"meta"}
    assert [tensor.shape for tensor in tensors(moved)] == [tensor.shape for tensor in tensors(cache)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@torch.no_grad()
def test_the_bytes_are_those_of_windows_and_states_whatever_the_length(dtype: torch.dtype) -> None:
    """Windows have the dtype of the weights, states are float32."""
    model = Mamba2LM(**CONFIG).to(dtype)
    expected = 3 * 2 * (2 * CONV_DIM * dtype.itemsize + HEADS * 4 * 5 * 4)  # layers, rows, window and state
    cache = model.new_cache(2)
    assert cache.nbytes == expected
    for l in (1, 2, 200):
        _, cache = model.prefill(torch.zeros(2, l, dtype=torch.long), cache)
        assert cache.nbytes == expected
    assert model.step(torch.zeros(2, dtype=torch.long), cache)[1].nbytes == expected


@torch.no_grad()
def test_what_is_kept_is_not_a_view_that_keeps_the_whole_sequence(model: Mamba2LM) -> None:
    """nbytes would not show it; the memory would."""
    _, cache = model.prefill(torch.zeros(1, 500, dtype=torch.long))
    _, stepped = model.step(torch.zeros(1, dtype=torch.long), cache)
    for one in (cache, stepped):
        storages = [tensor.untyped_storage() for layer in one.layers for tensor in vars(layer).values()]
        held = {storage.data_ptr(): storage.nbytes() for storage in storages}  # layers may share one
        assert sum(held.values()) <= 2 * one.nbytes


def test_a_replaced_layer_is_the_new_one_and_the_others_stay(cache: Mamba2Cache) -> None:
    kept = cache.clone()
    layer = LayerState(*(torch.randn_like(part) for part in vars(cache.layers[1]).values()))
    edited = cache.replace_layer(1, layer)
    assert edited.layers[1] is layer
    assert edited.layers[0] is cache.layers[0] and edited.layers[2] is cache.layers[2]
    assert edited.tokens_read is cache.tokens_read
    assert_identical(cache, kept)
    with pytest.raises(IndexError):
        cache.replace_layer(3, layer)


@torch.no_grad()
def test_an_edited_state_changes_what_follows(model: Mamba2LM, cache: Mamba2Cache) -> None:
    erased = cache.replace_layer(0, cache.layers[0].map(torch.zeros_like))
    tokens = torch.tensor([3, 1, 4, 1])
    assert (model.step(tokens, erased)[0] - model.step(tokens, cache)[0]).abs().amax(1).min() > 1e-3


@torch.no_grad()
def test_tokens_read_counts_real_tokens_only(model: Mamba2LM, cache: Mamba2Cache) -> None:
    assert cache.tokens_read.tolist() == [9, 2, 9, 5]
    mask = torch.tensor([[1, 0, 1], [0, 0, 1], [1, 1, 1], [1, 0, 0]])
    _, cache = model.prefill(torch.zeros(4, 3, dtype=torch.long), cache, attention_mask=mask)
    assert cache.tokens_read.tolist() == [11, 3, 12, 6]
    _, cache = model.step(torch.zeros(4, dtype=torch.long), cache)
    assert cache.tokens_read.tolist() == [12, 4, 13, 7]
    _, cache = model.prefill(torch.zeros(4, 10, dtype=torch.long), cache)
    assert cache.tokens_read.tolist() == [22, 14, 23, 17]


def test_a_cache_cannot_be_changed_by_assignment(cache: Mamba2Cache) -> None:
    with pytest.raises(AttributeError):
        cache.layers = ()
    with pytest.raises(AttributeError):
        cache.layers[0].ssm_state = torch.zeros(1)


@pytest.mark.parametrize("read", ["prefill", "step", "mixer"])
def test_a_cache_made_under_inference_mode_can_be_trained_on(model: Mamba2LM, read: str) -> None:
    with torch.inference_mode():
        ids = torch.randint(0, 29, (2, 7))
        _, cache = model.prefill(ids)
    kept, gradients = cache.clone(), []
    for start in (cache, cache.map(lambda tensor: tensor.clone())):
        model.zero_grad()
        if read == "mixer":
            state = start.layers[0]
            u, _ = model.blocks[0].mixer.prefill(model.embed(ids.to(DEVICE, copy=True)), state)
            u.sum().backward()
        else:
            logits, _ = model.prefill(ids, start) if read == "prefill" else model.step(ids[:, 0], start)
            logits.square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert gradients[0] and all(map(torch.equal, *gradients))
    assert_identical(cache, kept)


def test_a_model_made_or_loaded_under_inference_mode_can_be_trained() -> None:
    with torch.inference_mode():
        models = [Mamba2LM(**CONFIG), Mamba2LM.from_pretrained("small")]
    for model in models:
        model(torch.zeros(1, 3, dtype=torch.long)).sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
