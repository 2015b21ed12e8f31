"""A trace of Mamba-1 layers, against the float64 loop of `oracle` and against sums written out by hand."""

import math
import sys
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.oracle import mamba1 as oracle
from support.oracle.mamba2 import Array, array, raises, relative_error
from support.small_models import random_ids, small_stack
from torch import Tensor

from mamba2_lab import inspect
from mamba2_lab.inspect import Mamba1Trace
from mamba2_lab.model import LanguageModel

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "FalconMamba": {"b_c_dt_rms": True},
    "biases": {"bias": True, "conv_bias": False, "d_state": 3},
    "convolution of width 2": {"d_conv": 2},
}
every_variant = pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS.keys())
CHANNELS = (0, 7, 31)


def model_of(seed: int = 0, **fields: Any) -> LanguageModel:
    return small_stack("mamba1", seed, mamba1=fields)


def traced(model: LanguageModel, ids: Tensor, cache: Any = None) -> list[Mamba1Trace]:
    layers = inspect.trace(model, ids, cache).layers
    assert all(isinstance(layer, Mamba1Trace) for layer in layers)
    return layers  # type: ignore[return-value]


def by_oracle(model: LanguageModel, layer: Mamba1Trace, l: int | None = None) -> tuple[Tensor, oracle.Memory]:
    """Output and memory of the oracle, for the first l tokens that came into a layer."""
    u, block = array(layer.u[:l]), model.blocks[layer.index]
    normed = u / np.sqrt((u**2).mean(-1, keepdims=True) + 1e-5) * array(block.norm.weight)
    eps = block.mixer.config.b_c_dt_rms_eps if block.mixer.config.b_c_dt_rms else None
    out, memory = oracle.mixer(block.mixer.state_dict(), torch.from_numpy(normed)[None], b_c_dt_rms_eps=eps)
    return out[0], memory


def attention_by_hand(layer: Mamba1Trace, channel: int) -> Array:
    """M (l,l), entry by entry."""
    dt, A, B, C = array(layer.dt[:, channel]), array(layer.A[channel]), array(layer.B), array(layer.C)
    M = np.zeros((len(dt), len(dt)))
    for t in range(len(dt)):
        for s in range(t + 1):
            M[t, s] = sum(C[t, i] * np.exp(A[i] * dt[s + 1 : t + 1].sum()) * B[s, i] for i in range(len(A))) * dt[s]
    return M


