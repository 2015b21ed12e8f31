"""What `inspect` does with models of any mixers, and of several: against the oracles, and against sums by hand."""

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from support.devices import DEVICE
from support.families import each_family, expected_logits, family_model
from support.oracle import attention as attention_oracle
from support.oracle import mamba1 as mamba1_oracle
from support.oracle import mamba2 as mamba2_oracle
from support.oracle import mamba3 as mamba3_oracle
from support.oracle.mamba2 import array, raises, relative_error
from support.small_models import random_ids, small_stack
from torch import Tensor

from mamba2_lab import Mamba2Cache, inspect, stream
from mamba2_lab.inspect import erase, erase_windows, gradient_reach, inject, state_change, swap
from mamba2_lab.model import LanguageModel

HYBRID = ["mamba1", "mamba2", "attention", "mamba3"]
ORACLES: dict[str, Any] = {
    "mamba1": (mamba1_oracle.mixer, {}),
    "mamba2": (mamba2_oracle.mixer, {}),
    "mamba3": (mamba3_oracle.mixer, {}),
    "attention": (attention_oracle.mixer, {"num_heads": 4, "rotary_emb_dim": 4}),
}
MODELS = {
    "mamba1": small_stack("mamba1"),
    "mamba2": small_stack("mamba2"),
    "mamba3": small_stack("mamba3", mamba3={"is_mimo": True, "mimo_rank": 2}),
    "attention": small_stack("attention", attention={"d_conv": 3}),
    "hybrid": small_stack(HYBRID, d_intermediate=8),
}
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
recurrent = pytest.mark.parametrize("name", ["mamba1", "mamba2", "mamba3"])


@torch.no_grad()
def cache_after(model: LanguageModel, l: int = 9, b: int = 1, seed: int = 0) -> Mamba2Cache:
    return model.prefill(random_ids(b, l, seed=seed))[1]


# A trace of several kinds


def normed(u: Any, weight: Tensor) -> Tensor:
    return torch.from_numpy(u / np.sqrt((u**2).mean(-1, keepdims=True) + 1e-5) * array(weight))


@pytest.mark.parametrize("d_intermediate", [0, 8])
@pytest.mark.parametrize("l", [1, 21])
def test_the_stream_goes_through_every_mixer_and_every_mlp(d_intermediate: int, l: int) -> None:
    model, ids = small_stack(HYBRID, d_intermediate=d_intermediate), random_ids(l)
    trace = inspect.trace(model, ids)
    stream = array(model.embedding.weight)[ids.numpy()]
    for block, layer, name in zip(model.blocks, trace.layers, HYBRID, strict=True):
        assert layer.mixer == name and layer.index == HYBRID.index(name)
        assert relative_error(layer.u, torch.from_numpy(stream)) <= 1e-11
        mixer, settings = ORACLES[name]
        given = normed(stream, block.norm.weight)[None]
        output = mixer(block.mixer.state_dict(), given, **settings)[0][0]
        assert relative_error(layer.output, output) <= 1e-11
        stream = stream + array(output)
        if block.mlp is not None and block.norm2 is not None:
            stream = stream + array(attention_oracle.mlp(block.mlp.state_dict(), normed(stream, block.norm2.weight)))
    assert relative_error(trace.residual, torch.from_numpy(stream)) <= 1e-11
    logits = array(normed(stream, model.norm_f.weight)) @ array(model.lm_head.weight).T
    assert relative_error(trace.logits, torch.from_numpy(logits[:, :257])) <= 1e-11


def test_a_trace_of_several_kinds_says_which() -> None:
    trace = inspect.trace(small_stack(["mamba2", "mamba2", "mamba3"]), random_ids(3))
    assert repr(trace) == "Trace(3 tokens, 2 mamba2 layers of 4 heads, 1 mamba3 layer of 4 heads)"


def test_each_layer_answers_for_itself() -> None:
    trace = inspect.trace(MODELS["hybrid"], random_ids(5))
    assert [trace.attention(i, 3).shape for i in range(4)] == [(5, 5)] * 4
    assert [tuple(trace.states(i, 3, [4]).shape) for i in (0, 1, 3)] == [(1, 1, 4), (1, 8, 8), (1, 8, 8)]
    with raises(AttributeError, "layer 2 is attention and has no states"):
        trace.states(2, 0)
    with raises(ValueError, "head must be in 0..3", "31"):
        trace.attention(1, 31)
    assert trace.attention(0, 31).shape == (5, 5)


@each_family
def test_the_logits_of_every_family_are_those_of_its_oracle(family: str) -> None:
    model, ids = family_model(family).cpu().double(), random_ids(19)
    assert relative_error(inspect.trace(model, ids).logits, expected_logits(model, ids[None])[0]) <= 1e-11


