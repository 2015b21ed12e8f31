"""Attention and its growing memory: against a softmax in float64 written independently, on every path."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.oracle import attention as oracle
from support.oracle.mamba2 import perturb, raises, relative_error
from torch import Tensor
from torch._dynamo.utils import counters
from torch.func import functional_call, grad, jvp, vmap

from mamba2_lab.config import AttentionFields
from mamba2_lab.layers import Attention, AttentionState, rotary
from mamba2_lab.layers.attention import look_back
from mamba2_lab.operation import plainly

SMALL = {"d_model": 12, "num_heads": 4, "head_dim": 6, "rotary_emb_dim": 4}
VARIANTS: dict[str, dict[str, Any]] = {
    "rotary on a part": {},
    "rotary on all": {"rotary_emb_dim": 6},
    "no rotary": {"rotary_emb_dim": 0},
    "neighbours turn": {"rotary_emb_interleaved": True},
    "another base": {"rotary_emb_base": 10.0},
    "grouped": {"num_heads_kv": 2},
    "one head of keys": {"num_heads_kv": 1},
    "convolution": {"d_conv": 4},
    "convolution of width 1": {"d_conv": 1},
    "no biases": {"qkv_proj_bias": False, "out_proj_bias": False},
    "another scale": {"softmax_scale": 2.0},
    "narrow heads": {"head_dim": None, "rotary_emb_dim": 2},
    "one head, one channel": {"d_model": 1, "num_heads": 1, "head_dim": 1, "rotary_emb_dim": 0},
    "everything": {
        "num_heads": 6,
        "num_heads_kv": 3,
        "d_conv": 3,
        "rotary_emb_interleaved": True,
        "qkv_proj_bias": False,
        "softmax_scale": 0.7,
    },
}
every_variant = pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS.keys())
ALL = VARIANTS["everything"]
FOR_THE_ORACLE = ("num_heads", "softmax_scale", "rotary_emb_dim", "rotary_emb_base", "rotary_emb_interleaved")


def make_mixer(fields: dict[str, Any], dtype: torch.dtype = torch.float64) -> Attention:
    return perturb(Attention(**{**SMALL, **fields})).to(dtype)


def inputs_for(mixer: Attention, b: int, l: int) -> Tensor:
    return torch.randn(b, l, mixer.config.d_model, dtype=mixer.in_proj.weight.dtype)


def memory_for(mixer: Attention, b: int, t: int = 5) -> AttentionState:
    """A state that something has been read into, of which some is real."""
    keys, values, _, window = mixer.initial_state(b).tensors().values()
    keys, values = (torch.randn(b, t, *part.shape[2:], dtype=part.dtype) for part in (keys, values))
    return AttentionState(keys, values, torch.rand(b, t) < 0.6, torch.randn_like(window))


def remembered(state: AttentionState, row: int) -> oracle.Memory:
    """What is real of one row."""
    real, own = state.real[row], slice(row, row + 1)
    return oracle.Memory(state.keys[own, real], state.values[own, real], state.conv_window[own])


def expected_of(
    mixer: Attention, u: Tensor, before: oracle.Memory | None = None, **more: Any
) -> tuple[Tensor, oracle.Memory]:
    settings = {name: getattr(mixer.config, name) for name in FOR_THE_ORACLE}
    return oracle.mixer(mixer.state_dict(), u, before, **settings, **more)


def by_steps(mixer: Attention, u: Tensor, state: AttentionState) -> tuple[Tensor, AttentionState]:
    ys = []
    for u_t in u.unbind(1):
        y_t, state = mixer.step(u_t, state)
        ys.append(y_t)
    return torch.stack(ys, dim=1), state


def worst_error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    errors = [relative_error(one, other) for one, other in zip(found, expected, strict=True)]
    return float(torch.tensor(errors).max())


def error_of(result: tuple[Tensor, AttentionState], expected: tuple[Tensor, oracle.Memory]) -> float:
    """Of rows that have all read the same number of tokens, none of them padding."""
    y, state = result
    assert state.real.all()
    return worst_error((y, state.keys, state.values, state.conv_window), (expected[0], *expected[1]))


def identical(one: AttentionState, other: AttentionState) -> bool:
    return all(map(torch.equal, one.tensors().values(), other.tensors().values()))


# Against the float64 softmax


@every_variant
@torch.no_grad()
def test_attention_equals_the_float64_softmax(fields: dict[str, Any]) -> None:
    mixer = make_mixer(fields)
    u = inputs_for(mixer, b=2, l=37)
    expected = expected_of(mixer, u)
    assert error_of(mixer.prefill(u), expected) <= 1e-11
    assert worst_error([mixer(u)], expected[:1]) <= 1e-11
    assert error_of(by_steps(mixer, u, mixer.initial_state(2)), expected) <= 1e-11
    with plainly():
        assert error_of(mixer.prefill(u), expected) <= 1e-11


@every_variant
@torch.no_grad()
def test_attention_in_float32_is_within_rounding_of_the_float64_softmax(fields: dict[str, Any]) -> None:
    for mixer, within in ((Attention(**{**SMALL, **fields}), 2e-6), (make_mixer(fields, torch.float32), 5e-6)):
        u = inputs_for(mixer, b=2, l=37)
        expected = expected_of(mixer, u)
        assert error_of(mixer.prefill(u), expected) <= within
        assert error_of(by_steps(mixer, u, mixer.initial_state(2)), expected) <= within


@every_variant
@torch.no_grad()
def test_a_prefill_cut_anywhere_and_continued_equals_the_float64_softmax(fields: dict[str, Any]) -> None:
    mixer = make_mixer(fields)
    u = inputs_for(mixer, b=2, l=11)
    expected = expected_of(mixer, u)
    for cut in range(12):
        first, state = mixer.prefill(u[:, :cut])
        for read in (mixer.prefill, lambda rest, state: by_steps(mixer, rest, state))[: 1 if cut == 11 else 2]:
            second, end = read(u[:, cut:], state)
            assert error_of((torch.cat([first, second], 1), end), expected) <= 1e-11, cut


@torch.no_grad()
def test_the_named_steps_in_a_row_are_the_float64_softmax() -> None:
    mixer = make_mixer(ALL)
    u = inputs_for(mixer, b=2, l=9)
    before = mixer.initial_state(2)
    qk, v = mixer.heads(mixer.convolve(mixer.project(u), before.conv_window))
    visible, position, real = look_back(before.real, 9)
    q, k = mixer.turn(qk, position)
    state = mixer.remember(k, v, real, before.conv_window, before)
    y = mixer.out(mixer.attend(q, state.keys, state.values, visible))
    assert relative_error(y, expected_of(mixer, u)[0]) <= 1e-11


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_far_into_a_text_no_digit_of_an_angle_is_lost(dtype: torch.dtype) -> None:
    """32,768 tokens are in no state here: it says that they are real, and their values are far from being looked at."""
    mixer, t = make_mixer({"rotary_emb_dim": 6}, dtype), 32768
    u = inputs_for(mixer, b=1, l=3)
    keys, values, _, window = memory_for(mixer, 1, t).tensors().values()
    _, state = mixer.prefill(u, AttentionState(keys, values, torch.ones(1, t, dtype=torch.bool), window))
    nothing = oracle.Memory(keys[:, :0], values[:, :0], window)
    _, memory = expected_of(mixer, u, nothing, position=t)
    assert relative_error(state.keys[:, t:], memory.keys) <= (1e-6 if dtype == torch.float32 else 1e-8)


@torch.no_grad()
def test_scores_may_be_as_large_as_they_like() -> None:
    mixer = make_mixer({"softmax_scale": 1e4}, torch.float32)
    u = inputs_for(mixer, b=2, l=20)
    for path in (mixer(u), by_steps(mixer, u, mixer.initial_state(2))[0]):
        assert path.isfinite().all()
        assert (
            relative_error(path, expected_of(mixer, u)[0]) <= 1e-2
        )  # which of two is largest may be a matter of rounding


# Padding and documents


@every_variant
@torch.no_grad()
def test_ragged_rows_equal_each_row_alone(fields: dict[str, Any]) -> None:
    mixer = make_mixer(fields)
    lengths, more = [13, 1, 0, 7, 2, 12], [2, 0, 4, 1, 4, 3]
    u, then, after = inputs_for(mixer, 6, 13), inputs_for(mixer, 6, 4), inputs_for(mixer, 6, 3)
    for start in (None, memory_for(mixer, 6)):
        y, state = mixer.prefill(u, start, lengths=torch.tensor(lengths))
        then_y, state = mixer.prefill(then, state, lengths=torch.tensor(more))
        after_y, end = by_steps(mixer, after, state)
        for row, (first, second) in enumerate(zip(lengths, more, strict=True)):
            own = slice(row, row + 1)
            alone = torch.cat([u[own, :first], then[own, :second], after[own]], dim=1)
            found = torch.cat([y[own, :first], then_y[own, :second], after_y[own]], dim=1)
            expected, memory = expected_of(mixer, alone, None if start is None else remembered(start, row))
            assert worst_error((found, *remembered(end, row)), (expected, *memory)) <= 1e-11, row


@torch.no_grad()
def test_padding_is_finite_and_what_stands_there_changes_nothing() -> None:
    """A row without a real token has nothing to look at; a NaN in it would pass to the layer above."""
    mixer = make_mixer(ALL)
    u, lengths = inputs_for(mixer, 3, 9), torch.tensor([0, 4, 9])
    keys, values, real, window = memory_for(mixer, 3).tensors().values()
    for start in (None, *(AttentionState(keys, values, some, window) for some in (real, real & False))):
        y, state = mixer.prefill(u, start, lengths=lengths)
        assert y.isfinite().all()
        other = torch.where(torch.arange(9)[:, None] >= lengths[:, None, None], 100.0, u)
        other_y, other_state = mixer.prefill(other, start, lengths=lengths)
        for row, length in enumerate(lengths.tolist()):
            assert torch.equal(y[row, :length], other_y[row, :length])
            assert all(map(torch.equal, remembered(state, row), remembered(other_state, row)))


@every_variant
@torch.no_grad()
def test_packed_documents_and_what_follows_the_last_equal_each_document_alone(fields: dict[str, Any]) -> None:
    mixer = make_mixer(fields)
    cuts = [[0, 1, 3, 9, 24], [0, 8, 16, 22, 24], [0, 20, 21, 22, 24]]
    ids = torch.tensor([4, 2, 9, 2])
    u, before, after = inputs_for(mixer, 3, 24), memory_for(mixer, 3), inputs_for(mixer, 3, 6)
    document_ids = torch.stack([ids.repeat_interleave(torch.tensor(row).diff()) for row in cuts])
    y, state = mixer.prefill(u, before, document_ids=document_ids)
    next_y, end = by_steps(mixer, after, state)
    for row, edges in enumerate(cuts):
        own = slice(row, row + 1)
        memory: oracle.Memory | None = remembered(before, row)  # the first document goes on
        for start, stop in zip(edges, edges[1:], strict=False):
            expected, left = expected_of(mixer, u[own, start:stop], memory)
            assert relative_error(y[own, start:stop], expected) <= 1e-11, (row, start)
            memory = None
        assert worst_error(remembered(state, row), left) <= 1e-11
        expected, left = expected_of(mixer, after[own], left)
        assert worst_error((next_y[own], *remembered(end, row)), (expected, *left)) <= 1e-11


@given(st.integers(1, 3), st.integers(1, 20), st.integers(0, 5), st.integers(0, 4), st.data())
@torch.no_grad()
def test_any_documents_padding_and_past_equal_each_document_alone(
    b: int, l: int, d_conv: int, t: int, data: st.DataObject
) -> None:
    """Ids at padding are arbitrary: they must not hide what the row leaves behind."""
    mixer = make_mixer({"d_conv": d_conv, "num_heads_kv": 2})
    u, before = inputs_for(mixer, b, l), memory_for(mixer, b, t)
    document_ids = torch.tensor(
        [data.draw(st.lists(st.integers(0, 2), min_size=l, max_size=l), label="ids") for _ in range(b)]
    )
    lengths = [data.draw(st.integers(0, l), label="length") for _ in range(b)]
    y, state = mixer.prefill(u, before, lengths=torch.tensor(lengths), document_ids=document_ids)
    for row, length in enumerate(lengths):
        own, ids = slice(row, row + 1), document_ids[row, :length].tolist()
        starts = [i for i in range(length) if i == 0 or ids[i] != ids[i - 1]]
        memory: oracle.Memory | None = remembered(before, row)
        left = memory
        for start, stop in zip(starts, [*starts[1:], length], strict=False):
            expected, left = expected_of(mixer, u[own, start:stop], memory)
            assert relative_error(y[own, start:stop], expected) <= 1e-11
            memory = None
        assert worst_error(remembered(state, row), left) <= 1e-11


def test_no_mask_of_all_pairs_is_made_where_padding_stands_last() -> None:
    nothing = torch.zeros(2, 0, dtype=torch.bool)
    assert look_back(nothing, 9).visible is None
    assert look_back(nothing, 9, lengths=torch.tensor([3, 9])).visible is None
    assert look_back(torch.ones(2, 1, dtype=torch.bool), 9).visible is not None


# Derivatives


def on_weights(mixer: Attention, **rows: Tensor) -> tuple[Any, tuple[Tensor, ...]]:
    """The mixer as a function of its input and its weights, and these."""
    names, weights = zip(*mixer.named_parameters(), strict=True)

    def compute(u: Tensor, *weights: Tensor) -> Tensor:
        return functional_call(mixer, dict(zip(names, weights, strict=True)), (u,), rows)

    return compute, weights


TINY = {"d_model": 2, "num_heads": 2, "num_heads_kv": 1, "head_dim": 2, "rotary_emb_dim": 2, "d_conv": 2}


@pytest.mark.parametrize("documents", [None, [4, 4, 1, 1]], ids=["one document", "documents"])
def test_derivatives_are_those_of_finite_differences(documents: list[int] | None) -> None:
    mixer = make_mixer(TINY)
    u = inputs_for(mixer, b=1, l=4).requires_grad_()
    compute, weights = on_weights(mixer, **({} if documents is None else {"document_ids": torch.tensor([documents])}))
    assert len(weights) == 6
    assert torch.autograd.gradcheck(compute, (u, *weights))

    def of_two(u: Tensor, in_proj: Tensor) -> Tensor:
        return compute(u, in_proj, *weights[1:])

    assert torch.autograd.gradcheck(of_two, (u, weights[0]), check_batched_grad=True, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(of_two, (u, weights[0]))


def test_gradients_pass_through_a_state_and_through_steps() -> None:
    mixer = make_mixer(TINY)

    def from_state(u: Tensor) -> Tensor:
        first, state = mixer.prefill(u[:, :2])
        second, state = mixer.prefill(u[:, 2:3], state)
        third, state = mixer.step(u[:, 3], state)
        return torch.cat([first, second, third[:, None]], 1), state.keys, state.values

    assert torch.autograd.gradcheck(from_state, (inputs_for(mixer, b=1, l=4).requires_grad_(),))


def test_gradients_of_each_text_by_itself_and_forward_over_reverse() -> None:
    mixer = make_mixer(ALL)
    u, lengths = inputs_for(mixer, 3, 7), torch.tensor([7, 4, 5])

    def loss(u: Tensor, length: Tensor) -> Tensor:
        return mixer(u[None], lengths=length[None])[0].square().sum()

    each = vmap(grad(loss))(u, lengths)
    for row in range(3):
        own = u[row].clone().requires_grad_()
        (expected,) = torch.autograd.grad(loss(own, lengths[row]), own)
        assert relative_error(each[row], expected) <= 1e-11
    direction, size = torch.randn_like(u[0]), 1e-5
    ahead, behind = (grad(loss)(u[0] + sign * size * direction, lengths[0]) for sign in (1, -1))
    along = jvp(lambda u: grad(loss)(u, lengths[0]), (u[0],), (direction,))[1]
    assert relative_error(along, (ahead - behind) / (2 * size)) <= 1e-6


def test_nothing_of_a_transform_is_kept_when_it_is_over() -> None:
    mixer = make_mixer({})
    rotary._kept_parts.cache_clear()
    vmap(grad(lambda u: mixer(u[None]).square().sum()))(inputs_for(mixer, 2, 3))
    assert rotary._kept_parts.cache_info().currsize == 0


@torch.no_grad()
def test_a_step_maps_over_texts() -> None:
    mixer = make_mixer(ALL)
    u, state = inputs_for(mixer, 3, 1)[:, 0], memory_for(mixer, 1)
    expected, _ = mixer.step(u, state.map(lambda part: part.expand(3, *part.shape[1:])))
    assert relative_error(vmap(lambda u_t: mixer.step(u_t[None], state)[0][0])(u), expected) <= 1e-11
    assert relative_error(mixer.step(u, state.map(lambda part: part.expand(3, *part.shape[1:])))[0], expected) <= 1e-11


# A memory that grows is a value


@torch.no_grad()
def test_reading_on_leaves_the_state_bit_identical_and_it_can_be_continued_twice() -> None:
    mixer = make_mixer(ALL)
    u = inputs_for(mixer, b=2, l=9)
    _, state = mixer.prefill(u[:, :4])
    _, state = mixer.step(u[:, 4], state)  # now it has room
    kept = state.map(torch.clone)
    one, other = inputs_for(mixer, 2, 60), inputs_for(mixer, 2, 60)
    for rest in (one, other, one):
        for read in (mixer.prefill, lambda rest, state: by_steps(mixer, rest, state)):
            expected, memory = expected_of(mixer, torch.cat([u[:, :5], rest], 1))
            assert error_of(read(rest, state), (expected[:, 5:], memory)) <= 1e-11
            assert identical(state, kept)


@torch.no_grad()
def test_two_texts_that_go_on_from_one_in_turn_do_not_meet() -> None:
    mixer = make_mixer(ALL)
    start, one, other = (inputs_for(mixer, 1, l) for l in (3, 50, 50))
    _, state = mixer.prefill(start)
    states, ys = [state, state], [[], []]
    for tokens in zip(one.unbind(1), other.unbind(1), strict=True):
        for i, u_t in enumerate(tokens):
            y_t, states[i] = mixer.step(u_t, states[i])
            ys[i].append(y_t)
    for i, rest in enumerate((one, other)):
        expected, memory = expected_of(mixer, torch.cat([start, rest], 1))
        assert error_of((torch.stack(ys[i], 1), states[i]), (expected[:, 3:], memory)) <= 1e-11


@torch.no_grad()
def test_tokens_that_are_remembered_are_seldom_copied() -> None:
    mixer = make_mixer({})
    u = inputs_for(mixer, 1, 500)
    state, places = mixer.initial_state(1), []
    for u_t in u.unbind(1):
        _, state = mixer.step(u_t, state)
        places.append((state.keys.data_ptr(), state.values.data_ptr()))
    assert len(set(places)) <= 9  # half as much again each time
    held = state.keys.untyped_storage().nbytes()
    assert state.keys.nbytes == 500 * 4 * 6 * 8 <= held <= 2 * state.keys.nbytes


@torch.no_grad()
def test_a_state_that_was_edited_goes_on_from_the_edit() -> None:
    """Also where what it was made from has room."""
    mixer = make_mixer(ALL)
    u = inputs_for(mixer, 2, 6)
    _, state = by_steps(mixer, u[:, :4], mixer.initial_state(2))
    edited = state.map(lambda part: part.flip(0))
    for _ in range(2):
        y, _ = mixer.prefill(u[:, 4:].flip(0), edited)
        assert relative_error(y.flip(0), expected_of(mixer, u)[0][:, 4:]) <= 1e-11


def test_what_was_read_under_inference_mode_goes_on_in_any_mode() -> None:
    mixer = make_mixer(ALL)
    u = inputs_for(mixer, 1, 9)
    expected = expected_of(mixer, u)
    with torch.inference_mode():
        _, state = by_steps(mixer, u[:, :4], mixer.initial_state(1))
        _, on = by_steps(mixer, u[:, 4:7], state)
    with torch.no_grad():
        for start, first in ((on, 7), (state, 4)):
            y, end = by_steps(mixer, u[:, first:], start)
            assert error_of((torch.cat([expected[0][:, :first], y], 1), end), expected) <= 1e-11
    y, _ = mixer.prefill(u[:, 7:], on)
    y.square().sum().backward()
    assert relative_error(y, expected[0][:, 7:]) <= 1e-11
    assert all(weight.grad is not None for weight in mixer.parameters())


def test_a_gradient_is_not_spoiled_by_those_who_go_on_from_the_same_state() -> None:
    mixer = make_mixer(ALL)
    u = inputs_for(mixer, 1, 9)
    with torch.no_grad():
        _, state = by_steps(mixer, u[:, :4], mixer.initial_state(1))
    y, _ = mixer.prefill(u[:, 4:], state)
    with torch.no_grad():
        by_steps(mixer, u[:, 5:], state)
    own = torch.autograd.grad(y.square().sum(), list(mixer.parameters()))
    y, end = mixer.prefill(u[:, 4:], state)
    with torch.no_grad():
        by_steps(mixer, u, end)
    assert all(map(torch.equal, own, torch.autograd.grad(y.square().sum(), list(mixer.parameters()))))
    again = torch.autograd.grad(mixer.prefill(u[:, 4:], state)[0].square().sum(), list(mixer.parameters()))
    assert all(map(torch.equal, own, again))


# Precision, compilers


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@torch.no_grad()
def test_half_precision_weights_give_numbers_near_those_of_float32(dtype: torch.dtype) -> None:
    mixer = Attention(**{**SMALL, **ALL}).to(dtype).float()
    u = inputs_for(mixer, 2, 60).to(dtype).float()
    expected, _ = mixer.prefill(u)
    mixer.to(dtype)
    for y, state in (mixer.prefill(u.to(dtype)), by_steps(mixer, u.to(dtype), mixer.initial_state(2))):
        assert y.dtype == state.keys.dtype == state.values.dtype == state.conv_window.dtype == dtype
        assert relative_error(y, expected) <= 2e-2


@torch.no_grad()
def test_under_autocast_the_memory_is_kept_in_half_precision() -> None:
    mixer = Attention(**{**SMALL, **ALL})
    u = inputs_for(mixer, 2, 40)
    expected, _ = mixer.prefill(u)
    with torch.autocast("cpu", torch.bfloat16):
        for y, state in (mixer.prefill(u), by_steps(mixer, u, mixer.initial_state(2))):
            assert state.keys.dtype == state.values.dtype == torch.bfloat16
            assert relative_error(y, expected) <= 3e-2


@torch.no_grad()
def test_a_memory_goes_on_in_the_precision_of_what_is_read() -> None:
    mixer = Attention(**{**SMALL, **ALL})
    u = inputs_for(mixer, 2, 12)
    expected, _ = mixer.prefill(u)
    _, state = by_steps(mixer, u[:, :5], mixer.initial_state(2))
    with torch.autocast("cpu", torch.bfloat16):
        _, half = by_steps(mixer, u[:, 5:8], state)
    y, end = by_steps(mixer, u[:, 8:], half)
    assert [one.keys.dtype for one in (state, half, end)] == [torch.float32, torch.bfloat16, torch.float32]
    assert relative_error(y, expected[:, 8:]) <= 3e-2
    assert relative_error(by_steps(mixer, u[:, 5:], state)[0], expected[:, 5:]) <= 2e-6


def test_the_softmax_is_summed_in_float32_under_autocast() -> None:
    """Of a thousand equal values the mean is that value; bfloat16 would stop counting at 256."""
    mixer = Attention(d_model=2, num_heads=1, head_dim=2)
    q, keys, values = torch.zeros(1, 1, 1, 2), torch.zeros(1, 1000, 1, 2), torch.full((1, 1000, 1, 2), 1.01)
    visible = torch.ones(1, 1, 1000, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        fast = mixer.attend(q, keys, values, visible)
        with plainly():
            plain = mixer.attend(q, keys, values, visible)
    for y in (fast, plain):
        assert relative_error(y, torch.full_like(y, 1.01)) <= 2e-5


@torch.no_grad()
def test_compiled_steps_are_the_same_and_are_not_compiled_for_every_token() -> None:
    mixer = make_mixer(ALL)
    u = inputs_for(mixer, 2, 12)
    expected = expected_of(mixer, u)
    torch._dynamo.reset()
    counters.clear()
    try:
        read = torch.compile(mixer.prefill, backend="aot_eager", fullgraph=True)
        step = torch.compile(mixer.step, backend="aot_eager", fullgraph=True)
        y, state = read(u[:, :3])
        ys = [y]
        graphs = []
        for u_t in u[:, 3:].unbind(1):
            y_t, state = step(u_t, state)
            ys.append(y_t[:, None])
            graphs.append(counters["stats"]["unique_graphs"])
        assert error_of((torch.cat(ys, 1), state), expected) <= 1e-11
        assert graphs[-1] == graphs[2] <= 4, graphs  # the prefill; and, at most, the first, the second, any
    finally:
        torch._dynamo.reset()


# Against others


@pytest.mark.parametrize("num_heads_kv", [4, 2])
@torch.no_grad()
def test_attention_equals_that_of_transformers_llama(num_heads_kv: int) -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding

    config = LlamaConfig(
        hidden_size=32, num_attention_heads=4, num_key_value_heads=num_heads_kv, attn_implementation="eager"
    )
    llama = perturb(LlamaAttention(config, layer_idx=0)).eval()
    mixer = Attention(
        32, num_heads=4, num_heads_kv=num_heads_kv, rotary_emb_dim=8, qkv_proj_bias=False, out_proj_bias=False
    )
    mixer.in_proj.weight.copy_(torch.cat([llama.q_proj.weight, llama.k_proj.weight, llama.v_proj.weight]))
    mixer.out_proj.weight.copy_(llama.o_proj.weight)
    u, l = torch.randn(2, 50, 32), 50
    cos_and_sin = LlamaRotaryEmbedding(config)(u, torch.arange(l)[None])
    mask = torch.full((l, l), -math.inf).triu(1)[None, None]
    expected, _ = llama(u, position_embeddings=cos_and_sin, attention_mask=mask)
    assert relative_error(mixer(u), expected) <= 1e-5


@torch.no_grad()
def test_a_window_of_convolved_inputs_as_the_official_prefill_keeps_it_is_wrong_for_three_tokens() -> None:
    """The official prefill puts the convolution's outputs where its inputs belong. Its forward pass shows it."""
    mixer = make_mixer({"d_conv": 4})
    u = inputs_for(mixer, 2, 20)
    expected, _ = expected_of(mixer, u)
    _, state = mixer.prefill(u[:, :12])
    convolved = mixer.convolve(mixer.project(u[:, :12]), mixer.initial_state(2).conv_window)
    wrong = AttentionState(state.keys, state.values, state.real, convolved[:, -3:])
    right_y, _ = by_steps(mixer, u[:, 12:], state)
    wrong_y, _ = by_steps(mixer, u[:, 12:], wrong)
    assert relative_error(right_y, expected[:, 12:]) <= 1e-11
    assert all(relative_error(wrong_y[:, i], expected[:, 12 + i]) > 1e-2 for i in range(3))


