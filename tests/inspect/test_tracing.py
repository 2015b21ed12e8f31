"""A trace's pieces, against the float64 model of `oracle` and against sums written out by hand."""

import math
import sys
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.devices import DEVICE
from support.oracle import mamba2 as oracle
from support.oracle.mamba2 import Array, array, raises, relative_error
from support.small_models import random_ids, small_model
from torch import Tensor

from mamba2_lab import Mamba2LM, inspect
from mamba2_lab.inspect import LayerTrace, Trace

VARIANTS = {
    "plain": {},
    "two groups": {"ngroups": 2},
    "a group per head, norm first": {"ngroups": 4, "norm_before_gate": True},
    "learned initial states": {"learnable_init_states": True, "ngroups": 2},
    "dt_limit": {"dt_limit": (0.2, 0.9)},
    "biases": {"bias": True, "conv_bias": False},
    "convolution of width 1": {"d_conv": 1},
    "untied, padded vocabulary": {"tie_embeddings": False, "vocab_size": 250, "pad_vocab_size_multiple": 16},
    "chunks longer than d_state": {"chunk_size": 16},
}
every_variant = pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS.keys())
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-11}


def model_of(dtype: torch.dtype = torch.float64, seed: int = 0, **fields: Any) -> Mamba2LM:
    return small_model(seed, **fields).cpu().to(dtype)


def settings(model: Mamba2LM) -> dict[str, Any]:
    return {name: getattr(model.config, name) for name in ("ngroups", "dt_limit", "norm_before_gate", "norm_eps")}


def reference(model: Mamba2LM, ids: Tensor) -> tuple[Tensor, list[oracle.Memory]]:
    """Logits (l,v) and memories of the float64 model."""
    logits, memories = oracle.language_model(
        model.state_dict(), ids[None], vocab_size=model.config.vocab_size, **settings(model)
    )
    return logits[0], memories


def weights_of(model: Mamba2LM, layer: int) -> dict[str, Tensor]:
    return model.blocks[layer].mixer.state_dict()


def normed(model: Mamba2LM, layer: int, u: Tensor) -> Array:
    mean_square = (array(u) ** 2).mean(-1, keepdims=True)
    return array(u) / np.sqrt(mean_square + model.config.norm_eps) * array(model.blocks[layer].norm.weight)


def group_of(trace: LayerTrace, head: int) -> int:
    return head * trace.B.shape[1] // trace.dt.shape[1]


def attention_by_hand(layer: LayerTrace, head: int) -> Array:
    """M (l,l), entry by entry."""
    decay, dt = np.exp(array(layer.log_decay[:, head])), array(layer.dt[:, head])
    B, C = (array(factor[:, group_of(layer, head)]) for factor in (layer.B, layer.C))
    l = len(dt)
    M = np.zeros((l, l))
    for t in range(l):
        for s in range(t + 1):
            M[t, s] = decay[s + 1 : t + 1].prod() * (C[t] @ B[s]) * dt[s]
    return M


def read_in_pieces(size: int) -> Any:
    """Traces read so many tokens at once, or the least that they can."""
    return mock.patch.object(sys.modules["mamba2_lab.inspect.tracing"], "tokens_per_piece", lambda config: size)


# The pieces and the whole


@every_variant
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("l", [1, 2, 8, 9, 37])
def test_the_traced_logits_and_streams_are_those_of_the_float64_model(
    fields: dict[str, Any], dtype: torch.dtype, l: int
) -> None:
    model, ids = model_of(dtype, **fields), random_ids(l, vocab_size=250)
    trace = inspect.trace(model, ids)
    assert relative_error(trace.logits, reference(model, ids)[0]) <= TOLERANCE[dtype]
    stream = array(model.embedding.weight)[ids.numpy()]
    for i, layer in enumerate(trace.layers):
        assert relative_error(layer.u, torch.from_numpy(stream)) <= TOLERANCE[dtype]
        u = torch.from_numpy(normed(model, i, layer.u))[None]
        expected, _ = oracle.mixer(weights_of(model, i), u, **settings(model))
        assert relative_error(layer.output, expected[0]) <= TOLERANCE[dtype]
        stream = stream + array(layer.output)
    assert relative_error(trace.residual, torch.from_numpy(stream)) <= TOLERANCE[dtype]