def test_what_one_kind_has_another_has_or_refuses_in_a_sentence() -> None:
    layers = inspect.trace(MODELS["hybrid"], random_ids(3)).layers
    names = {name for layer in layers for name in dir(layer) if not name.startswith("_")}
    for layer in layers:
        for name in sorted(names - set(dir(layer))):
            with raises(AttributeError, f"layer {layer.index} is {layer.mixer} and has no {name}: "):
                getattr(layer, name)
        assert not type(layer).lacks.keys() & set(dir(layer)), "it has what it says it lacks"
        with raises(AttributeError, "has no attribute 'half_live'"):
            _ = layer.half_live
    again = pickle.loads(pickle.dumps(copy.copy(layers[3])))
    assert torch.equal(again.attention(1), layers[3].attention(1))


@each_family
def test_a_trace_is_on_the_cpu_wherever_the_model_is(family: str) -> None:
    model, ids = family_model(family), random_ids(19)
    with torch.no_grad():
        _, cache = model.prefill(ids[None, :6].to(DEVICE))
        _, after = model.prefill(ids[None].to(DEVICE))
    trace = inspect.trace(model, ids[6:].to(DEVICE), cache)
    assert relative_error(trace.logits, expected_logits(model, ids[None])[0, 6:]) <= 1e-5
    for layer in trace.layers:
        kept = [value for value in vars(layer).values() if isinstance(value, Tensor)]
        assert {tensor.device.type for tensor in [*kept, layer.attention(1), layer.initial_part(1)]} == {"cpu"}
        assert all(tensor.dtype in (torch.float32, torch.bool) for tensor in kept)
        if layer.mixer != "attention":
            expected = after.layers[layer.index].tensors()["ssm_state"][0, 1].cpu()
            assert relative_error(layer.states(1, [12])[0].view(expected.shape), expected) <= 1e-5


# Surgery


@every_model
@torch.no_grad()
def test_erased_with_its_windows_reading_on_is_reading_afresh(model: LanguageModel) -> None:
    cache, ids = cache_after(model, b=2), random_ids(2, 7, seed=5)
    found, _ = model.prefill(ids, erase_windows(erase(cache)), all_positions=True)
    assert relative_error(found, model(ids)) <= 1e-11
    assert relative_error(model.prefill(ids, cache, all_positions=True)[0], model(ids)) > 1e-3


@every_model
@torch.no_grad()
def test_to_swap_all_and_to_swap_back(model: LanguageModel) -> None:
    one, other = cache_after(model, 5), cache_after(model, 8, seed=1)
    first, second = swap(one, other)
    for i, layer in enumerate(first.layers):
        for name, tensor in layer.tensors().items():
            whose = one if name in layer.windows else other
            assert torch.equal(tensor, whose.layers[i].tensors()[name]), name
    for again, before in zip(swap(first, second), (one, other), strict=True):
        for old, new in zip(before.layers, again.layers, strict=True):
            assert all(map(torch.equal, old.tensors().values(), new.tensors().values()))
    ids = random_ids(1, 4, seed=3)
    if not any(layer.windows for layer in one.layers):  # nothing of the other text is left then
        expected = model.prefill(ids, other, all_positions=True)[0]
        assert relative_error(model.prefill(ids, first, all_positions=True)[0], expected) <= 1e-12


@recurrent
def test_one_head_is_erased_and_all_that_it_keeps(name: str) -> None:
    cache = cache_after(MODELS[name], b=2)
    after = erase(cache, 1, 2)
    assert all(map(torch.equal, cache.layers[0].tensors().values(), after.layers[0].tensors().values()))
    old, new = cache.layers[1].tensors(), after.layers[1].tensors()
    for part in old:
        if part in cache.layers[1].by_head:
            assert new[part][:, 2].count_nonzero() == 0 < old[part][:, 2].count_nonzero()
            others = [head for head in range(old[part].shape[1]) if head != 2]
            assert torch.equal(new[part][:, others], old[part][:, others])
        else:
            assert torch.equal(new[part], old[part])


@recurrent
def test_an_injected_pair_is_read_as_the_overlap_with_its_key_times_the_decays_since(name: str) -> None:
    model, head, layer = MODELS[name], 3, 1
    cache, ids, generator = cache_after(model), random_ids(6, seed=2), torch.Generator().manual_seed(0)
    p, n = {"mamba1": (1, 4)}.get(name, (8, 8))
    key, value = (torch.randn(size, generator=generator, dtype=torch.float64) for size in (n, p))
    written = inject(cache, layer, head, key, value, strength=1.5)
    before, after = (inspect.trace(model, ids, each).layers[layer] for each in (cache, written))
    left: Any = np.ones(n)
    for t in range(6):
        if name == "mamba1":
            left = left * array(before.decays(head)[t])
            queries = array(before.C[t])[None]
        else:
            left = left * float(before.decay[t, head])
            queries = array(before.q[t, :, head] if name == "mamba3" else before.C[t])
        expected = 1.5 * (queries * left) @ np.outer(array(key), array(value))  # (r,p)
        found = array((after.y - before.y)[t].view(-1, before.heads, p)[:, head])
        assert np.abs(found - expected).max() <= 1e-12 * (1 + np.abs(expected).max())
        state = array(after.states(head, [t])[0] - before.states(head, [t])[0])
        assert np.abs(state - 1.5 * np.outer(array(value), left * array(key))).max() <= 1e-12


