"""A trace of Mamba-3 layers, against the complex, turning states of `oracle` and against sums written out by hand."""

import math
import sys
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.oracle import mamba3 as oracle
from support.oracle.mamba2 import Array, array, raises, relative_error
from support.small_models import random_ids, small_stack
from torch import Tensor

from mamba2_lab import inspect
from mamba2_lab.inspect import Mamba3Trace
from mamba2_lab.model import LanguageModel

Complex = NDArray[np.complex128]
VARIANTS: dict[str, dict[str, Any]] = {
    "siso": {},
    "siso, all pairs turn": {"rope_fraction": 1.0, "ngroups": 2},
    "siso, softplus": {"A_activation": "softplus"},
    "siso, output norm": {"is_outproj_norm": True, "ngroups": 4},
    "mimo": {"is_mimo": True, "mimo_rank": 3},
    "mimo of rank one": {"is_mimo": True, "mimo_rank": 1},
    "mimo, all pairs turn, output norm": {
        "is_mimo": True,
        "mimo_rank": 2,
        "rope_fraction": 1.0,
        "ngroups": 2,
        "is_outproj_norm": True,
    },
}
every_variant = pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS.keys())


def model_of(seed: int = 0, **fields: Any) -> LanguageModel:
    return small_stack("mamba3", seed, mamba3=fields)


def traced(model: LanguageModel, ids: Tensor, cache: Any = None) -> list[Mamba3Trace]:
    layers = inspect.trace(model, ids, cache).layers
    assert all(isinstance(layer, Mamba3Trace) for layer in layers)
    return layers  # type: ignore[return-value]


def settings(model: LanguageModel) -> dict[str, Any]:
    config = model.blocks[0].mixer.config
    return {name: getattr(config, name) for name in ("rope_fraction", "ngroups", "A_floor", "A_activation")}


def normed(model: LanguageModel, layer: Mamba3Trace) -> Tensor:
    u = array(layer.u)
    weight = array(model.blocks[layer.index].norm.weight)
    return torch.from_numpy(u / np.sqrt((u**2).mean(-1, keepdims=True) + 1e-5) * weight)[None]


def memory_after(model: LanguageModel, layer: Mamba3Trace, l: int) -> oracle.Memory:
    """What the oracle remembers of the first l tokens that came into a layer."""
    mixer = model.blocks[layer.index].mixer
    return oracle.mixer(mixer.state_dict(), normed(model, layer)[:, :l], **settings(model))[1]


def paired(v: Array, is_mimo: bool) -> Complex:
    half = v.shape[-1] // 2
    return v[..., :half] + 1j * v[..., half:] if is_mimo else v[..., ::2] + 1j * v[..., 1::2]