# What it is made of, and bad input


def test_names_and_shapes_of_the_weights_are_official() -> None:
    """As in state-spaces/mamba2attn-2.7b."""
    fields = {"num_heads": 30, "head_dim": 128, "rotary_emb_dim": 64, "qkv_proj_bias": False, "out_proj_bias": False}
    mixer = Attention(2560, d_conv=4, **fields, device="meta")
    assert {name: tuple(weight.shape) for name, weight in mixer.state_dict().items()} == {
        "in_proj.weight": (11520, 2560),
        "conv1d.weight": (11520, 1, 4),
        "conv1d.bias": (11520,),
        "out_proj.weight": (2560, 3840),
    }
    assert {*Attention(8, num_heads=2).state_dict()} == {
        "in_proj.weight",
        "in_proj.bias",
        "out_proj.weight",
        "out_proj.bias",
    }


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"num_heads": 5, "head_dim": None}, ValueError, "num_heads must be a divisor of d_model = 12"),
        ({"num_heads_kv": 3}, ValueError, "num_heads_kv must be a divisor of num_heads = 4; got 3"),
        ({"num_heads_kv": 8}, ValueError, "num_heads_kv must be a divisor of num_heads = 4; got 8"),
        ({"num_heads_kv": 0}, ValueError, "num_heads_kv must be at least 1; got 0"),
        ({"num_heads": 0}, ValueError, "num_heads must be at least 1; got 0"),
        ({"head_dim": 2.0}, TypeError, "head_dim must be a whole number; got 2.0"),
        (
            {"rotary_emb_dim": 3},
            ValueError,
            "rotary_emb_dim must be even, and at most the channels of a head, 6; got 3",
        ),
        (
            {"rotary_emb_dim": 8},
            ValueError,
            "rotary_emb_dim must be even, and at most the channels of a head, 6; got 8",
        ),
        ({"rotary_emb_dim": -2}, ValueError, "rotary_emb_dim must be at least 0; got -2"),
        ({"rotary_emb_base": 0.0}, ValueError, "rotary_emb_base must be a finite number above 0; got 0.0"),
        ({"d_conv": -1}, ValueError, "d_conv must be at least 0; got -1"),
        ({"causal": False}, ValueError, "causal must be True"),
        ({"causal": 1}, TypeError, "causal must be True or False; got 1"),
        ({"softmax_scale": -1.0}, ValueError, "softmax_scale must be a finite number above 0; got -1.0"),
        ({"window": 3}, ValueError, "unknown config field 'window'"),
    ],
    ids=str,
)
def test_fields_that_cannot_be_are_refused(fields: dict[str, Any], error: type[Exception], said: str) -> None:
    with raises(error, said):
        Attention(**{**SMALL, **fields})