@torch.no_grad()
def test_writing_goes_on_from_an_edited_cache_of_several_kinds() -> None:
    model, prompt = MODELS["hybrid"], random_ids(1, 2, seed=3)
    options: dict[str, Any] = {"max_new_tokens": 5, "temperature": 0.0}
    afresh = [token.id for token in stream(model, prompt, **options)]
    blank = erase_windows(erase(cache_after(model)))
    assert [token.id for token in stream(model, prompt, cache=blank, **options)] == afresh


def test_what_surgery_cannot_do_is_refused_in_a_sentence() -> None:
    cache = cache_after(MODELS["hybrid"])
    with raises(ValueError, "head must be None for layer 2, whose AttentionState has no states of heads", "got 1"):
        erase(cache, 2, 1)
    with raises(ValueError, "head must be in 0..3", "4"):
        erase(cache, 1, 4)
    with raises(ValueError, "layer must be one with states of heads", "got 2, which keeps an AttentionState"):
        inject(cache, 2, 0, torch.ones(4), torch.ones(4))
    with raises(ValueError, "value must have shape (p,), (1,)", "(8,)"):
        inject(cache, 0, 0, torch.ones(4), torch.ones(8))
    other = cache_after(small_stack(["mamba1", "mamba2", "attention", "attention"]))
    with raises(
        ValueError, "other must have states of the same shapes as one, in layer 3 (1, 4, 8, 8) and", "(1, t, 4"
    ):
        swap(cache, other)


# Measures


@every_model
@torch.no_grad()
def test_state_change_has_nan_where_a_layer_has_no_such_head(model: LanguageModel) -> None:
    _, before = model.prefill(random_ids(2, 6))
    _, after = model.step(torch.tensor([7, 8]), before)
    change = state_change(before, after, row=1)
    heads = [getattr(layer, "ssm_state", torch.empty(2, 0)).shape[1] for layer in before.layers]
    assert change.shape == (len(heads), max(heads))
    for i, h in enumerate(heads):
        assert change[i, h:].isnan().all()
        for head in range(h):
            old, new = (array(cache.layers[i].ssm_state[1, head]) for cache in (before, after))
            expected = np.sqrt(((new - old) ** 2).sum()) / (np.sqrt((new**2).sum()) + np.sqrt((old**2).sum()))
            assert float(change[i, head]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("model", [MODELS["mamba3"], MODELS["hybrid"]], ids=["mamba3", "hybrid"])
def test_the_reach_is_the_length_of_the_gradient(model: LanguageModel) -> None:
    ids, step = torch.tensor([5, 3, 9, 2]), 1e-6  # each token once, so that its row of the embedding is its own
    (row,) = gradient_reach(model, ids, [2])
    assert row[3] == 0
    weight = model.embedding.weight.data

    def log_probability() -> float:
        with torch.no_grad():
            u = torch.nn.functional.embedding(ids, own)
            states = model.new_cache(1).layers
            for block, state in zip(model.blocks, states, strict=True):
                u = block(u[None], state)[0][0]
            return float(model.unembed(u)[2].log_softmax(-1)[2])

    for source in range(3):
        gradient = np.zeros(16)
        for i in range(16):
            ends = []
            for sign in (1, -1):
                own = weight.clone()
                own[ids[source], i] += sign * step
                ends.append(log_probability())
            gradient[i] = (ends[0] - ends[1]) / (2 * step)
        assert float(row[source]) == pytest.approx(math.sqrt((gradient**2).sum()), rel=1e-5)


@recurrent
def test_a_probe_reads_states_of_any_kind(name: str) -> None:
    """Which of two tokens was read last, off the states of some heads: what a fresh model writes tells them apart."""
    ids = torch.tensor([5, 200])[(torch.rand(800, generator=torch.Generator().manual_seed(0)) < 0.5).long()]
    layer = inspect.trace(MODELS[name], ids).layers[0]
    states_of = layer.seen_states if name == "mamba3" else layer.states
    states = torch.cat([states_of(head).flatten(1) for head in range(min(layer.heads, 8))], dim=1)
    probe = inspect.fit_probe(states, ids, torch.arange(800) // 20)
    assert probe.accuracy > 0.8 > 0.7 > max(probe.majority, probe.control)
