"""What notebook 11 asks for is what the package's scan, its attention and its caches do."""

import math

import pytest
import torch
from torch import Tensor

from mamba2_lab import MambaLM, scan
from mamba2_lab.course.exercises.limits import (
    attend,
    bits_by_position,
    exact_queries,
    expected_error,
    read_back,
    stack_bytes,
)


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def scanned(keys: Tensor, values: Tensor, queries: Tensor) -> Tensor:
    """What queries read after all pairs were written, by the package's recurrence without fading."""
    m, r = len(keys), len(queries)
    x = torch.cat([values, torch.zeros(r, values.shape[1])])[None, :, None]
    B = torch.cat([keys, torch.zeros_like(queries)])[None, :, None]
    C = torch.cat([torch.zeros_like(keys), queries])[None, :, None]
    y, _ = scan.sequential(x, torch.zeros(1, m + r, 1), B, C)
    return y[0, m:, 0]


def test_what_is_read_back_is_what_the_scan_reads():
    keys, values = drawn(6, 4, seed=0), drawn(6, 3, seed=1)
    torch.testing.assert_close(read_back(keys, values), scanned(keys, values, keys))


def test_exact_queries_read_each_value_out_of_the_scan_up_to_n_and_not_beyond():
    keys, values = drawn(5, 5, seed=2), drawn(5, 3, seed=3)
    torch.testing.assert_close(scanned(keys, values, exact_queries(keys)), values, rtol=1e-3, atol=1e-3)
    more = drawn(6, 5, seed=4)
    best = torch.linalg.pinv(more).mT @ more.mT
    assert (best - torch.eye(6)).square().sum() == pytest.approx(1.0, abs=1e-3), "one direction of six is lost"


def test_the_error_expected_is_the_mean_over_many_states():
    m, n = 12, 5
    keys, values = (torch.nn.functional.normalize(drawn(4000, m, size, seed=size), dim=-1) for size in (n, 7))
    errors = keys @ keys.mT @ values - values
    assert errors.square().sum(dim=-1).mean().item() == pytest.approx(expected_error(m, n), rel=0.02)


@torch.no_grad()
def test_attention_of_the_package_attends_as_the_answer_does():
    """The last token of a layer of one head, by its own keys and values."""
    model = MambaLM(d_model=8, n_layer=1, vocab_size=20, mixers="attention", attention={"num_heads": 1}, seed=0)
    mixer, u = model.blocks[0].mixer, drawn(1, 7, 8, seed=5)
    out, state = mixer.prefill(u)
    query = mixer.in_proj(u)[0, -1:, :8]
    read = attend(query, state.keys[0, :, 0], state.values[0, :, 0], 1 / math.sqrt(8))
    torch.testing.assert_close(out[0, -1:], mixer.out_proj(read))


@torch.no_grad()
def test_a_hybrid_keeps_as_many_bytes_as_its_layers_say():
    mixers = ["mamba2", "attention", "mamba2"]
    model = MambaLM(d_model=16, n_layer=3, vocab_size=20, mixers=mixers, mamba2={"headdim": 8}, seed=0)

    def kept(l: int) -> list[int]:
        _, cache = model.prefill(torch.zeros(1, l, dtype=torch.long))
        return [sum(tensor.nbytes for tensor in layer.tensors().values()) for layer in cache.layers]

    state, per_token = kept(1)[0], kept(2)[1] - kept(1)[1]
    assert sum(kept(40)) == stack_bytes(40, mixers, state, per_token)


def test_bits_of_one_stretch_are_bits_per_byte():
    nats, sizes = drawn(2, 9, seed=6).abs(), torch.full((2, 9), 3)
    (found,) = bits_by_position(nats, sizes, [0, 9])
    assert found.item() == pytest.approx(nats.sum().item() / math.log(2) / 54)