def test_fields_go_to_a_dictionary_and_back() -> None:
    fields = AttentionFields(**{**SMALL, **ALL})
    assert AttentionFields.from_dict(fields.to_dict()) == fields
    assert AttentionFields(num_heads_kv=None).heads_kept == 4 and AttentionFields().channels_per_head == 64


@pytest.mark.parametrize("shape", [(12,), (2, 12), (2, 5, 11), (1, 2, 5, 12)], ids=str)
def test_an_input_of_a_wrong_shape_is_an_error_that_says_which(shape: tuple[int, ...]) -> None:
    with raises(ValueError, "u must have shape (b,l,12)", f"got {shape}"):
        make_mixer({})(torch.zeros(shape))


def test_one_token_of_a_wrong_shape_is_an_error_that_says_which() -> None:
    mixer = make_mixer({})
    with raises(ValueError, "u must have shape (b,12); got (2, 5, 12)"):
        mixer.step(torch.zeros(2, 5, 12), mixer.initial_state(2))


def test_a_state_of_another_shape_is_an_error_that_says_which() -> None:
    mixer = make_mixer({"d_conv": 4})
    keys, values, real, window = memory_for(mixer, 2).tensors().values()
    for wrong, said in (
        ((keys[:, :3], values, real, window), "state.values must have shape (2, 3, 4, 6); got (2, 5, 4, 6)"),
        ((keys, values, real[:, :4], window), "state.real must have shape (2, 5); got (2, 4)"),
        ((keys[:, :, :2], values, real, window), "state.keys must have shape (2, 5, 4, 6); got (2, 5, 2, 6)"),
        ((keys[:1], values, real, window), "state.keys must have shape (2, 5, 4, 6); got (1, 5, 4, 6)"),
        ((keys, values, real, window[:, :2]), "state.conv_window must have shape (2, 3, 72); got (2, 2, 72)"),
        ((keys[0, 0, 0, 0], values, real, window), "state.keys must have shape (2, 4, 6); got ()"),
    ):
        for read, u in ((mixer.prefill, inputs_for(mixer, 2, 4)), (mixer.step, inputs_for(mixer, 2, 1)[:, 0])):
            with raises(ValueError, said):
                read(u, AttentionState(*wrong))


def test_the_state_of_another_mixer_is_an_error_that_says_what_is_missing() -> None:
    from mamba2_lab.layers import Mamba2

    mixer = make_mixer({})
    other = Mamba2(12, headdim=4).double().initial_state(2)
    with raises(ValueError, "state must hold keys, values, real, conv_window; got conv_window, ssm_state"):
        mixer.prefill(inputs_for(mixer, 2, 4), other)
