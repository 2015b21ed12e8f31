"""The mixer of Mamba-1: against a float64 mixer written independently, and against transformers, on every path."""

from __future__ import annotations

import dataclasses
import math
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
from support.devices import DEVICE
from support.oracle import mamba1 as oracle
from support.oracle.mamba2 import perturb, raises, relative_error
from torch import Tensor
from torch.func import functional_call, grad, vmap

from mamba2_lab.config import Mamba1Fields
from mamba2_lab.layers import Mamba1, Mamba1State
from mamba2_lab.operation import plainly

SMALL = {"d_model": 12, "d_state": 5}
FALCON = {"b_c_dt_rms": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "biases": {"bias": True},
    "no convolution bias": {"conv_bias": False},
    "convolution of width 1": {"d_conv": 1},
    "convolution of width 2": {"d_conv": 2},
    "a rank of 5": {"dt_rank": 5},
    "norms": FALCON,
    "norms, another epsilon": {**FALCON, "b_c_dt_rms_eps": 0.1, "dt_rank": 3},
    "odd sizes": {"d_model": 15, "expand": 3, "d_state": 7, "dt_rank": 4},
    "one channel": {"d_model": 1, "expand": 1, "d_state": 1},
}
every_variant = pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)


def make_mixer(fields: dict[str, Any], dtype: torch.dtype = torch.float64) -> Mamba1:
    return perturb(Mamba1(**{**SMALL, **fields})).to(dtype)


def inputs_for(mixer: Mamba1, b: int, l: int) -> Tensor:
    return torch.randn(b, l, mixer.config.d_model, dtype=mixer.in_proj.weight.dtype)


def memory_for(mixer: Mamba1, b: int) -> Mamba1State:
    """A state that something has been read into."""
    return mixer.initial_state(b).map(torch.randn_like)