@every_variant
@pytest.mark.parametrize("l", [1, 2, 9, 37])
def test_outputs_and_states_are_those_of_the_oracle(fields: dict[str, Any], l: int) -> None:
    model, ids = model_of(**fields), random_ids(l)
    trace = inspect.trace(model, ids)
    stream = array(model.embedding.weight)[ids.numpy()]
    for layer in traced(model, ids):
        assert relative_error(layer.u, torch.from_numpy(stream)) <= 1e-11
        assert relative_error(layer.output, by_oracle(model, layer)[0]) <= 1e-11
        stream = stream + array(layer.output)
        for t in {0, l // 2, l - 1}:
            expected = by_oracle(model, layer, t + 1)[1].state[0]
            for channel in CHANNELS:
                assert relative_error(layer.states(channel, [t])[0, 0], expected[channel]) <= 1e-11
    assert relative_error(trace.residual, torch.from_numpy(stream)) <= 1e-11


@every_variant
def test_each_channel_has_its_hidden_attention(fields: dict[str, Any]) -> None:
    model = model_of(**fields)
    for layer in traced(model, random_ids(17)):
        A_log, D = (array(getattr(model.blocks[layer.index].mixer, name)) for name in ("A_log", "D"))
        assert relative_error(layer.A, torch.from_numpy(-np.exp(A_log))) <= 1e-12
        for channel in CHANNELS:
            M = attention_by_hand(layer, channel)
            assert relative_error(layer.attention(channel), torch.from_numpy(M)) <= 1e-12
            assert relative_error(layer.attention(channel, [16, 0, 3]), torch.from_numpy(M[[16, 0, 3]])) <= 1e-12
            bare = layer.attention(channel, with_dt=False)
            assert relative_error(bare * layer.dt[:, channel], torch.from_numpy(M)) <= 1e-12
            read = torch.from_numpy(M @ array(layer.x[:, channel]))
            assert relative_error(layer.y[:, channel], read) <= 1e-12
            skipped = torch.from_numpy(D[channel] * array(layer.x[:, channel]))
            assert relative_error(layer.skipped[:, channel], skipped) <= 1e-12
            z = layer.z[:, channel]
            gated = (layer.y + layer.skipped)[:, channel] * z / (1 + (-z).exp())
            assert relative_error(layer.gated[:, channel], gated) <= 1e-12


@every_variant
def test_contributions_follow_the_convolution(fields: dict[str, Any]) -> None:
    model = model_of(**fields)
    with torch.no_grad():
        _, cache = model.prefill(random_ids(1, 6))
    for layer in traced(model, random_ids(11, seed=1), cache):
        w = len(layer.taps)
        for channel in CHANNELS:
            inputs = np.concatenate([array(layer.window[:, channel]), array(layer.inputs[:, channel])])
            taps, bias = array(layer.taps[:, channel]), float(layer.conv_bias[channel])
            for target in (0, 4, 10):
                row = attention_by_hand(layer, channel)[target]
                row[target] += float(layer.D[channel])
                expected, from_bias = np.zeros(len(inputs)), 0.0
                for s in range(11):
                    v = sum(taps[i] * inputs[s + i] for i in range(w)) + bias
                    from_bias += row[s] / (1 + np.exp(-v)) * bias
                    for i in range(w):
                        expected[s + i] += row[s] / (1 + np.exp(-v)) * taps[i] * inputs[s + i]
                found = layer.contributions(channel, target)
                assert relative_error(found.tokens[:, 0], torch.from_numpy(expected[w - 1 :])) <= 1e-11
                assert abs(float(found.before) - expected[: w - 1].sum()) <= 1e-11
                assert abs(float(found.bias) - from_bias) <= 1e-11
                whole = (layer.y + layer.skipped)[target, channel]
                assert relative_error(found.total, whole) <= 1e-11


@given(l=st.integers(1, 40), d_state=st.integers(1, 6), seed=st.integers(0, 1000), piece=st.integers(1, 30))
def test_states_do_not_depend_on_pieces_and_are_those_of_prefill(l: int, d_state: int, seed: int, piece: int) -> None:
    model, ids = model_of(seed, d_state=d_state), random_ids(l, seed=seed)
    with mock.patch.object(sys.modules["mamba2_lab.inspect.tracing"], "tokens_per_piece", lambda config: piece):
        layers = traced(model, ids)
    with torch.no_grad():
        _, cache = model.prefill(ids[None])
        _, half = model.prefill(ids[None, : l // 2]) if l > 1 else (None, None)
    for layer in layers:
        for channel in CHANNELS:
            state = cache.layers[layer.index].ssm_state[0, channel]
            assert relative_error(layer.states(channel, [l - 1])[0, 0], state) <= 1e-11
            states = layer.states(channel)
            gained = states[1:] - layer.decays(channel)[1:, None] * states[:-1]
            assert torch.allclose(layer.writes(channel)[1:], gained, rtol=0, atol=1e-11)
            assert relative_error(layer.written[:, channel], layer.writes(channel).flatten(1).norm(dim=1)) <= 1e-12
    for part, full in zip(traced(model, ids[l // 2 :], half), layers, strict=True):
        assert relative_error(part.y, full.y[l // 2 :]) <= 1e-11
        for channel in CHANNELS:
            read = part.attention(channel) @ part.x[:, channel] + part.initial_part(channel)
            assert relative_error(read, full.y[l // 2 :, channel]) <= 1e-11


def test_every_number_of_a_state_has_its_half_life() -> None:
    for layer in traced(model_of(), random_ids(30)):
        assert layer.half_life_by_state.shape == (32, 4)
        for channel in CHANNELS:
            for i in range(4):
                mean = float((array(layer.dt[:, channel]) * array(layer.A[channel, i])).mean())
                found = float(layer.half_life_by_state[channel, i])
                assert found == pytest.approx(-math.log(2) / mean, rel=1e-12)


@pytest.mark.parametrize("name", ["half_life", "half_lives", "decay", "log_decay", "xBC", "turns", "k"])
def test_what_it_does_not_have_is_refused_in_a_sentence(name: str) -> None:
    layer = inspect.trace(model_of(), random_ids(3)).layers[1]
    with raises(AttributeError, f"layer 1 is mamba1 and has no {name}: "):
        getattr(layer, name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_weights_of_fewer_digits_are_traced_in_float32(dtype: torch.dtype) -> None:
    for layer in traced(model_of().to(dtype), random_ids(12)):
        tensors = [value for value in vars(layer).values() if isinstance(value, Tensor)]
        for tensor in [*tensors, layer.states(1), layer.attention(1), layer.half_life_by_state]:
            assert tensor.dtype == torch.float32 and not tensor.requires_grad
        read = layer.attention(1) @ layer.x[:, 1]
        assert relative_error(read, layer.y[:, 1]) <= 1e-5