@given(
    l=st.integers(1, 40),
    ngroups=st.sampled_from([1, 2, 4]),
    chunk_size=st.integers(1, 20),
    d_state=st.integers(1, 9),
    norm_before_gate=st.booleans(),
    learnable_init_states=st.booleans(),
    seed=st.integers(0, 1000),
    piece=st.integers(1, 30),
)
def test_the_pieces_add_up_for_any_model_and_length(l: int, seed: int, piece: int, **fields: Any) -> None:
    model, ids = model_of(seed=seed, **fields), random_ids(l, seed=seed)
    with read_in_pieces(piece):
        trace = inspect.trace(model, ids)
    logits, memories = reference(model, ids)
    assert relative_error(trace.logits, logits) <= 1e-11
    for i, layer in enumerate(trace.layers):
        for head in range(4):
            read = layer.attention(head) @ layer.x[:, head] + layer.initial_part(head)
            assert relative_error(read, layer.y[:, head]) <= 1e-11
            assert relative_error(layer.states(head, [l - 1])[0], memories[i].state[0, head]) <= 1e-11


@every_variant
def test_each_piece_is_what_the_formulas_say(fields: dict[str, Any]) -> None:
    model, l = model_of(**fields), 21
    config = model.config
    for i, layer in enumerate(inspect.trace(model, random_ids(l, vocab_size=250)).layers):
        w = {name: array(weight) for name, weight in weights_of(model, i).items()}
        projected = normed(model, i, layer.u) @ w["in_proj.weight"].T + w.get("in_proj.bias", 0.0)
        z, xBC, dt = np.split(projected, [config.d_inner, config.d_inner + config.conv_dim], axis=-1)
        padded = np.concatenate([np.zeros((config.d_conv - 1, config.conv_dim)), xBC])
        bias = w.get("conv1d.bias", np.zeros(config.conv_dim))
        sums = np.stack([(padded[t : t + config.d_conv].T * w["conv1d.weight"][:, 0]).sum(-1) + bias for t in range(l)])
        convolved = sums / (1 + np.exp(-sums))
        x, B, C = np.split(convolved, [config.d_inner, config.d_inner + config.ngroups * config.d_state], axis=-1)
        dt = np.clip(np.log1p(np.exp(dt + w["dt_bias"])), *config.dt_limit)
        dt_at_rest = np.clip(np.log1p(np.exp(w["dt_bias"])), *config.dt_limit)
        skipped = x.reshape(l, 4, 8) * w["D"][:, None]
        y = (array(layer.y) + skipped).reshape(l, -1)
        gate = z / (1 + np.exp(-z))
        y = (y if config.norm_before_gate else y * gate).reshape(l, config.ngroups, -1)
        y = (y / np.sqrt((y**2).mean(-1, keepdims=True) + config.norm_eps)).reshape(l, -1) * w["norm.weight"]
        expected = {
            "z": z,
            "xBC": xBC,
            "x": x,
            "B": B,
            "C": C,
            "dt": dt,
            "log_decay": -dt * np.exp(w["A_log"]),
            "decay": np.exp(-dt * np.exp(w["A_log"])),
            "log_decay_at_rest": -dt_at_rest * np.exp(w["A_log"]),
            "skipped": skipped,
            "gated": y * gate if config.norm_before_gate else y,
        }
        for name, value in expected.items():
            found = getattr(layer, name)
            assert relative_error(found, torch.from_numpy(value).reshape(found.shape)) <= 1e-12, name


def test_a_trace_from_a_cache_is_the_second_half_of_the_trace_of_the_whole() -> None:
    model, ids = model_of(ngroups=2, learnable_init_states=True), random_ids(31)
    whole = inspect.trace(model, ids)
    with torch.no_grad():
        _, cache = model.prefill(ids[None, :13])
    kept = cache.clone()
    rest = inspect.trace(model, ids[None, 13:], cache)
    assert relative_error(rest.logits, whole.logits[13:]) <= 1e-12
    for layer, (part, full) in enumerate(zip(rest.layers, whole.layers, strict=True)):
        for name in ("u", "z", "xBC", "x", "dt", "log_decay", "B", "C", "y", "gated", "output"):
            assert relative_error(getattr(part, name), getattr(full, name)[13:]) <= 1e-12, name
        assert relative_error(rest.states(layer, 1), whole.states(layer, 1)[13:]) <= 1e-12
        assert relative_error(part.window, full.xBC[10:13]) <= 1e-12
        assert relative_error(part.contributions(1, 2).total, full.contributions(1, 15).total) <= 1e-12
        assert torch.equal(cache.layers[layer].ssm_state, kept.layers[layer].ssm_state)


# States


