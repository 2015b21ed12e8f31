"""The block around the scan: against a float64 block written independently, on every path."""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from support.oracle import mamba2 as oracle
from support.oracle.mamba2 import largest_difference, perturb, raises, relative_error
from torch import Tensor

from mamba2_lab.config import Mamba2Config
from mamba2_lab.layers import Block, CausalConv, GatedRMSNorm, LayerState, Mamba2, RMSNorm

INF = math.inf
SMALL = {"d_model": 12, "d_state": 5, "headdim": 4, "chunk_size": 8}
LIMIT = (0.02, 0.3)  # narrow enough to hold for many of the step sizes of a perturbed mixer, on both sides
VARIANTS = {
    "plain": {},
    "two groups": {"ngroups": 2},
    "a group per head": {"ngroups": 6},
    "biases": {"bias": True},
    "no convolution bias": {"conv_bias": False},
    "convolution of width 1": {"d_conv": 1},
    "convolution of width 2": {"d_conv": 2},
    "convolution of width 5": {"d_conv": 5, "conv_bias": False},
    "norm before gate": {"norm_before_gate": True},
    "norm before gate, by group": {"norm_before_gate": True, "ngroups": 3},
    "dt_limit": {"dt_limit": LIMIT},
    "learned initial states": {"learnable_init_states": True, "ngroups": 2},
    "another epsilon": {"norm_eps": 0.1},
    "odd sizes": {"d_model": 15, "expand": 3, "headdim": 9, "d_state": 7, "ngroups": 5, "chunk_size": 11},
    "one head, one channel": {"d_model": 1, "expand": 1, "headdim": 1, "d_state": 1},
    "everything": {
        "ngroups": 3,
        "bias": True,
        "d_conv": 3,
        "norm_before_gate": True,
        "dt_limit": LIMIT,
        "learnable_init_states": True,
    },
}
every_variant = pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS.keys())
PACKABLE = {name: fields for name, fields in VARIANTS.items() if not fields.get("learnable_init_states")}
every_packable_variant = pytest.mark.parametrize("fields", PACKABLE.values(), ids=PACKABLE.keys())


def make_mixer(fields: dict[str, Any], dtype: torch.dtype = torch.float64) -> Mamba2:
    return perturb(Mamba2(**{**SMALL, **fields})).to(dtype)


def inputs_for(mixer: Mamba2, b: int, l: int) -> Tensor:
    return torch.randn(b, l, mixer.config.d_model, dtype=mixer.in_proj.weight.dtype)


def memory_for(mixer: Mamba2, b: int) -> LayerState:
    """A state that something has been read into."""
    return LayerState(
        *(torch.randn_like(part) for part in (mixer.initial_state(b).conv_window, mixer.initial_state(b).ssm_state))
    )