def expected_of(mixer: Mamba1, u: Tensor, before: Mamba1State | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """y, window and state from the float64 mixer."""
    eps = mixer.config.b_c_dt_rms_eps if mixer.config.b_c_dt_rms else None
    memory = None if before is None else oracle.Memory(before.conv_window, before.ssm_state)
    y, memory = oracle.mixer(mixer.state_dict(), u, memory, b_c_dt_rms_eps=eps)
    return y, *memory


def parts(result: tuple[Tensor, Mamba1State]) -> tuple[Tensor, Tensor, Tensor]:
    y, state = result
    return y, state.conv_window, state.ssm_state


def worst_error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    errors = [relative_error(one, other) for one, other in zip(found, expected, strict=True)]
    return float(torch.tensor(errors).max())


def by_steps(mixer: Mamba1, u: Tensor, state: Mamba1State) -> tuple[Tensor, Mamba1State]:
    ys = []
    for u_t in u.unbind(1):
        y_t, state = mixer.step(u_t, state)
        ys.append(y_t)
    return torch.stack(ys, dim=1), state


# Against the float64 mixer


@every_variant
@torch.no_grad()
def test_the_mixer_equals_the_float64_mixer(fields: dict[str, Any]) -> None:
    mixer = make_mixer(fields)
    u = inputs_for(mixer, b=2, l=37)
    expected = expected_of(mixer, u)
    assert worst_error(parts(mixer.prefill(u)), expected) <= 1e-9
    assert worst_error([mixer(u)], expected[:1]) <= 1e-9
    assert worst_error(parts(by_steps(mixer, u, mixer.initial_state(2))), expected) <= 1e-9


@every_variant
@torch.no_grad()
def test_the_mixer_in_float32_with_wild_weights_is_within_rounding(fields: dict[str, Any]) -> None:
    mixer = make_mixer(fields, torch.float32)
    u = inputs_for(mixer, b=2, l=37)
    expected = expected_of(mixer, u)
    assert worst_error(parts(mixer.prefill(u)), expected) <= 5e-6
    assert worst_error(parts(by_steps(mixer, u, mixer.initial_state(2))), expected) <= 5e-6


@pytest.mark.parametrize("fields", [{}, FALCON], ids=["plain", "norms"])
@torch.no_grad()
def test_the_mixer_in_float32_at_its_official_initialisation_is_within_rounding(fields: dict[str, Any]) -> None:
    mixer = Mamba1(d_model=32, **fields)
    u = inputs_for(mixer, b=1, l=600)
    expected = expected_of(mixer, u)
    assert worst_error(parts(mixer.prefill(u)), expected) <= 2e-6
    assert worst_error(parts(by_steps(mixer, u, mixer.initial_state(1))), expected) <= 2e-6


@every_variant
@torch.no_grad()
def test_a_sequence_cut_anywhere_and_continued_equals_the_float64_mixer(fields: dict[str, Any]) -> None:
    mixer = make_mixer(fields)
    u, before = inputs_for(mixer, b=2, l=19), memory_for(mixer, 2)
    expected = expected_of(mixer, u, before)
    for cut in range(20):
        first, state = mixer.prefill(u[:, :cut], before)
        for read in (mixer.prefill, lambda u, state: by_steps(mixer, u, state)) if cut < 19 else (mixer.prefill,):
            second, end = read(u[:, cut:], state)
            assert worst_error([torch.cat([first, second], 1), *parts((second, end))[1:]], expected) <= 1e-9, cut


@torch.no_grad()
def test_the_named_steps_in_a_row_are_the_float64_mixer() -> None:
    mixer = make_mixer(FALCON)
    u = inputs_for(mixer, b=2, l=21)
    inputs, z = mixer.project(u)
    x = mixer.convolve(inputs, mixer.initial_state(2).conv_window)
    dt, B, C = mixer.select(x)
    assert dt.min() > 0 and mixer.decay_rates().max() < 0
    y, _ = oracle.selective(x, dt, mixer.decay_rates(), B, C, mixer.D)
    assert relative_error(mixer.out(mixer.gate(y, z)), expected_of(mixer, u)[0]) <= 1e-9


@pytest.mark.parametrize("fields", [{}, FALCON], ids=["plain", "norms"])
def test_gradients_through_the_mixer_are_those_of_finite_differences(fields: dict[str, Any]) -> None:
    mixer = make_mixer({"d_model": 2, "d_state": 2, "dt_rank": 2, "b_c_dt_rms_eps": 0.1, **fields})
    names, weights = zip(*mixer.named_parameters(), strict=True)
    u = inputs_for(mixer, b=1, l=17).requires_grad_()

    def compute(u: Tensor, *weights: Tensor) -> Tensor:
        return functional_call(mixer, dict(zip(names, weights, strict=True)), (u,))

    assert torch.autograd.gradcheck(compute, (u, *weights))
    assert len(names) == 9


# Padding and documents


@every_variant
@torch.no_grad()
def test_ragged_rows_equal_each_row_alone(fields: dict[str, Any]) -> None:
    mixer = make_mixer(fields)
    lengths = [13, 1, 0, 7, 2, 12]
    u, before = inputs_for(mixer, b=6, l=13), memory_for(mixer, b=6)
    y, state = mixer.prefill(u, before, lengths=torch.tensor(lengths))
    for row, length in enumerate(lengths):
        own = slice(row, row + 1)
        expected = expected_of(mixer, u[own, :length], before.map(lambda part, own=own: part[own]))
        found = y[own, :length], state.conv_window[own], state.ssm_state[own]
        assert worst_error(found, expected) <= 1e-9, length


@given(st.integers(1, 3), st.integers(1, 20), st.integers(1, 5), st.booleans(), st.data())
@torch.no_grad()
def test_any_documents_and_padding_equal_each_document_alone(
    b: int, l: int, d_conv: int, norms: bool, data: st.DataObject
) -> None:
    """Ids at padding are arbitrary: they must not restart what the row leaves behind."""
    mixer = make_mixer({"d_conv": d_conv, "b_c_dt_rms": norms})
    u, before = inputs_for(mixer, b, l), memory_for(mixer, b)
    ids = [data.draw(st.lists(st.integers(0, 2), min_size=l, max_size=l), label="ids") for _ in range(b)]
    lengths = [data.draw(st.integers(0, l), label="length") for _ in range(b)]
    y, state = mixer.prefill(u, before, lengths=torch.tensor(lengths), document_ids=torch.tensor(ids))
    for row, length in enumerate(lengths):
        own = slice(row, row + 1)
        starts = [t for t in range(length) if t == 0 or ids[row][t] != ids[row][t - 1]]
        memory: Mamba1State | None = before.map(lambda part, own=own: part[own])
        window, ssm_state = memory.conv_window, memory.ssm_state
        for start, stop in zip(starts, [*starts[1:], length], strict=False):
            expected, window, ssm_state = expected_of(mixer, u[own, start:stop], memory)
            assert relative_error(y[own, start:stop], expected) <= 1e-9
            memory = None
        assert worst_error((state.conv_window[own], state.ssm_state[own]), (window, ssm_state)) <= 1e-9


# Precision of what is kept


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@torch.no_grad()
def test_half_precision_weights_leave_float32_states_near_those_of_float32(dtype: torch.dtype) -> None:
    """With memories of thousands of tokens: a decay in half precision would be exactly 1, and the state another."""
    mixer = make_mixer({}, torch.float32)
    mixer.dt_proj.weight.zero_()  # dt does not depend on the token
    mixer.dt_proj.bias.fill_(-7.0)
    mixer.A_log.fill_(-1.0)
    mixer.to(dtype).float()
    u = inputs_for(mixer, b=2, l=400).to(dtype)
    expected = mixer.prefill(u.float())
    mixer.to(dtype)
    for y, state in (mixer.prefill(u), by_steps(mixer, u, mixer.initial_state(2))):
        assert (y.dtype, state.conv_window.dtype, state.ssm_state.dtype) == (dtype, dtype, torch.float32)
        assert relative_error(state.ssm_state, expected[1].ssm_state) <= 2e-2
        assert relative_error(y, expected[0]) <= 4e-2


@torch.no_grad()
def test_autocast_leaves_float32_states_near_those_without() -> None:
    mixer = make_mixer({}, torch.float32)
    u = inputs_for(mixer, b=2, l=40)
    expected = mixer.prefill(u)
    with torch.autocast("cpu", torch.bfloat16):
        assert mixer.project(u)[0].dtype == torch.bfloat16  # so autocast is on
        results = mixer.prefill(u), by_steps(mixer, u, mixer.initial_state(2))
    for y, state in results:
        assert state.ssm_state.dtype == torch.float32
        assert relative_error(y, expected[0]) <= 5e-2
        assert relative_error(state.ssm_state, expected[1].ssm_state) <= 5e-2


# Compiled, transformed, elsewhere


def test_it_compiles_whole_and_gives_the_same_values_and_gradients() -> None:
    mixer = make_mixer(FALCON, torch.float32)
    u, rows = inputs_for(mixer, b=2, l=20), {"document_ids": (torch.arange(20) // 7).expand(2, 20)}
    rows["lengths"] = torch.tensor([20, 13])
    compiled = torch.compile(mixer.prefill, fullgraph=True, backend="aot_eager", dynamic=False)
    expected, found = (read(u, **rows) for read in (mixer.prefill, compiled))
    assert worst_error(parts(found), parts(expected)) <= 1e-6
    first, second = (torch.autograd.grad(y.square().sum(), list(mixer.parameters())) for y, _ in (expected, found))
    assert worst_error(second, first) <= 1e-5
    step = torch.compile(mixer.step, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        state = mixer.initial_state(2)
        found, expected = step(u[:, 0], state), mixer.step(u[:, 0], state)
    assert worst_error(parts(found), parts(expected)) <= 1e-6


def test_gradients_of_each_row_by_itself() -> None:
    mixer = make_mixer({})
    weights, u = dict(mixer.named_parameters()), inputs_for(mixer, b=3, l=9)
    loss = lambda weights, row: functional_call(mixer, weights, (row[None],)).square().sum()  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = vmap(grad(loss), in_dims=(None, 0))(weights, u)
    for row in range(3):
        expected = torch.autograd.grad(loss(weights, u[row]), list(weights.values()))
        assert worst_error([part[row] for part in found.values()], expected) <= 1e-9


@pytest.mark.parametrize("more", ["nothing", "lengths", "document_ids"])
def test_the_device_gives_the_numbers_of_the_cpu(more: str) -> None:
    """On the CPU: the faster ways beside the definitions."""
    mixer = make_mixer({**FALCON, "dt_rank": 3}, torch.float32)
    u = inputs_for(mixer, b=2, l=150)
    rows = {
        "nothing": {},
        "lengths": {"lengths": torch.tensor([150, 77])},
        "document_ids": {"document_ids": (torch.arange(150) // 40).expand(2, 150)},
    }[more]

    def numbers(device: torch.device | str) -> list[Tensor]:
        mixer.to(device)
        y, state = mixer.prefill(u.to(device), **{name: rows.to(device) for name, rows in rows.items()})
        y_t, end = mixer.step(u[:, 0].to(device), state)
        total = y.square().sum() + y_t.sum() + end.ssm_state.sin().sum()
        gradients = torch.autograd.grad(total, list(mixer.parameters()))
        return [part.detach().cpu() for part in (y, state.ssm_state, y_t, end.ssm_state, *gradients)]

    with plainly():
        expected = numbers("cpu")
    assert worst_error(numbers(DEVICE), expected) <= 1e-5


# Against transformers


def their_mixer(family: str, **changes: Any) -> tuple[Any, Any, Mamba1]:
    """Their model of one layer, the mixer in it with weights that are nowhere 0 or 1, and ours with the same."""
    transformers = pytest.importorskip("transformers")
    config_class, model_class = {
        "mamba": (transformers.MambaConfig, transformers.MambaModel),
        "falcon_mamba": (transformers.FalconMambaConfig, transformers.FalconMambaModel),
    }[family]
    fields = {"hidden_size": 24, "state_size": 8, "num_hidden_layers": 1, "vocab_size": 32, "time_step_rank": 3}
    model = model_class(config_class(**{**fields, **changes})).eval()
    theirs = perturb(model.layers[0].mixer)
    config = model.config
    norms = {"b_c_dt_rms": True, "b_c_dt_rms_eps": config.mixer_rms_eps} if family == "falcon_mamba" else {}
    ours = Mamba1(
        config.hidden_size, d_state=config.state_size, d_conv=config.conv_kernel, dt_rank=config.time_step_rank,
        expand=config.intermediate_size // config.hidden_size, bias=config.use_bias, conv_bias=config.use_conv_bias,
        **norms,
    )  # fmt: skip
    ours.load_state_dict(theirs.state_dict())
    return model, theirs, ours


@pytest.mark.parametrize("changes", [{}, {"use_bias": True, "use_conv_bias": False, "conv_kernel": 3}], ids=str)
@pytest.mark.parametrize("family", ["mamba", "falcon_mamba"])
def test_it_equals_the_mixer_of_transformers_with_the_same_weights(family: str, changes: dict[str, Any]) -> None:
    _, theirs, ours = their_mixer(family, **changes)
    u = torch.randn(2, 50, 24)
    expected, found = theirs(u), ours(u)
    assert relative_error(found, expected) <= 1e-5
    names = [name for name, _ in ours.named_parameters()]
    of_theirs = torch.autograd.grad(expected.square().sum(), [theirs.get_parameter(name) for name in names])
    of_ours = torch.autograd.grad(found.square().sum(), list(ours.parameters()))
    assert worst_error(of_ours, of_theirs) <= 1e-5


@torch.no_grad()
def test_falcon_mamba_may_call_its_width_16_and_mean_2() -> None:
    """Its published config has expand 16, hidden_size 4096 and intermediate_size 8192, which wins."""
    model, theirs, ours = their_mixer("falcon_mamba", expand=16, intermediate_size=48)
    assert (model.config.expand, ours.config.expand, ours.config.d_inner) == (16, 2, 48)
    u = torch.randn(1, 20, 24)
    assert relative_error(ours(u), theirs(u)) <= 1e-5


@pytest.mark.parametrize("family", ["mamba", "falcon_mamba"])
@torch.no_grad()
def test_a_cache_continued_by_one_token_equals_that_of_transformers(family: str) -> None:
    model, theirs, ours = their_mixer(family)
    u = torch.randn(2, 12, 24)
    expected, cache = continued(model, theirs, u, [8, 1, 1, 1, 1])
    assert relative_error(ours(u), expected) <= 1e-5
    first, state = ours.prefill(u[:, :8])
    found = torch.cat([first, by_steps(ours, u[:, 8:], state)[0]], dim=1)
    assert relative_error(found, expected) <= 1e-5


@pytest.mark.parametrize("family", ["mamba", "falcon_mamba"])
@torch.no_grad()
def test_a_cache_continued_by_several_tokens_equals_the_float64_mixer_where_transformers_starts_anew(
    family: str,
) -> None:
    model, theirs, ours = their_mixer(family)
    u = torch.randn(2, 12, 24)
    expected = expected_of(ours, u)[0]
    first, state = ours.prefill(u[:, :8])
    second, _ = ours.prefill(u[:, 8:], state)
    assert relative_error(torch.cat([first, second], dim=1), expected) <= 5e-6
    of_theirs = continued(model, theirs, u, [8, 4])[0][:, 8:]
    if relative_error(of_theirs, expected[:, 8:]) <= 1e-5:
        pytest.skip("this transformers continues a cache by several tokens")
    # Its window goes on, its state is zero again.
    forgetful = dataclasses.replace(state, ssm_state=torch.zeros_like(state.ssm_state))
    assert relative_error(of_theirs, ours.prefill(u[:, 8:], forgetful)[0]) <= 1e-5


def continued(model: Any, mixer: Any, u: Tensor, pieces: list[int]) -> tuple[Tensor, Any]:
    """What their mixer makes of u, read piece by piece with one cache."""
    transformers = pytest.importorskip("transformers")
    cache = transformers.DynamicCache(config=model.config)
    return torch.cat([mixer(piece, cache_params=cache) for piece in u.split(pieces, dim=1)], dim=1), cache


# The official initialisation


def p_value_uniform(values: Tensor, low: float, high: float) -> float:
    return float(scipy.stats.kstest(values.detach().flatten().numpy(), scipy.stats.uniform(low, high - low).cdf).pvalue)


@pytest.mark.parametrize(("low", "high"), [(0.001, 0.1), (0.01, 0.5)])
def test_dt_starts_log_uniform_and_a_as_minus_one_to_minus_n(low: float, high: float) -> None:
    mixer = Mamba1(500, d_state=7, dt_min=low, dt_max=high)
    dt = F.softplus(mixer.dt_proj.bias.detach().double())
    assert p_value_uniform(dt.log(), math.log(low), math.log(high)) > 0.01
    assert torch.allclose(mixer.decay_rates(), -torch.arange(1.0, 8).expand(1000, 7))
    assert torch.equal(mixer.D, torch.ones(1000))
    floored = F.softplus(Mamba1(500, dt_min=1e-6, dt_init_floor=0.01).dt_proj.bias.detach().double())
    assert abs(float(floored.min()) - 0.01) < 1e-6


def test_the_matrix_of_step_sizes_starts_with_the_size_that_its_rank_and_scale_say() -> None:
    assert p_value_uniform(Mamba1(500, dt_rank=4, dt_scale=3.0).dt_proj.weight, -1.5, 1.5) > 0.01
    constant = Mamba1(500, dt_rank=16, dt_init="constant").dt_proj.weight
    assert torch.equal(constant, torch.full_like(constant, 0.25))


def test_weights_have_the_official_names_and_shapes() -> None:
    mixer = Mamba1(40, bias=True, device="meta")
    assert {name: tuple(weight.shape) for name, weight in mixer.state_dict().items()} == {
        "in_proj.weight": (160, 40), "in_proj.bias": (160,), "conv1d.weight": (80, 1, 4), "conv1d.bias": (80,),
        "x_proj.weight": (35, 80), "dt_proj.weight": (80, 3), "dt_proj.bias": (80,), "A_log": (80, 16), "D": (80,),
        "out_proj.weight": (40, 80), "out_proj.bias": (40,),
    }  # fmt: skip


def test_weights_that_set_time_scales_are_named_for_the_optimiser() -> None:
    mixer = Mamba1(**SMALL)
    spared = {
        f"{path}.{name}".lstrip(".")
        for path, module in mixer.named_modules()
        for name in getattr(module, "no_weight_decay", ())
    }
    assert spared == {"A_log", "D", "dt_proj.bias"} <= {name for name, _ in mixer.named_parameters()}


# Bad input


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"dt_rank": 0}, ValueError, "dt_rank must be at least 1; got 0"),
        ({"dt_rank": "two"}, TypeError, "dt_rank must be a whole number or 'auto'; got 'two'"),
        ({"dt_rank": 2.0}, TypeError, "dt_rank must be a whole number or 'auto'; got 2.0"),
        ({"dt_rank": True}, TypeError, "dt_rank must be a whole number or 'auto'; got True"),
        ({"dt_init": "normal"}, ValueError, "dt_init must be one of random, constant; got 'normal'"),
        ({"dt_init": 3}, ValueError, "dt_init must be one of random, constant; got 3"),
        ({"dt_scale": 0.0}, ValueError, "dt_scale must be a finite number above 0; got 0.0"),
        ({"dt_max": 1e-4}, ValueError, "dt_max must be at least `dt_min` = 0.001".replace("`", "")),
        ({"b_c_dt_rms": 1}, TypeError, "b_c_dt_rms must be True or False; got 1"),
        ({"headdim": 4}, ValueError, "unknown config field 'headdim'"),
    ],
    ids=str,
)
def test_a_field_that_cannot_be_is_an_error_that_names_it(fields: dict, error: type[Exception], words: str) -> None:
    with raises(error, words):
        Mamba1(**{**SMALL, **fields})


def test_fields_survive_a_dictionary_and_an_automatic_rank_follows_the_width() -> None:
    fields = Mamba1Fields(d_model=40)
    assert (fields.rank, Mamba1Fields(d_model=48).rank, Mamba1Fields(dt_rank=7).rank) == (3, 3, 7)
    assert Mamba1Fields.from_dict(fields.to_dict()) == fields
    assert Mamba1Fields.from_dict({**fields.to_dict(), "d_model": 400}).rank == 25


@pytest.mark.parametrize("shape", [(12,), (2, 12), (2, 5, 11)], ids=str)
def test_an_input_of_a_wrong_shape_is_an_error_that_says_which(shape: tuple[int, ...]) -> None:
    mixer = make_mixer({})
    with raises(ValueError, "u must have shape (b,l,12)", f"got {shape}"):
        mixer(torch.zeros(shape))
    if shape != (2, 12):
        with raises(ValueError, "u must have shape (b,12)", f"got {shape}"):
            mixer.step(torch.zeros(shape), mixer.initial_state(2))


@pytest.mark.parametrize("part", ["conv_window", "ssm_state"])
def test_a_state_of_another_shape_is_an_error_that_says_which(part: str) -> None:
    mixer = make_mixer({})
    state = mixer.initial_state(2)
    wrong = dataclasses.replace(state, **{part: getattr(state, part)[:, :1]})
    shape = tuple(getattr(state, part).shape)
    for read, u in ((mixer.prefill, inputs_for(mixer, 2, 4)), (mixer.step, inputs_for(mixer, 2, 1)[:, 0])):
        with pytest.raises(ValueError, match=re.escape(f"state.{part} must have shape {shape}; got")):
            read(u, wrong)