@every_variant
def test_states_are_those_that_each_prefix_leaves_behind(fields: dict[str, Any]) -> None:
    model, ids = model_of(**fields), random_ids(35, vocab_size=250)
    trace = inspect.trace(model, ids)
    positions = [34, 0, 7, 8, 8, 33, 15, 16, 3, 31, 32]  # any order, twice, on both sides of checkpoints
    memories = {t: reference(model, ids[: t + 1])[1] for t in set(positions)}
    for layer in range(2):
        for head in range(4):
            expected = torch.stack([memories[t][layer].state[0, head] for t in positions])
            assert relative_error(trace.states(layer, head, positions), expected) <= 1e-11
            assert torch.equal(trace.states(layer, head)[positions], trace.states(layer, head, positions))


def test_what_is_written_is_the_new_state_less_what_was_kept_of_the_old() -> None:
    layer = inspect.trace(model_of(ngroups=2), random_ids(20)).layers[1]
    for head in range(4):
        states = layer.states(head)
        written = states[1:] - layer.decay[1:, head, None, None] * states[:-1]
        assert relative_error(layer.writes(head)[1:], written) <= 1e-12
        assert relative_error(layer.writes(head, [5, 3]), torch.stack([written[4], written[2]])) <= 1e-12
        assert relative_error(layer.written[1:, head], written.flatten(1).norm(dim=1)) <= 1e-12


def test_no_positions_are_no_states_and_no_rows() -> None:
    trace = inspect.trace(model_of(), random_ids(5))
    assert trace.states(0, 0, []).shape == (0, 8, 8)
    assert trace.attention(0, 0, []).shape == (0, 5)


# Hidden attention


@every_variant
def test_attention_is_the_product_of_decays_times_c_times_b_times_dt(fields: dict[str, Any]) -> None:
    trace = inspect.trace(model_of(**fields), random_ids(19, vocab_size=250))
    for i, layer in enumerate(trace.layers):
        for head in range(4):
            M = torch.from_numpy(attention_by_hand(layer, head))
            assert relative_error(trace.attention(i, head), M) <= 1e-12
            assert relative_error(trace.attention(i, head, [18, 0, 4, 4]), M[[18, 0, 4, 4]]) <= 1e-12
            bare = trace.attention(i, head, with_dt=False)
            assert relative_error(bare * layer.dt[:, head], M) <= 1e-12
            assert trace.attention(i, head).triu(1).count_nonzero() == 0


def test_attention_stays_finite_where_a_decay_is_zero_and_exact_where_all_are_one() -> None:
    model = model_of()
    with torch.no_grad():
        model.blocks[0].mixer.A_log[:] = torch.tensor([12.0, -50.0, 0.0, 3.0])  # exp(-160000 dt), exp(-2e-22 dt), ...
    layer = inspect.trace(model, random_ids(19)).layers[0]
    for head in range(4):
        found = layer.attention(head)
        assert relative_error(found, torch.from_numpy(attention_by_hand(layer, head))) <= 1e-12
        assert found.isfinite().all()


@every_variant
def test_contributions_are_the_sums_over_taps_and_targets_written_out(fields: dict[str, Any]) -> None:
    model = model_of(**fields)
    with torch.no_grad():
        _, cache = model.prefill(random_ids(1, 6))
    trace = inspect.trace(model, random_ids(11, seed=1, vocab_size=250), cache)
    w, head, channels = model.config.d_conv, 2, slice(16, 24)
    for layer in trace.layers:
        inputs = np.concatenate([array(layer.window[:, channels]), array(layer.xBC[:, channels])])
        taps, bias = array(layer.taps[:, channels]), array(layer.conv_bias[channels])
        for target in (0, 1, 10):
            row = attention_by_hand(layer, head)[target]
            row[target] += array(layer.D)[head]
            expected = np.zeros((len(inputs), 8))  # by input, those of the window first
            from_bias = np.zeros(8)
            for s in range(11):
                v = sum(taps[i] * inputs[s + i] for i in range(w)) + bias
                sigmoid = 1 / (1 + np.exp(-v))
                from_bias += row[s] * sigmoid * bias
                for i in range(w):
                    expected[s + i] += row[s] * sigmoid * taps[i] * inputs[s + i]
            found = layer.contributions(head, target)
            assert relative_error(found.tokens, torch.from_numpy(expected[w - 1 :])) <= 1e-11
            assert relative_error(found.before, torch.from_numpy(expected[: w - 1].sum(0))) <= 1e-11
            assert relative_error(found.bias, torch.from_numpy(from_bias)) <= 1e-11
            assert relative_error(found.initial, layer.initial_part(head, [target])[0]) <= 1e-12
            y = layer.y[target, head] + layer.D[head] * layer.x[target, head]
            assert relative_error(found.total, y) <= 1e-11