def expected_of(mixer: Mamba2, u: Tensor, before: LayerState | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """y, window and state from the float64 block."""
    config = mixer.config
    settings = {name: getattr(config, name) for name in ("ngroups", "dt_limit", "norm_before_gate", "norm_eps")}
    memory = None if before is None else oracle.Memory(before.conv_window, before.ssm_state)
    y, memory = oracle.mixer(mixer.state_dict(), u, memory, **settings)
    return y, *memory


def parts(result: tuple[Tensor, LayerState]) -> tuple[Tensor, Tensor, Tensor]:
    y, state = result
    return y, state.conv_window, state.ssm_state


def worst_error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    errors = [relative_error(one, other) for one, other in zip(found, expected, strict=True)]
    return float(torch.tensor(errors).max())


def by_steps(mixer: Mamba2, u: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
    ys = []
    for u_t in u.unbind(1):
        y_t, state = mixer.step(u_t, state)
        ys.append(y_t)
    return torch.stack(ys, dim=1), state


# Against the float64 block


@every_variant
@torch.no_grad()
def test_the_mixer_equals_the_float64_block(fields: dict[str, Any]) -> None:
    mixer = make_mixer(fields)
    u = inputs_for(mixer, b=2, l=37)
    expected = expected_of(mixer, u)
    assert worst_error(parts(mixer.prefill(u)), expected) <= 1e-12
    assert worst_error([mixer(u)], expected[:1]) <= 1e-12
    assert worst_error(parts(by_steps(mixer, u, mixer.initial_state(2))), expected) <= 1e-12


@every_variant
@torch.no_grad()
def test_the_mixer_in_float32_is_within_rounding_of_the_float64_block(fields: dict[str, Any]) -> None:
    mixer = make_mixer(fields, torch.float32)
    u = inputs_for(mixer, b=2, l=37)
    expected = expected_of(mixer, u)
    assert worst_error(parts(mixer.prefill(u)), expected) <= 1e-6
    assert worst_error(parts(by_steps(mixer, u, mixer.initial_state(2))), expected) <= 1e-6


@every_variant
@torch.no_grad()
def test_the_mixer_continues_from_any_state_as_the_float64_block_does(fields: dict[str, Any]) -> None:
    mixer = make_mixer(fields)
    before = memory_for(mixer, b=2)
    for l in (1, 2, 20):
        u = inputs_for(mixer, b=2, l=l)
        expected = expected_of(mixer, u, before)
        assert worst_error(parts(mixer.prefill(u, before)), expected) <= 1e-12
        assert worst_error(parts(by_steps(mixer, u, before)), expected) <= 1e-12


@every_variant
@torch.no_grad()
def test_a_prefill_cut_anywhere_and_continued_by_steps_equals_the_float64_block(fields: dict[str, Any]) -> None:
    mixer = make_mixer(fields)
    u = inputs_for(mixer, b=2, l=13)
    expected = expected_of(mixer, u)
    for cut in range(14):
        first, state = mixer.prefill(u[:, :cut])
        second, end = mixer.prefill(u[:, cut:], state)
        assert worst_error([torch.cat([first, second], 1), *parts((second, end))[1:]], expected) <= 1e-12, cut
        if cut < 13:
            second, end = by_steps(mixer, u[:, cut:], state)
            assert worst_error([torch.cat([first, second], 1), *parts((second, end))[1:]], expected) <= 1e-12, cut


@torch.no_grad()
def test_the_dt_limit_of_these_tests_clamps_on_both_sides() -> None:
    """Otherwise the tests with a dt_limit would show nothing."""
    mixer = make_mixer({"dt_limit": LIMIT})
    u = inputs_for(mixer, b=2, l=37)
    z, xBC, dt = mixer.project(u)
    dt = mixer.discretise(xBC, dt).dt
    assert dt.min() == LIMIT[0] and dt.max() == LIMIT[1]
    assert 0.1 < float(((dt > LIMIT[0]) & (dt < LIMIT[1])).double().mean()) < 0.9
    free = make_mixer({})
    free.load_state_dict(mixer.state_dict())
    assert relative_error(free(u), mixer(u)) > 0.1


@torch.no_grad()
def test_the_named_steps_in_a_row_are_the_float64_block() -> None:
    """Notebooks and traces call them one by one."""
    mixer = make_mixer({"ngroups": 2})
    u = inputs_for(mixer, b=2, l=21)
    z, xBC, dt = mixer.project(u)
    terms = mixer.discretise(mixer.convolve(xBC, mixer.initial_state(2).conv_window), dt)
    assert torch.equal(terms.log_decay, terms.dt * -mixer.A_log.exp())
    assert torch.equal(terms.x_dt, terms.x * terms.dt[..., None])
    y, _ = oracle.recurrence(terms.x_dt, terms.log_decay, terms.B, terms.C)
    y = mixer.out(mixer.gate(mixer.skip(y, terms.x), z))
    assert relative_error(y, expected_of(mixer, u)[0]) <= 1e-12


@torch.no_grad()
def test_the_block_adds_the_mixer_of_the_normalised_stream() -> None:
    config = Mamba2Config(**SMALL, norm_eps=0.01)
    block = perturb(Block(config)).double()
    u = torch.randn(2, 9, 12, dtype=torch.float64)
    normed = u / torch.sqrt(u.square().mean(-1, keepdim=True) + 0.01) * block.norm.weight
    expected, *memory = expected_of(block.mixer, normed)
    y, state = block(u)
    assert worst_error(parts((y, state)), (u + expected, *memory)) <= 1e-12
    y_t, state = block.step(u[:, 0], block.mixer.initial_state(2))
    assert relative_error(y_t, u[:, 0] + expected[:, 0]) <= 1e-12


def test_gradients_through_the_mixer_are_those_of_finite_differences() -> None:
    mixer = make_mixer({"d_model": 2, "headdim": 2, "d_state": 2, "chunk_size": 3, "learnable_init_states": True})
    names, weights = zip(*mixer.named_parameters(), strict=True)
    u = inputs_for(mixer, b=1, l=5).requires_grad_()

    def compute(u: Tensor, *weights: Tensor) -> Tensor:
        return torch.func.functional_call(mixer, dict(zip(names, weights, strict=True)), (u,))

    assert torch.autograd.gradcheck(compute, (u, *weights))
    assert len(names) == 9


@pytest.mark.parametrize("norm_before_gate", [False, True], ids=["gate first", "norm first"])
@pytest.mark.parametrize("ngroups", [1, 3])
def test_gradients_through_the_gated_norm_are_those_of_finite_differences(ngroups: int, norm_before_gate: bool) -> None:
    norm = perturb(GatedRMSNorm(6, eps=1e-2, ngroups=ngroups, norm_before_gate=norm_before_gate)).double()
    y, z = torch.randn(2, 2, 3, 6).double().requires_grad_()

    def compute(y: Tensor, z: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(norm, {"weight": weight}, (y, z))

    assert torch.autograd.gradcheck(compute, (y, z, norm.weight))


@pytest.mark.parametrize("l", [1, 2, 7])
@pytest.mark.parametrize("documents", [None, [4, 4, 1, 1, 1, 4, 2]], ids=["one document", "documents"])
def test_gradients_through_the_convolution_are_those_of_finite_differences(l: int, documents: list[int] | None) -> None:
    conv = CausalConv(3, 4).double()
    x, window = torch.randn(2, l, 3).double().requires_grad_(), torch.randn(2, 3, 3).double().requires_grad_()
    document_ids = None if documents is None else torch.tensor(documents[:l]).expand(2, l)

    def compute(x: Tensor, window: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(conv, {"weight": weight, "bias": bias}, (x, window, document_ids))

    assert torch.autograd.gradcheck(compute, (x, window, conv.weight, conv.bias))


def test_gradients_are_the_same_where_a_compiler_plans_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    mixer = make_mixer({"ngroups": 2})
    u, ids = inputs_for(mixer, b=2, l=20).requires_grad_(), (torch.arange(20) // 7).expand(2, 20)
    given = [u, *mixer.parameters()]

    def gradients() -> tuple[Tensor, ...]:
        return torch.autograd.grad(mixer(u, document_ids=ids).square().sum(), given)

    own = gradients()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    for one, other in zip(own, gradients(), strict=True):
        assert relative_error(one, other) <= 1e-12


# Norms


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3], ids=str)
def test_rms_norm_divides_by_the_root_mean_square(size: float) -> None:
    norm = perturb(RMSNorm(50, eps=1e-5))
    x = size * torch.randn(3, 4, 50)
    expected = x.double() / torch.sqrt(x.double().square().mean(-1, keepdim=True) + 1e-5) * norm.weight.double()
    assert relative_error(norm(x), expected) <= 3e-7  # at 1e-3 epsilon is ten times the mean square


@pytest.mark.parametrize("norm_before_gate", [False, True], ids=["gate first", "norm first"])
def test_the_gated_norm_normalises_each_group_on_its_own(norm_before_gate: bool) -> None:
    norm = perturb(GatedRMSNorm(12, eps=1e-2, ngroups=3, norm_before_gate=norm_before_gate)).double()
    y, z = torch.randn(2, 5, 12).double(), torch.randn(2, 5, 12).double()
    gate = z * torch.sigmoid(z)
    values = y if norm_before_gate else y * gate
    for group in range(3):
        own = slice(4 * group, 4 * group + 4)
        expected = values[..., own] / torch.sqrt(values[..., own].square().mean(-1, keepdim=True) + 1e-2)
        expected = expected * norm.weight[own] * (gate[..., own] if norm_before_gate else 1.0)
        assert relative_error(norm(y, z)[..., own], expected) <= 1e-14


@torch.no_grad()
def test_norms_are_computed_in_float32_and_returned_in_the_dtype_of_the_weights() -> None:
    x = torch.linspace(-300, 300, 512).expand(2, 512).half()  # the squares overflow float16
    norm, gated = perturb(RMSNorm(512)).half(), perturb(GatedRMSNorm(512)).half()
    found, found_gated = norm(x), gated(x, torch.ones_like(x))
    assert found.dtype == found_gated.dtype == torch.float16
    unit = x.double() / torch.sqrt(x.double().square().mean(-1, keepdim=True))
    assert relative_error(found, unit * norm.weight.double()) <= 1e-3
    assert relative_error(found_gated, unit * gated.weight.double()) <= 1e-3


# Padding and documents


@every_variant
@torch.no_grad()
def test_padding_on_the_right_changes_nothing_for_the_real_tokens(fields: dict[str, Any]) -> None:
    """With a lower dt_limit above 0 too: time stands still at padding all the same."""
    mixer = make_mixer(fields)
    lengths = [13, 1, 0, 7, 2, 12]
    u, before = inputs_for(mixer, b=6, l=13), memory_for(mixer, b=6)
    y, state = mixer.prefill(u, before, lengths=torch.tensor(lengths))
    for row, length in enumerate(lengths):
        own = slice(row, row + 1)
        expected = expected_of(mixer, u[own, :length], before.map(lambda part, own=own: part[own]))
        found = y[own, :length], state.conv_window[own], state.ssm_state[own]
        assert worst_error(found, expected) <= 1e-12, length


@every_packable_variant
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
        memory: LayerState | None = before.map(lambda part, own=own: part[own])  # the first document goes on
        for start, stop in zip(edges, edges[1:], strict=False):
            expected, window, ssm_state = expected_of(mixer, u[own, start:stop], memory)
            assert relative_error(y[own, start:stop], expected) <= 1e-12, (row, start)
            memory = None
        assert worst_error((state.conv_window[own], state.ssm_state[own]), (window, ssm_state)) <= 1e-12
        expected_end = expected_of(mixer, after[own], LayerState(window, ssm_state))
        assert worst_error((next_y[own], end.conv_window[own], end.ssm_state[own]), expected_end) <= 1e-12


@given(st.integers(1, 3), st.integers(1, 20), st.integers(1, 5), st.booleans(), st.data())
@torch.no_grad()
def test_any_documents_padding_and_split_equal_each_document_alone(
    b: int, l: int, d_conv: int, limited: bool, data: st.DataObject
) -> None:
    """Ids at padding are arbitrary: they must not restart what the row leaves behind."""
    mixer = make_mixer({"d_conv": d_conv, "ngroups": 2, "dt_limit": LIMIT if limited else (0.0, INF)})
    u, before = inputs_for(mixer, b, l), memory_for(mixer, b)
    document_ids = torch.tensor(
        [data.draw(st.lists(st.integers(0, 2), min_size=l, max_size=l), label="ids") for _ in range(b)]
    )
    lengths = [data.draw(st.integers(0, l), label="length") for _ in range(b)]
    y, state = mixer.prefill(u, before, lengths=torch.tensor(lengths), document_ids=document_ids)
    for row, length in enumerate(lengths):
        own = slice(row, row + 1)
        ids = document_ids[row, :length].tolist()
        starts = [t for t in range(length) if t == 0 or ids[t] != ids[t - 1]]
        stops = [*starts[1:], length] if starts else []
        memory: LayerState | None = before.map(lambda part, own=own: part[own])
        window, ssm_state = memory.conv_window, memory.ssm_state
        for start, stop in zip(starts, stops, strict=True):
            expected, window, ssm_state = expected_of(mixer, u[own, start:stop], memory)
            assert relative_error(y[own, start:stop], expected) <= 1e-12
            memory = None
        assert worst_error((state.conv_window[own], state.ssm_state[own]), (window, ssm_state)) <= 1e-12


# Precision of what is kept


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@torch.no_grad()
def test_half_precision_weights_leave_float32_states_near_those_of_float32(dtype: torch.dtype) -> None:
    """With memories of thousands of tokens: a decay in half precision would be exactly 1, and the state another."""
    mixer = make_mixer({"ngroups": 2}, torch.float32)
    mixer.in_proj.weight[-mixer.config.nheads :] = 0.0  # dt does not depend on the token
    mixer.dt_bias.fill_(-7.0)
    mixer.A_log.fill_(-1.0)
    mixer.to(dtype).float()
    u = inputs_for(mixer, b=2, l=400)
    expected = mixer.prefill(u)[1]
    mixer.to(dtype)
    state = mixer.prefill(u.to(dtype))[1]
    _, stepped = by_steps(mixer, u.to(dtype), mixer.initial_state(2))
    assert state.conv_window.dtype == stepped.conv_window.dtype == dtype
    for found in (state, stepped):
        assert found.ssm_state.dtype == torch.float32
        assert relative_error(found.ssm_state, expected.ssm_state) <= 1e-2
        assert relative_error(found.conv_window, expected.conv_window) <= 1e-2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@torch.no_grad()
def test_step_size_and_decay_are_exact_to_float32_whatever_the_dtype_of_the_weights(dtype: torch.dtype) -> None:
    mixer = make_mixer({"dt_limit": LIMIT}, dtype)
    z, xBC, dt = mixer.project(inputs_for(mixer, b=2, l=30))
    terms = mixer.discretise(xBC, dt)
    expected = torch.log1p(torch.exp(dt.double() + mixer.dt_bias.double())).clamp(*LIMIT)
    assert relative_error(terms.dt, expected) <= 1e-6
    assert relative_error(terms.log_decay, -expected * mixer.A_log.double().exp()) <= 1e-6
    assert relative_error(terms.x_dt, terms.x.double() * expected[..., None]) <= 1e-6


@torch.no_grad()
def test_under_autocast_the_convolution_hands_on_the_dtype_it_was_given() -> None:
    """The scan chooses its products by the dtype of B and C."""
    mixer = make_mixer({}, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        _, xBC, _ = mixer.project(inputs_for(mixer, b=2, l=9))
        convolved = mixer.convolve(xBC, mixer.initial_state(2).conv_window)
    assert xBC.dtype == convolved.dtype == torch.bfloat16
    expected = mixer.convolve(xBC.float(), mixer.initial_state(2).conv_window)
    assert relative_error(convolved, expected) <= 4e-3  # one rounding


@torch.no_grad()
def test_autocast_leaves_float32_states_near_those_without() -> None:
    mixer = make_mixer({"ngroups": 2}, torch.float32)
    u = inputs_for(mixer, b=2, l=40)
    expected = mixer.prefill(u)
    with torch.autocast("cpu", torch.bfloat16):
        assert mixer.project(u).dt.dtype == torch.bfloat16  # so autocast is on
        y, state = mixer.prefill(u)
        stepped_y, stepped = by_steps(mixer, u, mixer.initial_state(2))
    for found, left in ((y, state), (stepped_y, stepped)):
        assert left.ssm_state.dtype == torch.float32
        assert relative_error(found, expected[0]) <= 3e-2
        assert relative_error(left.ssm_state, expected[1].ssm_state) <= 3e-2


# The official initialisation

MANY_HEADS = {"d_model": 2000, "headdim": 1, "expand": 1, "d_state": 1}


def drawn_dt(mixer: Mamba2) -> Tensor:
    return F.softplus(mixer.dt_bias.detach().double())


def p_value_uniform(values: Tensor, low: float, high: float) -> float:
    """Kolmogorov-Smirnov: how likely draws from U(low, high) are to look less uniform than these."""
    return float(scipy.stats.kstest(values.detach().numpy(), scipy.stats.uniform(low, high - low).cdf).pvalue)


@pytest.mark.parametrize(("low", "high"), [(0.001, 0.1), (0.01, 0.5)])
def test_dt_starts_log_uniform_between_dt_min_and_dt_max(low: float, high: float) -> None:
    dt = drawn_dt(Mamba2(**MANY_HEADS, dt_min=low, dt_max=high))
    assert low * (1 - 1e-5) <= dt.min() and dt.max() <= high * (1 + 1e-5)
    assert p_value_uniform(dt.log(), math.log(low), math.log(high)) > 0.01
    assert p_value_uniform(dt, low, high) < 1e-6  # plain uniform draws would not pass for it


def test_dt_is_floored_at_dt_init_floor() -> None:
    dt = drawn_dt(Mamba2(**MANY_HEADS, dt_min=1e-6, dt_max=0.1))
    floored = torch.isclose(dt, torch.tensor(1e-4, dtype=torch.float64), rtol=1e-4)
    assert dt.min() >= 1e-4 * (1 - 1e-4)
    assert abs(float(floored.double().mean()) - 0.4) < 0.05  # ln(1e-4/1e-6) / ln(0.1/1e-6) = 2/5
    dt = drawn_dt(Mamba2(**MANY_HEADS, dt_min=1e-6, dt_max=0.1, dt_init_floor=0.01))
    assert abs(float(dt.min()) - 0.01) < 1e-6


@pytest.mark.parametrize(("low", "high"), [(1.0, 16.0), (0.5, 2.0)])
def test_a_starts_uniform_in_its_range(low: float, high: float) -> None:
    A = Mamba2(**MANY_HEADS, A_init_range=(low, high)).A_log.detach().double().exp()
    assert low * (1 - 1e-5) <= A.min() and A.max() <= high * (1 + 1e-5)
    assert p_value_uniform(A, low, high) > 0.01


def test_the_step_size_of_a_silent_input_is_the_drawn_one() -> None:
    mixer = Mamba2(**MANY_HEADS)
    z, xBC, dt = mixer.project(torch.zeros(1, 1, 2000))
    found = mixer.discretise(xBC, dt).dt.flatten()
    assert relative_error(found, drawn_dt(mixer)) <= 1e-6


def test_the_skip_is_one_and_norm_weights_are_one_and_initial_states_zero() -> None:
    block = Block(Mamba2Config(**SMALL, learnable_init_states=True))
    for weight in (block.mixer.D, block.mixer.norm.weight, block.norm.weight):
        assert torch.equal(weight, torch.ones_like(weight))
    assert block.mixer.init_states.shape == (6, 4, 5)
    assert block.mixer.init_states.count_nonzero() == 0
    assert block.norm.eps == block.mixer.norm.eps == 1e-5


def test_the_convolution_starts_as_pytorch_starts_a_depthwise_one() -> None:
    mixer = Mamba2(d_model=1000, headdim=100, d_conv=4)
    for weight in (mixer.conv1d.weight, mixer.conv1d.bias):
        assert p_value_uniform(weight.flatten(), -0.5, 0.5) > 0.01  # 1 / sqrt(4)


def test_weights_that_set_time_scales_are_named_for_the_optimiser() -> None:
    mixer = Mamba2(**SMALL, learnable_init_states=True)
    assert set(mixer.no_weight_decay) == {"dt_bias", "A_log", "D", "init_states"}
    assert set(mixer.no_weight_decay) <= {name for name, _ in mixer.named_parameters()}


def test_learned_initial_states_are_where_a_sequence_starts() -> None:
    mixer = make_mixer({"learnable_init_states": True})
    state = mixer.initial_state(3)
    assert largest_difference(state.ssm_state, mixer.init_states.expand(3, -1, -1, -1)) == 0
    assert state.conv_window.count_nonzero() == 0


# Bad input


@pytest.mark.parametrize("shape", [(12,), (2, 12), (2, 5, 11), (1, 2, 5, 12)], ids=str)
def test_an_input_of_a_wrong_shape_is_an_error_that_says_which(shape: tuple[int, ...]) -> None:
    with raises(ValueError, "u must have shape (b,l,12)", f"got {shape}"):
        make_mixer({})(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(12,), (2, 11), (2, 5, 12)], ids=str)
def test_one_token_of_a_wrong_shape_is_an_error_that_says_which(shape: tuple[int, ...]) -> None:
    mixer = make_mixer({})
    with raises(ValueError, "u must have shape (b,12)", f"got {shape}"):
        mixer.step(torch.zeros(shape), mixer.initial_state(2))


def test_documents_with_learned_initial_states_are_an_error_that_says_why() -> None:
    mixer = make_mixer({"learnable_init_states": True})
    with raises(ValueError, "document_ids cannot be used with learnable_init_states=True"):
        mixer.prefill(inputs_for(mixer, 1, 4), document_ids=torch.zeros(1, 4, dtype=torch.long))


def test_a_mixer_checks_its_fields_as_the_config_does() -> None:
    with raises(ValueError, "headdim must divide expand * d_model = 2 * 12 = 24; got 7"):
        Mamba2(d_model=12, headdim=7)


@pytest.mark.parametrize("part", ["conv_window", "ssm_state"])
def test_a_state_of_another_shape_is_an_error_that_says_which(part: str) -> None:
    """A window of another width would be read, and every number be wrong."""
    mixer = make_mixer({})
    state = mixer.initial_state(2)
    wrong = dataclasses.replace(state, **{part: getattr(state, part)[:, :1]})
    shape = tuple(getattr(state, part).shape)
    for read, u in ((mixer.prefill, inputs_for(mixer, 2, 4)), (mixer.step, inputs_for(mixer, 2, 1)[:, 0])):
        with pytest.raises(ValueError, match=re.escape(f"state.{part} must have shape {shape}; got")):
            read(u, wrong)
