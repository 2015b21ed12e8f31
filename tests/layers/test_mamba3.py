"""The Mamba-3 mixer: against complex turning states in float64, written independently, on every path."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Sequence
from typing import Any

import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from mps.operations import Recorder, require_mps
from support.oracle import mamba3 as oracle
from support.oracle.mamba2 import perturb, raises, relative_error
from torch import Tensor
from torch._dynamo.utils import counters
from torch.func import functional_call, grad, jvp, vmap

from mamba2_lab.layers import Mamba3, Mamba3State
from mamba2_lab.operation import plainly

SMALL = {"d_model": 12, "d_state": 8, "headdim": 4, "chunk_size": 8}
VARIANTS: dict[str, dict[str, Any]] = {
    "siso": {},
    "all of it turns": {"rope_fraction": 1.0},
    "two groups": {"ngroups": 2, "rope_fraction": 1.0},
    "a group per head": {"ngroups": 6},
    "output norm": {"is_outproj_norm": True},
    "softplus": {"A_activation": "softplus"},
    "a high floor": {"A_floor": 1.5},
    "mimo of rank 1": {"is_mimo": True, "mimo_rank": 1, "rope_fraction": 1.0},
    "mimo of rank 2, in groups": {"is_mimo": True, "mimo_rank": 2, "ngroups": 3},
    "mimo of rank 3": {"is_mimo": True, "mimo_rank": 3, "rope_fraction": 1.0, "A_activation": "softplus"},
    "mimo of rank 4": {"is_mimo": True},
    "mimo, output norm": {"is_mimo": True, "is_outproj_norm": True, "ngroups": 2, "mimo_rank": 2},
    "one head": {"headdim": 24, "is_outproj_norm": True, "d_state": 4},
    "odd sizes": {"d_model": 15, "expand": 3, "headdim": 9, "d_state": 6, "ngroups": 5, "chunk_size": 11},
    "many ranks, chunks of one": {"is_mimo": True, "mimo_rank": 5, "chunk_size": 1},
}
every_variant = pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS.keys())
BOTH = {"siso": {"rope_fraction": 1.0}, "mimo": {"is_mimo": True, "mimo_rank": 2, "is_outproj_norm": True}}
siso_and_mimo = pytest.mark.parametrize("fields", BOTH.values(), ids=BOTH.keys())


def make_mixer(fields: dict[str, Any], dtype: torch.dtype = torch.float64, size: float = 1.0) -> Mamba3:
    return perturb(Mamba3(**{**SMALL, **fields}), size=size).to(dtype)


def inputs_for(mixer: Mamba3, b: int, l: int) -> Tensor:
    return torch.randn(b, l, mixer.config.d_model, dtype=mixer.in_proj.weight.dtype)


def memory_for(mixer: Mamba3, b: int) -> Mamba3State:
    """A state that something has been read into."""
    return mixer.initial_state(b).map(torch.randn_like)


def seen(mixer: Mamba3, state: Mamba3State) -> oracle.Memory:
    """A state as the oracle sees it: from its last token."""
    return oracle.memory_of(state.turns, state.ssm_state, state.last_k, state.last_x, is_mimo=mixer.config.is_mimo)


def expected_of(mixer: Mamba3, u: Tensor, before: oracle.Memory | None = None) -> tuple[Tensor, ...]:
    """y and what is left behind, from the float64 mixer."""
    settings = {name: getattr(mixer.config, name) for name in ("ngroups", "rope_fraction", "A_floor", "A_activation")}
    y, memory = oracle.mixer(mixer.state_dict(), u, before, **settings)
    return y, *memory


def parts(mixer: Mamba3, result: tuple[Tensor, Mamba3State]) -> tuple[Tensor, ...]:
    return result[0], *seen(mixer, result[1])


def worst_error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    real = [
        (torch.view_as_real(a), torch.view_as_real(b)) if b.is_complex() else (a, b)
        for a, b in zip(found, expected, strict=True)
    ]
    return float(torch.tensor([relative_error(one, other) for one, other in real]).max())


def by_steps(mixer: Mamba3, u: Tensor, state: Mamba3State) -> tuple[Tensor, Mamba3State]:
    ys = []
    for u_t in u.unbind(1):
        y_t, state = mixer.step(u_t, state)
        ys.append(y_t)
    return torch.stack(ys, dim=1), state


def row_of(memory: oracle.Memory, row: int) -> oracle.Memory:
    return oracle.Memory(*(part[row : row + 1] for part in memory))


# Against the float64 mixer


@every_variant
@torch.no_grad()
def test_the_mixer_equals_the_float64_mixer(fields: dict[str, Any]) -> None:
    mixer = make_mixer(fields)
    u = inputs_for(mixer, b=2, l=37)
    expected = expected_of(mixer, u)
    assert worst_error(parts(mixer, mixer.prefill(u)), expected) <= 1e-12
    assert worst_error([mixer(u)], expected[:1]) <= 1e-12
    assert worst_error(parts(mixer, by_steps(mixer, u, mixer.initial_state(2))), expected) <= 1e-12
    with plainly():
        assert worst_error(parts(mixer, mixer.prefill(u)), expected) <= 1e-12


@every_variant
@torch.no_grad()
def test_the_mixer_in_float32_is_within_rounding_even_with_wild_weights(fields: dict[str, Any]) -> None:
    for size, within in ((1.0, 1e-6), (4.0, 5e-6)):
        mixer = make_mixer(fields, torch.float32, size)
        u = inputs_for(mixer, b=2, l=37)
        expected = expected_of(mixer, u)
        assert worst_error(parts(mixer, mixer.prefill(u)), expected) <= within
        assert worst_error(parts(mixer, by_steps(mixer, u, mixer.initial_state(2))), expected) <= within
        with plainly():
            assert worst_error(parts(mixer, mixer.prefill(u)), expected) <= within


@pytest.mark.parametrize("fields", [{}, {"is_mimo": True, "rope_fraction": 1.0}], ids=["siso", "mimo"])
@torch.no_grad()
def test_at_the_official_initialisation_float32_is_within_rounding(fields: dict[str, Any]) -> None:
    mixer = Mamba3(d_model=128, **fields)
    u = inputs_for(mixer, b=1, l=200)
    expected = expected_of(mixer, u)
    assert worst_error(parts(mixer, mixer.prefill(u)), expected) <= 2e-6
    assert worst_error(parts(mixer, by_steps(mixer, u, mixer.initial_state(1))), expected) <= 2e-6


@every_variant
@torch.no_grad()
def test_the_mixer_continues_from_any_state_as_the_float64_mixer_does(fields: dict[str, Any]) -> None:
    mixer = make_mixer(fields)
    before = memory_for(mixer, b=2)
    for l in (0, 1, 2, 20):
        u = inputs_for(mixer, b=2, l=l)
        expected = expected_of(mixer, u, seen(mixer, before))
        assert worst_error(parts(mixer, mixer.prefill(u, before)), expected) <= 1e-12
        if l:
            assert worst_error(parts(mixer, by_steps(mixer, u, before)), expected) <= 1e-12


@every_variant
@torch.no_grad()
def test_a_prefill_cut_anywhere_and_continued_by_steps_equals_the_float64_mixer(fields: dict[str, Any]) -> None:
    mixer = make_mixer(fields)
    u = inputs_for(mixer, b=2, l=13)
    expected = expected_of(mixer, u)
    for cut in range(14):
        first, state = mixer.prefill(u[:, :cut])
        for go_on in (mixer.prefill, lambda u, state: by_steps(mixer, u, state))[: 1 + (cut < 13)]:
            second, end = go_on(u[:, cut:], state)
            assert worst_error(parts(mixer, (torch.cat([first, second], 1), end)), expected) <= 1e-12, cut


@siso_and_mimo
@torch.no_grad()
def test_the_named_steps_in_a_row_are_the_float64_mixer(fields: dict[str, Any]) -> None:
    """Notebooks and traces call them one by one; here the recurrence of the paper stands between them."""
    mixer = make_mixer(fields)
    u = inputs_for(mixer, b=2, l=11)
    projected = mixer.project(u)
    terms = mixer.discretise(projected)
    k, q = mixer.turn(projected, terms.turns.cumsum(1))
    x = mixer.into_ranks(projected.x)
    h, before, ys = torch.zeros(2, 6, 4, 8).double(), torch.zeros(2, 6, 4, 8).double(), []
    for t in range(11):
        alpha, beta, gamma = (value[:, t, :, None, None] for value in (terms.alpha, terms.beta, terms.gamma))
        now = torch.einsum("brhp,brhn->bhpn", x[:, t], k[:, t])
        h, before = alpha * h + beta * before + gamma * now, now
        ys.append(torch.einsum("bhpn,brhn->brhp", h, q[:, t]))
    y = mixer.out(mixer.gate(mixer.skip(torch.stack(ys, 1), x), projected.z))
    assert relative_error(y, expected_of(mixer, u)[0]) <= 1e-12
    assert torch.all((terms.lam > 0) & (terms.lam < 1) & (terms.log_decay < 0))
    assert relative_error(terms.delta + terms.gamma, terms.dt) <= 1e-15


@siso_and_mimo
@pytest.mark.parametrize("packed", [False, True], ids=["one document", "documents"])
def test_gradients_are_those_of_finite_differences(fields: dict[str, Any], packed: bool) -> None:
    small = {"d_model": 2, "expand": 2, "headdim": 2, "d_state": 4, "chunk_size": 2}
    mixer = make_mixer({**fields, **small})
    names, weights = zip(*mixer.named_parameters(), strict=True)
    u, state = inputs_for(mixer, b=1, l=5).requires_grad_(), memory_for(mixer, 1)
    ids = torch.tensor([[0, 0, 1, 1, 1]]) if packed else None
    leaves = [part.requires_grad_() for part in state.tensors().values()]

    def compute(u: Tensor, *given: Tensor) -> Any:
        before = Mamba3State(*given[:4])
        weights = dict(zip(names, given[4:], strict=True))
        y, after = functional_call(mixer, weights, (u, before), {"document_ids": ids, "prefilled": True})
        return y, after.ssm_state, after.last_k

    mixer.forward = lambda u, state, prefilled, **more: mixer.prefill(u, state, **more)  # type: ignore[method-assign]
    assert torch.autograd.gradcheck(compute, (u, *leaves, *weights))


@siso_and_mimo
def test_second_derivatives_are_those_of_finite_differences(fields: dict[str, Any]) -> None:
    mixer = make_mixer({**fields, "d_model": 2, "expand": 1, "headdim": 2, "d_state": 4, "chunk_size": 2})
    u = inputs_for(mixer, b=1, l=3).requires_grad_()
    assert torch.autograd.gradgradcheck(mixer, (u,))
    assert torch.autograd.gradcheck(mixer, (u,), check_forward_ad=True, check_batched_grad=True)


# Padding and documents


@every_variant
@torch.no_grad()
def test_padding_on_the_right_changes_nothing_for_the_real_tokens(fields: dict[str, Any]) -> None:
    mixer = make_mixer(fields)
    lengths = [13, 1, 0, 7, 2, 12]
    u, before = inputs_for(mixer, b=6, l=13), memory_for(mixer, b=6)
    y, state = mixer.prefill(u, before, lengths=torch.tensor(lengths))
    for row, length in enumerate(lengths):
        own = slice(row, row + 1)
        expected = expected_of(mixer, u[own, :length], row_of(seen(mixer, before), row))
        assert worst_error((y[own, :length], *row_of(seen(mixer, state), row)), expected) <= 1e-12, length


@given(st.integers(1, 3), st.integers(1, 20), st.sampled_from(list(VARIANTS)), st.data())
@torch.no_grad()
def test_any_documents_and_padding_equal_each_document_alone(b: int, l: int, variant: str, data: st.DataObject) -> None:
    """Ids at padding are arbitrary: they must not restart what the row leaves behind."""
    mixer = make_mixer(VARIANTS[variant])
    u, before = inputs_for(mixer, b, l), memory_for(mixer, b)
    rows = [data.draw(st.lists(st.integers(0, 2), min_size=l, max_size=l), label="ids") for _ in range(b)]
    lengths = [data.draw(st.integers(0, l), label="length") for _ in range(b)]
    y, state = mixer.prefill(u, before, lengths=torch.tensor(lengths), document_ids=torch.tensor(rows))
    for row, length in enumerate(lengths):
        own, ids = slice(row, row + 1), rows[row][:length]
        starts = [t for t in range(length) if t == 0 or ids[t] != ids[t - 1]]
        left = row_of(seen(mixer, before), row)
        memory: oracle.Memory | None = left  # the first document goes on
        for start, stop in zip(starts, [*starts[1:], length], strict=False):
            expected, *left = expected_of(mixer, u[own, start:stop], memory)
            assert relative_error(y[own, start:stop], expected) <= 1e-12
            memory = None
        assert worst_error(row_of(seen(mixer, state), row), left) <= 1e-12


@siso_and_mimo
@torch.no_grad()
def test_what_follows_packed_documents_goes_on_from_the_last(fields: dict[str, Any]) -> None:
    mixer = make_mixer(fields)
    u = inputs_for(mixer, 1, 20)
    _, state = mixer.prefill(u[:, :15], document_ids=(torch.arange(15) // 6)[None])
    y, end = by_steps(mixer, u[:, 15:], state)
    expected = expected_of(mixer, u[:, 12:])
    assert worst_error(parts(mixer, (y, end)), (expected[0][:, 3:], *expected[1:])) <= 1e-12


# Precision of what is kept


def turning_mixer(turns_per_token: float) -> Mamba3:
    """Every angle turns by so much at a token, a little more or less, and the memory is as long as it may be.

    The first channel of the input is 1: weights of it are biases.
    """
    mixer = perturb(Mamba3(d_model=4, d_state=4, headdim=4, rope_fraction=1.0, A_floor=1e-5), size=0.3)
    h, s = mixer.config.nheads, mixer.config.angles
    with torch.no_grad():
        *_, dt, A, _, angle = mixer.in_proj.weight.split([*mixer.widths()])
        dt.fill_(0.1)
        A[:, 0] = -1e6  # at its floor
        angle.fill_(0.003)
        angle[:, 0] = torch.atanh(torch.tensor(2 * turns_per_token / 4))
        mixer.dt_bias.fill_(3.9)  # Delta about 4
    assert len(dt) == h and len(angle) == s
    return mixer


@pytest.mark.parametrize(("turns_per_token", "within"), [(0.05, 1e-4), (1.0, 1e-3)])
@torch.no_grad()
def test_a_memory_may_turn_for_thirty_thousand_tokens(turns_per_token: float, within: float) -> None:
    """With float32 weights and all of what came before in every output."""
    mixer = turning_mixer(turns_per_token)
    u = torch.randn(1, 32_768, 4)
    u[..., 0] = 1.0
    turns = mixer.discretise(mixer.project(u)).turns
    assert float(turns.mean()) == pytest.approx(turns_per_token, rel=0.05) and 0.003 < float(turns.std()) < 0.1
    expected = expected_of(mixer, u)
    found = mixer.prefill(u)
    assert worst_error(parts(mixer, found)[:2], expected[:2]) <= within
    assert float(found[1].turns.abs().max()) <= 0.5


@siso_and_mimo
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@torch.no_grad()
def test_half_precision_weights_leave_float32_states_near_those_of_float32(
    fields: dict[str, Any], dtype: torch.dtype
) -> None:
    mixer = make_mixer(fields, torch.float32).to(dtype).float()
    u = inputs_for(mixer, b=2, l=60).to(dtype)
    expected = mixer.prefill(u.float())
    mixer.to(dtype)
    for y, state in (mixer.prefill(u), by_steps(mixer, u, mixer.initial_state(2))):
        assert y.dtype == dtype
        assert all(part.dtype == torch.float32 for part in state.tensors().values())
        # angles, that add up what projections in half precision leave, are the coarsest part of it
        assert relative_error(y, expected[0]) <= 5e-2
        assert worst_error(seen(mixer, state), seen(mixer, expected[1])) <= 5e-2


@siso_and_mimo
@torch.no_grad()
def test_autocast_leaves_float32_states_near_those_without(fields: dict[str, Any]) -> None:
    mixer = make_mixer(fields, torch.float32)
    u = inputs_for(mixer, b=2, l=40)
    expected = mixer.prefill(u)
    with torch.autocast("cpu", torch.bfloat16):
        projected = mixer.project(u)
        assert projected.dt.dtype == torch.bfloat16  # so autocast is on
        assert mixer.discretise(projected).dt.dtype == torch.float32
        results = mixer.prefill(u), by_steps(mixer, u, mixer.initial_state(2))
    for y, state in results:
        assert all(part.dtype == torch.float32 for part in state.tensors().values())
        assert relative_error(y, expected[0]) <= 5e-2
        assert worst_error(seen(mixer, state), seen(mixer, expected[1])) <= 5e-2


# Compiled, and transformed


@siso_and_mimo
def test_compiled_it_has_no_break_and_gives_the_same_numbers(fields: dict[str, Any]) -> None:
    mixer = make_mixer(fields)
    u, ids = inputs_for(mixer, 2, 20).requires_grad_(), (torch.arange(20) // 7).expand(2, 20)
    torch.compiler.reset()
    prefill = torch.compile(mixer.prefill, backend="eager", fullgraph=True)
    step = torch.compile(mixer.step, backend="eager", fullgraph=True)
    y, state = prefill(u, document_ids=ids)
    expected, after = mixer.prefill(u, document_ids=ids)
    assert worst_error(parts(mixer, (y, state)), parts(mixer, (expected, after))) <= 1e-12
    of_compiled, own = (torch.autograd.grad(each.square().sum(), (u, *mixer.parameters())) for each in (y, expected))
    assert worst_error(of_compiled, own) <= 1e-12
    with torch.no_grad():
        found = step(u[:, 0], after.map(torch.Tensor.detach))
    assert worst_error(parts(mixer, found), parts(mixer, mixer.step(u[:, 0], after))) <= 1e-12


@torch.no_grad()
def test_compiled_steps_share_one_graph_wherever_the_state_comes_from() -> None:
    mixer = make_mixer(BOTH["mimo"])
    u = inputs_for(mixer, 2, 6)
    _, state = mixer.prefill(u[:, :3])
    torch.compiler.reset()
    counters.clear()
    step = torch.compile(mixer.step, backend="eager", fullgraph=True)
    for u_t in u[:, 3:].unbind(1):
        _, state = step(u_t, state)
    assert counters["stats"]["unique_graphs"] == 1


@siso_and_mimo
@torch.no_grad()
def test_a_state_is_not_a_view_that_keeps_the_whole_sequence(fields: dict[str, Any]) -> None:
    mixer = make_mixer(fields)
    _, state = mixer.prefill(inputs_for(mixer, 2, 500))
    for part in (*state.tensors().values(), *mixer.step(inputs_for(mixer, 2, 1)[:, 0], state)[1].tensors().values()):
        assert part.untyped_storage().nbytes() <= 8 * part.nbytes


@siso_and_mimo
def test_gradients_of_each_text_by_itself_and_forward_derivatives(fields: dict[str, Any]) -> None:
    mixer = make_mixer(fields)
    weights = {name: weight.detach().clone() for name, weight in mixer.named_parameters()}
    u, lengths, ids = inputs_for(mixer, 3, 9), torch.tensor([9, 4, 0]), torch.arange(9) // 4

    def loss(weights: dict[str, Tensor], u: Tensor, length: Tensor) -> Tensor:
        y = functional_call(mixer, weights, (u[None],), {"lengths": length[None], "document_ids": ids[None]})
        real = torch.arange(9)[:, None] < length
        return (y[0] * real).square().sum()

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns where it loops over what it cannot map
        found = vmap(grad(loss), in_dims=(None, 0, 0))(weights, u, lengths)
    for i in range(3):
        given = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
        expected = torch.autograd.grad(loss(given, u[i], lengths[i]), list(given.values()))
        assert worst_error([part[i] for part in found.values()], expected) <= 1e-11
    direction = torch.randn_like(u)
    _, forward = jvp(lambda u: mixer(u), (u,), (direction,))
    difference = (mixer(u + 1e-6 * direction) - mixer(u - 1e-6 * direction)) / 2e-6
    assert relative_error(forward, difference) <= 1e-7


# The official names and initialisation

OFFICIAL = {
    "siso": (
        {"d_model": 768},
        {
            "in_proj.weight": (3432, 768),
            "dt_bias": (24,),
            "B_bias": (24, 1, 128),
            "C_bias": (24, 1, 128),
            "B_norm.weight": (128,),
            "C_norm.weight": (128,),
            "D": (24,),
            "out_proj.weight": (768, 1536),
        },
    ),
    "mimo, output norm": (
        {"d_model": 768, "is_mimo": True, "is_outproj_norm": True, "rope_fraction": 1.0, "ngroups": 2},
        {
            "in_proj.weight": (5256, 768),
            "dt_bias": (24,),
            "B_bias": (24, 4, 128),
            "C_bias": (24, 4, 128),
            "B_norm.weight": (128,),
            "C_norm.weight": (128,),
            "mimo_x": (24, 4, 64),
            "mimo_z": (24, 4, 64),
            "mimo_o": (24, 4, 64),
            "D": (24,),
            "norm.weight": (1536,),
            "out_proj.weight": (768, 1536),
        },
    ),
}


@pytest.mark.parametrize(("fields", "shapes"), OFFICIAL.values(), ids=OFFICIAL)
def test_parameters_have_the_official_names_and_shapes(
    fields: dict[str, Any], shapes: dict[str, tuple[int, ...]]
) -> None:
    mixer = Mamba3(**fields, device="meta")
    assert {name: tuple(weight.shape) for name, weight in mixer.state_dict().items()} == shapes
    assert set(mixer.no_weight_decay) == {"dt_bias", "D"}


def test_parameters_start_as_the_official_ones_do() -> None:
    mixer = Mamba3(**SMALL, is_mimo=True, is_outproj_norm=True)
    for weight in (mixer.B_bias, mixer.C_bias, mixer.mimo_z, mixer.D, mixer.norm.weight, mixer.B_norm.weight):
        assert torch.equal(weight, torch.ones_like(weight))
    for weight in (mixer.mimo_x, mixer.mimo_o):
        assert torch.equal(weight, torch.full_like(weight, 0.25))
    assert mixer.B_norm.eps == mixer.C_norm.eps == mixer.norm.eps == 1e-5
    assert all(part.count_nonzero() == 0 for part in mixer.initial_state(2).tensors().values())


def test_dt_starts_log_uniform_between_dt_min_and_dt_max_and_not_below_its_floor() -> None:
    many = {"d_model": 1000, "headdim": 1, "d_state": 4}
    dt = F.softplus(Mamba3(**many, dt_min=0.01, dt_max=0.5).dt_bias.detach().double())
    uniform = scipy.stats.uniform(float(torch.tensor(0.01).log()), float(torch.tensor(50.0).log()))
    assert scipy.stats.kstest(dt.log().numpy(), uniform.cdf).pvalue > 0.01
    dt = F.softplus(Mamba3(**many, dt_init_floor=0.01).dt_bias.detach().double())
    assert abs(float(dt.min()) - 0.01) < 1e-6


# On mps


@siso_and_mimo
def test_every_operation_can_be_computed_on_mps(fields: dict[str, Any]) -> None:
    """Judged by the list of kernels that comes with torch; not run on Apple hardware."""
    mixer, recorder = make_mixer(fields, torch.float32), Recorder()
    u, lengths = inputs_for(mixer, 2, 40).requires_grad_(), torch.tensor([40, 7])
    with recorder, plainly(), torch.backends.mkldnn.flags(enabled=False):  # oneDNN is a CPU's
        y, state = mixer.prefill(u, lengths=lengths, document_ids=(torch.arange(40) // 9).expand(2, 40))
        y_t, _ = mixer.step(u[:, 0], state)
        torch.autograd.grad(y.sum() + y_t.sum(), (u, *mixer.parameters()))
        with torch.no_grad():
            by_steps(mixer, u, mixer.initial_state(2))
            mixer.to(torch.bfloat16).prefill(u.bfloat16())
    require_mps(recorder.seen)
    for name in ("mm", "cumsum", "cos", "round", "tanh"):
        assert name in recorder.seen, name


# Bad input


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"is_mimo": True, "mimo_rank": 0}, ValueError, "mimo_rank must be at least 1; got 0"),
        ({"mimo_rank": 2.0}, TypeError, "mimo_rank must be a whole number; got 2.0"),
        ({"rope_fraction": 0.25}, ValueError, "rope_fraction must be 0.5 or 1.0; got 0.25"),
        ({"rope_fraction": "half"}, TypeError, "rope_fraction must be a number; got 'half'"),
        ({"ngroups": 4}, ValueError, "ngroups must divide the number of heads, expand * d_model / headdim = 6; got 4"),
        ({"headdim": 7}, ValueError, "headdim must divide expand * d_model = 2 * 12 = 24; got 7"),
        ({"d_state": 7}, ValueError, "d_state must be even: its channels turn in pairs; got 7"),
        ({"d_state": 2}, ValueError, "d_state must be at least 4, so that"),
        ({"A_floor": 0.0}, ValueError, "A_floor must be a finite number above 0; got 0.0"),
        ({"A_activation": "relu"}, ValueError, "A_activation must be one of heavy_tail, softplus; got 'relu'"),
        ({"A_activation": None}, ValueError, "A_activation must be one of heavy_tail, softplus; got None"),
        ({"is_mimo": 1}, TypeError, "is_mimo must be True or False; got 1"),
        ({"dt_max": 1e-5}, ValueError, "dt_max must be at least dt_min = 0.001; got 1e-05"),
        ({"d_conv": 4}, ValueError, "unknown config field 'd_conv'"),
    ],
)
def test_wrong_fields_are_errors_that_say_what_is_expected(
    fields: dict[str, Any], error: type[Exception], message: str
) -> None:
    with raises(error, message):
        Mamba3(**{**SMALL, **fields})


def test_an_input_of_a_wrong_shape_is_an_error_that_says_which() -> None:
    mixer = make_mixer({})
    for shape in ((12,), (2, 12), (2, 5, 11), (1, 2, 5, 12)):
        with raises(ValueError, "u must have shape (b,l,12)", f"got {shape}"):
            mixer(torch.zeros(shape))
    for shape in ((12,), (2, 11), (2, 5, 12)):
        with raises(ValueError, "u must have shape (b,12)", f"got {shape}"):
            mixer.step(torch.zeros(shape), mixer.initial_state(2))


@pytest.mark.parametrize("part", ["ssm_state", "turns", "last_k", "last_x"])
def test_a_state_of_another_shape_is_an_error_that_says_which(part: str) -> None:
    mixer = make_mixer({"is_mimo": True})
    state = mixer.initial_state(2)
    wrong = dataclasses.replace(state, **{part: getattr(state, part)[:, :1]})
    shape = tuple(getattr(state, part).shape)
    for read, u in ((mixer.prefill, inputs_for(mixer, 2, 4)), (mixer.step, inputs_for(mixer, 2, 1)[:, 0])):
        with pytest.raises(ValueError, match=re.escape(f"state.{part} must have shape {shape}; got")):
            read(u, wrong)