@every_variant
def test_the_parts_of_x_add_up_to_x(fields: dict[str, Any]) -> None:
    for layer in inspect.trace(model_of(**fields), random_ids(9, vocab_size=250)).layers:
        for head in range(4):
            parts = layer.x_parts(head)
            assert relative_error(parts.sum(dim=0), layer.x[:, head]) <= 1e-12
            assert all(parts[lag, :lag].count_nonzero() == 0 for lag in range(1, len(parts) - 1))  # nothing before


# Half-lives


def constant_decay_model(**fields: Any) -> Mamba2LM:
    """dt is what its bias says, whatever is read."""
    model = model_of(**fields)
    with torch.no_grad():
        for block in model.blocks:
            block.mixer.in_proj.weight[-4:] = 0.0
    return model


def test_half_lives_of_a_constant_decay_are_ln_2_over_its_rate_until_the_prompt_ends() -> None:
    model = constant_decay_model()
    for layer, block in zip(inspect.trace(model, random_ids(30)).layers, model.blocks, strict=True):
        dt = np.log1p(np.exp(array(block.mixer.dt_bias)))
        expected = torch.from_numpy(math.log(2) / (dt * np.exp(array(block.mixer.A_log))))
        assert relative_error(layer.half_life, expected) <= 1e-12
        assert relative_error(layer.half_life_at_rest, expected) <= 1e-12
        for head in range(4):
            for s in range(30):
                if s + float(expected[head]) < 29:
                    assert abs(float(layer.half_lives[s, head] - expected[head])) <= 1e-9
                else:
                    assert layer.half_lives[s, head] == math.inf


@given(seed=st.integers(0, 1000), l=st.integers(1, 60))
def test_after_its_half_life_half_of_what_a_token_wrote_is_left(seed: int, l: int) -> None:
    layer = inspect.trace(model_of(seed=seed), random_ids(l, seed=seed)).layers[1]
    for head in range(4):
        log_decay = array(layer.log_decay[:, head])
        for s in range(l):
            left = np.concatenate([[0.0], np.cumsum(log_decay[s + 1 :])])  # 0, 1, 2, ... tokens after s
            half_life = float(layer.half_lives[s, head])
            if half_life == math.inf:
                assert left[-1] > -math.log(2)
            else:
                assert abs(np.interp(half_life, np.arange(len(left)), left) + math.log(2)) <= 1e-9
        mean = log_decay.mean()
        assert abs(float(layer.half_life[head]) + math.log(2) / mean) <= 1e-9 * abs(math.log(2) / mean)


def test_a_head_in_which_no_time_passes_never_fades() -> None:
    layer = inspect.trace(model_of(dt_limit=(0.0, 0.0)), random_ids(6)).layers[0]
    for half_life in (layer.half_life, layer.half_life_at_rest, layer.half_lives):
        assert (half_life == math.inf).all()


# What is kept


def test_a_trace_grows_with_the_length_and_no_faster() -> None:
    model = model_of(torch.float32)
    sizes = [inspect.trace(model, random_ids(l)).nbytes for l in (64, 256)]
    assert 3.8 * sizes[0] <= sizes[1] <= 4 * sizes[0]
    config, l = model.config, 256
    per_token = 4 * config.n_layer * (2 * config.d_model + 7 * config.d_inner + 8 * config.d_state + 3 * config.nheads)
    assert sizes[1] <= l * (per_token + 4 * (config.d_model + config.padded_vocab_size) + 8) * 1.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_everything_is_float32_or_float64_and_of_no_graph(dtype: torch.dtype) -> None:
    trace = inspect.trace(model_of(dtype), random_ids(12))
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    tensors = [value for layer in trace.layers for value in vars(layer).values() if isinstance(value, Tensor)]
    for tensor in [*tensors, trace.residual, trace.logits, trace.states(0, 1), trace.attention(0, 1)]:
        assert tensor.dtype == expected and not tensor.requires_grad and tensor.device.type == "cpu"
    layer = trace.layers[0]
    read = layer.attention(1) @ layer.x[:, 1] + layer.initial_part(1)
    assert relative_error(read, layer.y[:, 1]) <= 1e-5
    assert layer.half_lives.dtype == expected