class ByHand:
    """The pieces of a layer in complex numbers, from its weights and from what came into it."""

    def __init__(self, model: LanguageModel, layer: Mamba3Trace) -> None:
        mixer = model.blocks[layer.index].mixer
        w, config = {name: array(weight) for name, weight in mixer.state_dict().items()}, mixer.config
        self.is_mimo = config.is_mimo
        h, r, n, g = config.nheads, config.rank, config.d_state, config.ngroups
        self.h, p = h, config.headdim
        projected = (array(normed(model, layer)) @ w["in_proj.weight"].T)[0]
        self.l, widths = len(projected), [h * p, h * p, r * g * n, r * g * n, h, h, h]
        z, x, B, C, dt, A, trap, angle = np.split(projected, np.cumsum(widths), axis=-1)
        self.z, self.x = z.reshape(-1, h, p), x.reshape(-1, h, p)
        self.k, self.q = (  # (l,h,r,n/2), not turned
            self.paired(self.with_bias(factor.reshape(-1, r, g, n), w[f"{name}_norm.weight"], w[f"{name}_bias"]))
            for name, factor in (("B", B), ("C", C))
        )
        self.dt = np.log1p(np.exp(dt + w["dt_bias"]))
        f = np.log1p(np.exp(A)) if config.A_activation == "softplus" else np.where(A > 0, 1 + A, 1 / (1 + np.abs(A)))
        self.log_decay = -self.dt * np.maximum(f, config.A_floor)
        self.lam = 1 / (1 + np.exp(-trap))
        self.gamma, self.delta = self.dt * self.lam, self.dt * (1 - self.lam)
        self.theta = np.zeros((self.l, h, n // 2))  # radians in each step
        s = int(n * config.rope_fraction) // 2
        self.theta[..., :s] = self.dt[:, :, None] * np.pi * np.tanh(angle)[:, None, :]
        ones = np.ones((h, r, p))
        self.mimo_x, self.mimo_o = w.get("mimo_x", ones), w.get("mimo_o", ones)
        self.D = w["D"]

    def with_bias(self, v: Array, weight: Array, bias: Array) -> Array:
        """(l,r,g,n) -> (l,h,r,n)"""
        v = v / np.sqrt((v**2).mean(-1, keepdims=True) + 1e-5) * weight
        group = np.arange(self.h) * v.shape[2] // self.h
        return v[:, :, group].swapaxes(1, 2) + bias

    def paired(self, v: Array) -> Complex:
        return paired(v, self.is_mimo)

    def attention(self, head: int) -> Array:
        """M (l,r,l,r), entry by entry: what is read at t in rank i of what was written at s in rank j."""
        r = self.k.shape[2]
        M = np.zeros((self.l, r, self.l, r))
        for t in range(self.l):
            for s in range(t + 1):
                left = np.exp(self.log_decay[s + 1 : t + 1, head].sum())
                weight = self.gamma[s, head] + (self.delta[s + 1, head] if s < t else 0.0)
                since = np.exp(-1j * self.theta[s + 1 : t + 1, head].sum(0))  # what was written turns until it is read
                for i in range(r):
                    for j in range(r):
                        read = (since * self.k[s, head, j] * self.q[t, head, i].conj()).sum().real
                        M[t, i, s, j] = left * weight * read
        return M


@every_variant
@pytest.mark.parametrize("l", [1, 2, 9, 37])
def test_each_layer_gives_what_the_oracle_does_and_the_stream_is_their_sum(fields: dict[str, Any], l: int) -> None:
    model, ids = model_of(**fields), random_ids(l)
    trace = inspect.trace(model, ids)
    stream = array(model.embedding.weight)[ids.numpy()]
    for layer in traced(model, ids):
        assert relative_error(layer.u, torch.from_numpy(stream)) <= 1e-11
        expected, _ = oracle.mixer(
            model.blocks[layer.index].mixer.state_dict(), normed(model, layer), **settings(model)
        )
        assert relative_error(layer.output, expected[0]) <= 1e-11
        stream = stream + array(layer.output)
    assert relative_error(trace.residual, torch.from_numpy(stream)) <= 1e-11
    with torch.no_grad():
        assert relative_error(trace.logits, model(ids[None])[0]) <= 1e-11


@every_variant
def test_each_piece_is_what_the_formulas_say(fields: dict[str, Any]) -> None:
    model = model_of(**fields)
    for layer in traced(model, random_ids(21)):
        hand = ByHand(model, layer)
        s = layer.turns.shape[-1]
        together = np.exp(1j * np.cumsum(hand.theta, axis=0))[:, :, None, :]  # the angle since the start
        expected = {
            "z": hand.z,
            "x": hand.x,
            "dt": hand.dt,
            "lam": hand.lam,
            "gamma": hand.gamma,
            "delta": hand.delta,
            "log_decay": hand.log_decay,
            "decay": np.exp(hand.log_decay),
            "own_turns": hand.theta[..., :s] / (2 * np.pi),
            "x_in_ranks": hand.x[:, None] * hand.mimo_x.swapaxes(0, 1),
            "skipped": (hand.x * hand.D[:, None])[:, None] * hand.mimo_x.swapaxes(0, 1),
        }
        for name, value in expected.items():
            assert relative_error(getattr(layer, name), torch.from_numpy(value)) <= 1e-12, name
        for name, factor in (("k", hand.k), ("q", hand.q)):
            turned = hand.paired(array(getattr(layer, name)).swapaxes(1, 2))
            assert np.abs(turned - factor * together).max() <= 1e-12 * np.abs(factor).max(), name
        turns = array(layer.turns)
        assert np.abs(turns).max() <= 0.5
        assert np.abs(np.exp(2j * np.pi * turns) - together[:, :, 0, :s]).max() <= 1e-12


@every_variant
def test_attention_is_the_decays_and_turns_since_times_q_times_k_times_both_weights(fields: dict[str, Any]) -> None:
    model = model_of(**fields)
    for layer in traced(model, random_ids(15)):
        hand = ByHand(model, layer)
        for head in range(4):
            M = hand.attention(head)
            assert relative_error(layer.attention_by_rank(head), torch.from_numpy(M)) <= 1e-12
            x = hand.x[:, head, None] * hand.mimo_x[head]  # (l,r,p)
            read = np.einsum("tisj,sjp->tip", M, x)
            assert relative_error(layer.y[:, :, head], torch.from_numpy(read)) <= 1e-12
            of_channels = np.einsum("ip,tisj,jp->tsp", hand.mimo_o[head], M, hand.mimo_x[head])
            assert relative_error(layer.attention(head), torch.from_numpy(of_channels.mean(-1))) <= 1e-12
            assert layer.attention(head).triu(1).count_nonzero() == 0
            some = [14, 0, 4, 4]
            assert relative_error(layer.attention(head, some), layer.attention(head)[some]) <= 1e-12
            assert relative_error(layer.attention_by_rank(head, some), torch.from_numpy(M[some])) <= 1e-12
            weights = array(layer.gamma)[:, head] + np.append(array(layer.delta)[1:, head], 0.0)
            weights = np.where(np.eye(15), array(layer.gamma)[:, head], weights)
            bare = layer.attention(head, with_dt=False)
            assert relative_error(bare * torch.from_numpy(weights), layer.attention(head)) <= 1e-12


def test_of_one_rank_attention_says_it_all() -> None:
    for layer in traced(model_of(ngroups=2), random_ids(20)):
        for head in range(4):
            y = layer.attention(head) @ layer.x[:, head] + layer.initial_part(head)
            assert relative_error(y, layer.y[:, 0, head]) <= 1e-12


@every_variant
def test_states_are_those_that_each_prefix_leaves_behind(fields: dict[str, Any]) -> None:
    model, ids = model_of(**fields), random_ids(35)
    positions = [34, 0, 7, 8, 8, 16, 3]  # any order, twice, on both sides of checkpoints
    caches = {t: model.prefill(ids[None, : t + 1])[1] for t in set(positions)}
    for layer in traced(model, ids):
        found = torch.stack([layer.states(head, positions) for head in range(4)], dim=1)
        for i, t in enumerate(positions):
            last_k, last_x = layer.k[t].transpose(0, 1), layer.x[t]
            given = (layer.turns[t], found[i], last_k, last_x)
            seen = oracle.memory_of(*(each[None] for each in given), is_mimo=fields.get("is_mimo", False))
            memory = memory_after(model, layer, t + 1)
            for ours, theirs in zip(seen, memory, strict=True):
                assert (ours - theirs).abs().max() <= 1e-11 * theirs.abs().max()
            assert relative_error(found[i], caches[t].layers[layer.index].ssm_state[0]) <= 1e-11
            for head in range(4):  # turned back, a real state is the oracle's, and its numbers lie in pairs
                back = paired(array(layer.seen_states(head, [t])[0]), fields.get("is_mimo", False))
                expected = memory.state[0, head].numpy()
                assert np.abs(back - expected).max() <= 1e-11 * np.abs(expected).max()
        for head in range(4):
            assert relative_error(layer.states(head)[positions], found[:, head]) <= 1e-12


@every_variant
def test_what_is_written_is_what_the_state_gains_in_two_steps(fields: dict[str, Any]) -> None:
    for layer in traced(model_of(**fields), random_ids(20)):
        for head in range(4):
            states, writes = array(layer.states(head)), array(layer.writes(head))
            alpha, delta, gamma = (array(each[:, head]) for each in (layer.decay, layer.delta, layer.gamma))
            at_once = gamma / (gamma + np.append(delta[1:], 0.0))  # the part that is written when the token comes
            for t in range(1, 20):
                gained = at_once[t] * writes[t] + alpha[t] * (1 - at_once[t - 1]) * writes[t - 1]
                assert np.abs(states[t] - alpha[t] * states[t - 1] - gained).max() <= 1e-12 * np.abs(states).max()
            assert relative_error(layer.writes(head, [5, 3]), torch.from_numpy(writes[[5, 3]])) <= 1e-12
            norms = np.sqrt((writes**2).sum((1, 2)))
            assert relative_error(layer.written[:, head], torch.from_numpy(norms)) <= 1e-12
            read = np.sqrt((array(layer.y[:, :, head]) ** 2).sum((1, 2)))
            assert relative_error(layer.read[:, head], torch.from_numpy(read)) <= 1e-12


@every_variant
def test_contributions_add_up_to_what_comes_out_of_the_ranks(fields: dict[str, Any]) -> None:
    model = model_of(**fields)
    with torch.no_grad():
        _, cache = model.prefill(random_ids(1, 6))
    for layer in traced(model, random_ids(11, seed=1), cache):
        for head in range(4):
            together = (layer.y + layer.skipped)[:, :, head] * layer.mimo_o[head]
            for target in (0, 1, 10):
                parts = layer.contributions(head, target)
                assert relative_error(parts.total, together[target].sum(dim=0)) <= 1e-11
                assert parts.tokens[target + 1 :].count_nonzero() == 0
                assert relative_error(parts.initial, layer.initial_part(head, [target])[0]) <= 1e-12
                assert parts.before.count_nonzero() == parts.bias.count_nonzero() == 0
                assert parts.initial.abs().max() > 1e-6


@every_variant
@pytest.mark.parametrize("split", [1, 8, 30])
def test_a_trace_from_a_cache_is_the_second_half_of_the_trace_of_the_whole(fields: dict[str, Any], split: int) -> None:
    model, ids = model_of(**fields), random_ids(31)
    whole = traced(model, ids)
    with torch.no_grad():
        _, cache = model.prefill(ids[None, :split])
    for part, full in zip(traced(model, ids[split:], cache), whole, strict=True):
        for name in ("u", "z", "x", "dt", "lam", "log_decay", "own_turns", "k", "q", "y", "gated", "output"):
            assert relative_error(getattr(part, name), getattr(full, name)[split:]) <= 1e-11, name
        around = (part.turns - full.turns[split:]).remainder(1.0)
        assert torch.minimum(around, 1 - around).max() <= 1e-12
        for head in range(4):
            assert relative_error(part.states(head), full.states(head)[split:]) <= 1e-11
            read = part.attention(head) @ part.x[:, head] + part.initial_part(head)
            if part.k.shape[1] == 1 and not fields.get("is_mimo"):
                assert relative_error(read, part.y[:, 0, head]) <= 1e-11


@given(
    l=st.integers(1, 40),
    is_mimo=st.booleans(),
    mimo_rank=st.integers(1, 4),
    rope_fraction=st.sampled_from([0.5, 1.0]),
    ngroups=st.sampled_from([1, 2, 4]),
    chunk_size=st.integers(1, 20),
    d_state=st.sampled_from([4, 6, 10]),
    seed=st.integers(0, 1000),
    piece=st.integers(1, 30),
)
def test_the_pieces_add_up_for_any_model_and_length(l: int, seed: int, piece: int, **fields: Any) -> None:
    model, ids = model_of(seed, **fields), random_ids(l, seed=seed)
    with mock.patch.object(sys.modules["mamba2_lab.inspect.tracing"], "tokens_per_piece", lambda config: piece):
        layers = traced(model, ids)
    _, cache = model.prefill(ids[None])
    for layer in layers:
        for head in range(4):
            read = torch.einsum("tisj,sjp->tip", layer.attention_by_rank(head), layer.x_in_ranks[:, :, head])
            assert relative_error(read, layer.y[:, :, head]) <= 1e-11
            state = cache.layers[layer.index].ssm_state[0, head]
            assert relative_error(layer.states(head, [l - 1])[0], state) <= 1e-11


def test_half_lives_are_of_the_tokens_own_decays() -> None:
    for layer in traced(model_of(), random_ids(30)):
        log_decay = array(layer.log_decay)
        assert relative_error(layer.half_life, torch.from_numpy(-math.log(2) / log_decay.mean(0))) <= 1e-12
        for head in range(4):
            for s in range(30):
                left = np.concatenate([[0.0], np.cumsum(log_decay[s + 1 :, head])])
                half_life = float(layer.half_lives[s, head])
                if half_life == math.inf:
                    assert left[-1] > -math.log(2)
                else:
                    assert abs(np.interp(half_life, np.arange(len(left)), left) + math.log(2)) <= 1e-9


@pytest.mark.parametrize(("activation", "A"), [("heavy_tail", 1.0), ("softplus", math.log(2))])
def test_at_rest_a_token_says_nothing_of_time(activation: str, A: float) -> None:
    model = model_of(A_activation=activation)
    for layer in traced(model, random_ids(3)):
        dt = np.log1p(np.exp(array(model.blocks[layer.index].mixer.dt_bias)))
        assert relative_error(layer.half_life_at_rest, torch.from_numpy(math.log(2) / (A * dt))) <= 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_weights_of_fewer_digits_are_traced_in_float32(dtype: torch.dtype) -> None:
    model = model_of(is_mimo=True, mimo_rank=2).to(dtype)
    layers = traced(model, random_ids(12))
    for layer in layers:
        tensors = [value for value in vars(layer).values() if isinstance(value, Tensor)]
        for tensor in [*tensors, layer.states(1), layer.attention(1), layer.half_lives]:
            assert tensor.dtype == torch.float32 and not tensor.requires_grad and tensor.device.type == "cpu"
        read = torch.einsum("tisj,sjp->tip", layer.attention_by_rank(1), layer.x_in_ranks[:, :, 1])
        assert relative_error(read, layer.y[:, :, 1]) <= (1e-5 if dtype == torch.float32 else 2e-2)


def test_it_says_what_it_is_in_a_line() -> None:
    trace = inspect.trace(model_of(is_mimo=True), random_ids(12))
    assert repr(trace) == "Trace(12 tokens, 2 layers of 4 heads)"
    line = "LayerTrace(12 tokens, 4 heads with a state of 8 x 8, 2 of 4 pairs turning, 4 ranks)"
    assert repr(trace.layers[0]) == line


@pytest.mark.parametrize("name", ["B", "xBC", "x_parts", "half_life_by_state"])
def test_what_it_does_not_have_is_refused_in_a_sentence(name: str) -> None:
    layer = inspect.trace(model_of(), random_ids(3)).layers[1]
    with raises(AttributeError, f"layer 1 is mamba3 and has no {name}: "):
        getattr(layer, name)


def test_heads_and_positions_outside_are_errors() -> None:
    trace = inspect.trace(model_of(), random_ids(6))
    with raises(ValueError, "head must be in 0..3", "4"):
        trace.attention(0, 4)
    with raises(ValueError, "positions must lie in 0..5", "6"):
        trace.states(0, 0, [6])
    with raises(TypeError, "targets must be a list of whole numbers", "0.5"):
        trace.layers[0].attention_by_rank(0, [0.5])
    assert trace.states(0, 0, []).shape == (0, 8, 8) and trace.attention(0, 0, []).shape == (0, 6)
