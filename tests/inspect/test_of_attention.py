"""A trace of attention layers, against softmaxes written out by hand."""

import sys
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from support.oracle import attention as oracle
from support.oracle.mamba2 import array, raises, relative_error
from support.small_models import random_ids, small_stack
from torch import Tensor

from mamba2_lab import inspect
from mamba2_lab.inspect import AttentionTrace
from mamba2_lab.model import LanguageModel

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "shared keys, no turning": {"num_heads_kv": 2, "rotary_emb_dim": 0},
    "convolution, scale": {"d_conv": 3, "softmax_scale": 0.9, "rotary_emb_interleaved": True},
}
every_variant = pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS.keys())


def model_of(**fields: Any) -> LanguageModel:
    return small_stack("attention", attention=fields)


def traced(model: LanguageModel, ids: Tensor, cache: Any = None) -> list[AttentionTrace]:
    layers = inspect.trace(model, ids, cache).layers
    assert all(isinstance(layer, AttentionTrace) for layer in layers)
    return layers  # type: ignore[return-value]


def by_oracle(model: LanguageModel, u: Tensor, index: int) -> tuple[Tensor, oracle.Memory]:
    block = model.blocks[index]
    normed = array(u) / np.sqrt((array(u) ** 2).mean(-1, keepdims=True) + 1e-5) * array(block.norm.weight)
    names = ("num_heads", "softmax_scale", "rotary_emb_dim", "rotary_emb_interleaved")
    settings = {name: getattr(block.mixer.config, name) for name in names}
    return oracle.mixer(block.mixer.state_dict(), torch.from_numpy(normed)[None], **settings)


@every_variant
@pytest.mark.parametrize("l", [1, 2, 19])
@pytest.mark.parametrize("piece", [3, 100])
def test_outputs_keys_and_values_are_those_of_the_oracle(fields: dict[str, Any], l: int, piece: int) -> None:
    model, ids = model_of(**fields), random_ids(l)
    with mock.patch.object(sys.modules["mamba2_lab.inspect.tracing"], "tokens_per_piece", lambda config: piece):
        layers = traced(model, ids)
    for layer in layers:
        out, memory = by_oracle(model, layer.u, layer.index)
        assert relative_error(layer.output, out[0]) <= 1e-11
        assert relative_error(layer.keys, memory.keys[0]) <= 1e-11
        assert relative_error(layer.values, memory.values[0]) <= 1e-11


@every_variant
@pytest.mark.parametrize("t0", [0, 5])
def test_rows_are_softmaxes_and_read_the_values(fields: dict[str, Any], t0: int) -> None:
    model, ids = model_of(**fields), random_ids(14)
    with torch.no_grad():
        cache = model.prefill(ids[None, :t0])[1] if t0 else None
    for part, whole in zip(traced(model, ids[t0:], cache), traced(model, ids), strict=True):
        assert relative_error(part.y, whole.y[t0:]) <= 1e-11
        scale = fields.get("softmax_scale", 0.5)  # 4 channels in a head
        for head in range(4):
            kept = head * whole.keys.shape[1] // 4
            rows = np.zeros((14, 14))
            for t in range(14):
                scores = [scale * array(whole.q[t, head]) @ array(whole.keys[s, kept]) for s in range(t + 1)]
                rows[t, : t + 1] = np.exp(scores) / np.exp(scores).sum()
            assert relative_error(part.attention(head), torch.from_numpy(rows[t0:, t0:])) <= 1e-11
            assert relative_error(part.attention(head, [3, 0]), torch.from_numpy(rows[[t0 + 3, t0], t0:])) <= 1e-11
            parts = torch.from_numpy(rows[t0:, :t0].sum(1))
            assert (part.attention_before(head) - parts).abs().max() <= 1e-12
            before = torch.from_numpy(rows[t0:, :t0] @ array(whole.values[:t0, kept]))
            assert (part.initial_part(head) - before).abs().max() <= 1e-11
            read = part.attention(head) @ part.values[t0:, kept] + part.initial_part(head)
            assert relative_error(read, whole.y[t0:, head]) <= 1e-11


def test_what_is_not_real_is_not_seen() -> None:
    """A cache of a row that ends in padding keeps keys of it."""
    model, ids = model_of(), random_ids(1, 9)
    mask = torch.tensor([[1, 1, 1, 0, 0, 0]])
    with torch.no_grad():
        _, cache = model.prefill(ids[:, :6], attention_mask=mask)
        alone = model.prefill(ids[:, :3])[1]
    for padded, layer in zip(traced(model, ids[0, 6:], cache), traced(model, ids[0, 6:], alone), strict=True):
        for head in range(4):
            assert relative_error(padded.attention(head), layer.attention(head)) <= 1e-11
            assert relative_error(padded.initial_part(head), layer.initial_part(head)) <= 1e-11


def test_a_trace_leaves_the_cache_and_what_goes_on_from_it_alone() -> None:
    model, ids = model_of(), random_ids(12)
    with torch.no_grad():
        _, cache = model.prefill(ids[None, :6])
        kept = cache.clone()
        layers = traced(model, ids[6:], cache)
        before = [layer.keys.clone() for layer in layers]
        model.prefill(ids[None, 6:] + 1, cache)
    for old, new in zip(kept.layers, cache.layers, strict=True):
        assert all(map(torch.equal, old.tensors().values(), new.tensors().values()))
    assert all(torch.equal(keys, layer.keys) for keys, layer in zip(before, layers, strict=True))


@pytest.mark.parametrize(
    "name", ["states", "half_life", "dt", "D", "z", "turns", "contributions", "B", "xBC", "x", "attention_by_rank"]
)
def test_what_it_does_not_have_is_refused_in_a_sentence(name: str) -> None:
    layer = inspect.trace(model_of(), random_ids(3)).layers[1]
    with raises(AttributeError, f"layer 1 is attention and has no {name}: "):
        getattr(layer, name)


def test_it_is_refused_in_the_words_of_the_place() -> None:
    trace = inspect.trace(model_of(), random_ids(3))
    with raises(AttributeError, "layer 1 is attention and has no states: it keeps no state"):
        trace.states(1, 0)
    with raises(ValueError, "with_dt must be True for layer 0, attention, which has no step sizes", "False"):
        trace.attention(0, 0, with_dt=False)
    with raises(ValueError, "head must be in 0..3", "4"):
        trace.attention(0, 4)
    assert repr(trace.layers[0]) == "LayerTrace(3 tokens, 4 heads that attend to 3 tokens)"