def test_a_trace_is_on_the_cpu_wherever_the_model_is() -> None:
    model, ids = small_model(ngroups=2, dt_limit=(0.1, 0.9)), random_ids(19)
    before, after = ids[:6], ids[6:]
    with torch.no_grad():
        _, cache = model.prefill(before[None].to(DEVICE))
    logits, memories = reference(model, ids)
    for where in ("cpu", DEVICE):
        trace = inspect.trace(model, after.to(where), cache)
        assert relative_error(trace.logits, logits[6:]) <= 1e-5
        for i, memory in enumerate(memories):
            assert relative_error(trace.states(i, 2, [12])[0], memory.state[0, 2]) <= 1e-5
            assert trace.attention(i, 2).device.type == trace.layers[i].half_life.device.type == "cpu"


def test_training_on_does_not_change_a_trace() -> None:
    model = model_of()
    layer = inspect.trace(model, random_ids(12)).layers[0]
    before = [value.clone() for value in vars(layer).values() if isinstance(value, Tensor)]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1.0
    after = [value for value in vars(layer).values() if isinstance(value, Tensor)]
    assert all(map(torch.equal, before, after))


def test_who_listens_hears_of_every_layer_and_can_end_the_reading() -> None:
    model, ids, heard = model_of(chunk_size=8, d_state=8), random_ids(20), []
    with torch.no_grad():
        _, cache = model.prefill(random_ids(5)[None])
    kept = cache.clone()
    with read_in_pieces(8):
        inspect.trace(model, ids, cache, on_progress=heard.append)
    assert heard == pytest.approx([i / 9 for i in range(1, 10)]), "3 pieces, in 2 layers and the logits"

    def interrupt(share: float) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    with read_in_pieces(8), pytest.raises(KeyboardInterrupt):
        inspect.trace(model, ids, cache, on_progress=interrupt)
    for before, after in zip(kept.layers, cache.layers, strict=True):
        assert torch.equal(before.ssm_state, after.ssm_state) and torch.equal(before.conv_window, after.conv_window)


def test_traces_say_what_they_are_in_a_line() -> None:
    trace = inspect.trace(model_of(), random_ids(12))
    assert repr(trace) == "Trace(12 tokens, 2 layers of 4 heads)"
    assert repr(trace.layers[0]) == "LayerTrace(12 tokens, 4 heads with a state of 8 x 8)"


# Bad input


@pytest.fixture(scope="module")
def short() -> Trace:
    return inspect.trace(model_of(), random_ids(6))


@pytest.mark.parametrize(
    ("ids", "error", "parts"),
    [
        ([], ValueError, ["input_ids must be one sequence of at least one token", "(1, 0)"]),
        (torch.zeros(2, 3, dtype=torch.long), ValueError, ["input_ids must be one sequence", "(2, 3)"]),
        ([1, 257], ValueError, ["input_ids must lie in 0..256", "257"]),
        ([0.5], TypeError, ["input_ids must be integers", "float32"]),
        ("def", TypeError, ["input_ids must be token ids", "'def'"]),
    ],
    ids=str,
)
def test_prompts_that_cannot_be_read_are_errors(ids: Any, error: type[Exception], parts: list[str]) -> None:
    with raises(error, *parts):
        inspect.trace(model_of(), ids)


def test_a_cache_of_many_rows_is_an_error() -> None:
    model = model_of()
    with raises(ValueError, "cache must hold 1 rows", "got 2"):
        inspect.trace(model, [1, 2], model.new_cache(2))


def test_layers_heads_and_positions_outside_are_errors(short: Trace) -> None:
    with raises(ValueError, "layer must be in 0..1", "2"):
        short.states(2, 0)
    with raises(ValueError, "head must be in 0..3", "-1"):
        short.attention(0, -1)
    with raises(TypeError, "head must be a whole number", "None"):
        short.layers[0].x_parts(None)  # type: ignore[arg-type]
    for positions in ([0, 6], [-1]):
        with raises(ValueError, "positions must lie in 0..5", str(positions)):
            short.states(0, 0, positions)
        with raises(ValueError, "targets must lie in 0..5", str(positions)):
            short.attention(0, 0, positions)
    with raises(TypeError, "positions must be a list of whole numbers", "3"):
        short.states(0, 0, 3)  # type: ignore[arg-type]
    with raises(TypeError, "targets must be a list of whole numbers", "0.5"):
        short.attention(0, 0, [0.5])  # type: ignore[list-item]
    with raises(ValueError, "targets must lie in 0..5", "9"):
        short.layers[0].contributions(0, 9)
