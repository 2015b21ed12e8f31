"""The scan of Mamba-1: against a float64 loop written independently, on every path."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.oracle import mamba1 as oracle
from support.oracle.mamba2 import raises, relative_error
from torch import Tensor
from torch.func import grad, hessian, jvp, vmap

from mamba2_lab import scan
from mamba2_lab.benchmark import peak_bytes
from mamba2_lab.fast import selective as tiles
from mamba2_lab.operation import plainly

TOLERANCE = 1e-6  # relative, in float32


class Inputs(NamedTuple):
    """Arguments of `selective`, in order."""

    x: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor
    initial_state: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        return Inputs(*map(change, self))

    def tokens(self, start: int, stop: int, state: Tensor | None) -> tuple[Tensor | None, ...]:
        x, dt, A, B, C, D, _ = self
        return x[:, start:stop], dt[:, start:stop], A, B[:, start:stop], C[:, start:stop], D, state


def inputs_of(l: int, *, b: int = 2, d: int = 5, n: int = 4, seed: int = 0, dtype=torch.float32) -> Inputs:
    """What Mamba-1 gives a scan at its official initialisation: A is -1..-n, dt log-uniform in 0.001..0.1."""
    draw = torch.Generator().manual_seed(1000 * seed + l)
    normal = functools.partial(torch.randn, generator=draw, dtype=torch.float64)
    dt = torch.exp(torch.empty(b, l, d, dtype=torch.float64).uniform_(-6.9, -2.3, generator=draw))
    A = -torch.arange(1.0, n + 1, dtype=torch.float64).repeat(d, 1)
    inputs = Inputs(normal(b, l, d), dt, A, normal(b, l, n), normal(b, l, n), normal(d), normal(b, d, n))
    return inputs.map(lambda tensor: tensor.to(dtype))


def as_defined(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    with plainly():
        return scan.selective(*args, **kwargs)


def as_on_a_gpu(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """In tiles of several stretches, as it is done elsewhere than on a CPU, gradients included."""
    return scan.selective(*args, **kwargs)


def stepwise(x, dt, A, B, C, D, state, document_ids=None) -> tuple[Tensor, Tensor]:
    ys = []
    for t in range(x.shape[1]):
        y_t, state = scan.selective_advance(x[:, t], dt[:, t], A, B[:, t], C[:, t], D, state)
        ys.append(y_t)
    return (torch.stack(ys, dim=1) if ys else x), state


WHOLE = {"as defined": as_defined, "tile by tile": scan.selective, "as on a GPU": as_on_a_gpu}
VARIANTS = {**WHOLE, "token by token": stepwise}


@pytest.fixture(autouse=True)
def tiles_as_elsewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if getattr(request.node, "callspec", None) and as_on_a_gpu in request.node.callspec.params.values():
        size = tiles.TOKENS_PER_STRETCH * tiles.STRETCHES_PER_TILE
        monkeypatch.setattr(tiles, "_tokens_per_tile", lambda device: size)


every_variant = pytest.mark.parametrize("compute", VARIANTS.values(), ids=VARIANTS)
every_whole_variant = pytest.mark.parametrize("compute", WHOLE.values(), ids=WHOLE)


def worst_error(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> float:
    return float(torch.tensor([relative_error(*pair) for pair in zip(found, expected, strict=True)]).max())


# Against the float64 loop


@every_variant
@pytest.mark.parametrize("l", [0, 1, 2, 15, 16, 17, 127, 128, 129, 300])
def test_every_variant_equals_the_float64_loop(compute: Callable, l: int) -> None:
    inputs = inputs_of(l, n=16)
    expected = oracle.selective(*inputs)
    found = compute(*inputs)
    assert found[0].dtype == found[1].dtype == torch.float32
    assert worst_error(found, expected) <= TOLERANCE
    exact = inputs_of(l, n=16, dtype=torch.float64)
    assert worst_error(compute(*exact), oracle.selective(*exact)) <= 1e-13


@every_whole_variant
def test_what_is_left_out_is_zero(compute: Callable) -> None:
    x, dt, A, B, C, *_ = inputs_of(20)
    assert worst_error(compute(x, dt, A, B, C), oracle.selective(x, dt, A, B, C)) <= TOLERANCE


@every_variant
def test_slow_channels_do_not_drift_when_every_token_has_the_same_dt(compute: Callable) -> None:
    inputs = inputs_of(1000, b=1, n=2)
    inputs = inputs._replace(dt=inputs.dt[:, :1].expand_as(inputs.dt))
    assert worst_error(compute(*inputs), oracle.selective(*inputs)) <= 5e-6


@every_variant
def test_extremes_of_decay_side_by_side_give_the_right_values(compute: Callable) -> None:
    """Forgetting everything, then nothing: differences of cumulated sums fail here."""
    inputs = inputs_of(200, n=8)
    kind = torch.randint(0, 3, inputs.dt.shape)
    inputs = inputs._replace(dt=torch.where(kind == 0, 500.0, torch.where(kind == 1, 0.0, inputs.dt)))
    assert worst_error(compute(*inputs), oracle.selective(*inputs)) <= TOLERANCE


@every_variant
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_inputs_leave_float32_states(compute: Callable, dtype: torch.dtype) -> None:
    inputs = inputs_of(100)
    halved = inputs._replace(**{name: getattr(inputs, name).to(dtype) for name in ("x", "B", "C")})
    y, state = compute(*halved)
    assert (y.dtype, state.dtype) == (dtype, torch.float32)
    assert relative_error(state, oracle.selective(*halved)[1]) <= TOLERANCE
    assert relative_error(y, oracle.selective(*halved)[0]) <= 4e-3  # one rounding


@every_variant
def test_autocast_changes_nothing(compute: Callable) -> None:
    inputs = inputs_of(40)
    expected = compute(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert (inputs.B @ inputs.C.mT).dtype == torch.bfloat16  # so autocast is on
        found = compute(*inputs)
    assert all(map(torch.equal, found, expected))


@every_variant
def test_the_given_tensors_are_left_as_they_were(compute: Callable) -> None:
    inputs = inputs_of(40)
    before = inputs.map(torch.clone)
    compute(*inputs)
    assert all(map(torch.equal, inputs, before))


# Splits and documents


@every_variant
def test_a_sequence_may_be_cut_anywhere_if_the_state_is_passed_on(compute: Callable) -> None:
    inputs = inputs_of(35)
    expected = oracle.selective(*inputs)
    for cut in range(36):
        first, state = compute(*inputs.tokens(0, cut, inputs.initial_state))
        second, state = compute(*inputs.tokens(cut, 35, state))
        assert worst_error((torch.cat([first, second], dim=1), state), expected) <= TOLERANCE, cut


def documents_alone(inputs: Inputs, document_ids: Tensor) -> tuple[Tensor, Tensor]:
    ys, states = [], []
    for row, ids in enumerate(document_ids.tolist()):
        own = Inputs(*(part if part.ndim < 3 else part[row : row + 1] for part in inputs))
        edges = [0, *(t for t in range(1, len(ids)) if ids[t] != ids[t - 1]), len(ids)]
        state, pieces = own.initial_state, []
        for start, stop in zip(edges, edges[1:], strict=False):
            y, state = oracle.selective(*own.tokens(start, stop, state if start == 0 else None))
            pieces.append(y)
        ys.append(torch.cat(pieces, dim=1))
        states.append(state)
    return torch.cat(ys), torch.cat(states)


@every_whole_variant
def test_packed_documents_equal_each_document_alone(compute: Callable) -> None:
    inputs = inputs_of(170)
    ids = torch.stack([torch.arange(170) // 16 % 3, torch.arange(170) // 47]).clone()
    ids[0, 100:103] = torch.tensor([8, 9, 8])  # documents of one token
    assert worst_error(compute(*inputs, document_ids=ids), documents_alone(inputs, ids)) <= TOLERANCE


@every_whole_variant
def test_nothing_at_all_leaks_into_the_next_document(compute: Callable) -> None:
    inputs = inputs_of(40)
    loud = inputs.map(torch.clone)
    for part in (loud.x, loud.B, loud.C):
        part[:, :21] *= 1e6
    loud.initial_state.mul_(1e6)
    loud.dt[:, :21] = 0.0
    ids = (torch.arange(40) >= 21).int().expand(2, 40)
    y, state = compute(*inputs, document_ids=ids)
    loud_y, loud_state = compute(*loud, document_ids=ids)
    assert relative_error(loud_y[:, 21:], y[:, 21:]) <= TOLERANCE
    assert relative_error(loud_state, state) <= TOLERANCE


@given(st.integers(1, 2), st.integers(0, 150), st.integers(1, 3), st.integers(1, 4), st.booleans(), st.data())
def test_any_shape_and_documents_equal_the_loop(
    b: int, l: int, d: int, n: int, elsewhere: bool, data: st.DataObject
) -> None:
    inputs = inputs_of(l, b=b, d=d, n=n, dtype=torch.float64)
    cuts = sorted(data.draw(st.lists(st.integers(0, l), max_size=4)))
    ids = torch.bucketize(torch.arange(l), torch.tensor(cuts, dtype=torch.long), right=True).expand(b, l)
    expected = documents_alone(inputs, ids) if l else (inputs.x, inputs.initial_state)
    size = tiles.TOKENS_PER_STRETCH * (tiles.STRETCHES_PER_TILE if elsewhere else 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "_tokens_per_tile", lambda device: size)
        assert worst_error(scan.selective(*inputs, document_ids=ids), expected) <= 1e-12


# Gradients


def small(l: int = 7) -> Inputs:
    return inputs_of(l, b=2, d=2, n=3, dtype=torch.float64)


def score(compute: Callable, *inputs: Tensor) -> Tensor:
    y, state = compute(*inputs)
    return y.square().sum() + state.sin().sum()


@every_whole_variant
@pytest.mark.parametrize("packed", [False, True], ids=["one document", "documents"])
def test_gradients_are_those_of_finite_differences(compute: Callable, packed: bool) -> None:
    inputs = inputs_of(18, b=1, d=1, n=2, dtype=torch.float64).map(Tensor.requires_grad_)
    ids = {"document_ids": (torch.arange(18) // 5).expand(1, 18)} if packed else {}
    assert torch.autograd.gradcheck(functools.partial(compute, **ids), tuple(inputs))


@every_whole_variant
def test_second_derivatives_are_those_of_finite_differences(compute: Callable) -> None:
    inputs = inputs_of(5, b=1, d=1, n=2, dtype=torch.float64).map(Tensor.requires_grad_)
    assert torch.autograd.gradgradcheck(compute, tuple(inputs))
    assert torch.autograd.gradcheck(compute, tuple(inputs), check_batched_grad=True, check_forward_ad=True)


@every_whole_variant
@pytest.mark.parametrize("part", [0, 1], ids=["y alone", "the state alone"])
def test_gradients_of_one_result_alone(compute: Callable, part: int) -> None:
    inputs = inputs_of(150, dtype=torch.float64).map(Tensor.requires_grad_)
    weights = torch.randn_like(compute(*inputs)[part])
    found = torch.autograd.grad((compute(*inputs)[part] * weights).sum(), inputs, allow_unused=True)
    expected = torch.autograd.grad((as_defined(*inputs)[part] * weights).sum(), inputs, allow_unused=True)
    for one, other in zip(found, expected, strict=True):
        if other is None:
            assert one is None or not one.count_nonzero()
        else:
            assert relative_error(one, other) <= 1e-12


def by_func(inputs: Inputs) -> Iterator[Tensor]:
    every = tuple(range(7))
    yield from grad(functools.partial(score, scan.selective), every)(*inputs)
    yield from jvp(scan.selective, tuple(inputs), tuple(map(torch.cos, inputs)))[1]
    yield hessian(functools.partial(score, scan.selective), 1)(*inputs)


def test_torch_func_gives_the_derivatives_of_the_definition() -> None:
    inputs = small()
    with plainly():
        expected = list(by_func(inputs))
    for one, other in zip(by_func(inputs), expected, strict=True):
        assert relative_error(one, other) <= 1e-12


def test_a_scan_maps_over_all_of_its_arguments_without_a_loop() -> None:
    pair = Inputs(*(torch.stack(both) for both in zip(small(), small().map(torch.cos), strict=True)))
    pair.A.copy_(-pair.A.abs())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns where it loops over what it cannot map
        found = vmap(scan.selective)(*pair)
    for row in (0, 1):
        expected = oracle.selective(*(part[row] for part in pair))
        assert worst_error((found[0][row], found[1][row]), expected) <= 1e-12


# What it costs


def test_the_states_of_all_tokens_are_never_held_at_once() -> None:
    l, d, n = 4096, 64, 16
    inputs = inputs_of(l, b=1, d=d, n=n)
    whole = 4 * l * d * n

    def train() -> None:
        given = inputs.map(lambda tensor: tensor.clone().requires_grad_())
        torch.autograd.grad(scan.selective(*given)[0].sum(), given, allow_unused=True)

    with torch.no_grad():
        assert peak_bytes(lambda: scan.selective(*inputs), "cpu") < whole / 4
    assert peak_bytes(train, "cpu") < whole


# Bad input


GOOD = {"x": (2, 5, 4), "dt": (2, 5, 4), "A": (4, 3), "B": (2, 5, 3), "C": (2, 5, 3), "D": (4,)}


def zeros(**changes: tuple[int, ...]) -> dict[str, Tensor]:
    return {name: torch.zeros(shape) for name, shape in {**GOOD, **changes}.items()}


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("x", (2, 5), "(b,l,d)"),
        ("dt", (2, 5, 3), "(2, 5, 4)"),
        ("A", (3, 4), "(d,n)"),
        ("B", (2, 5, 2), "(2, 5, 3)"),
        ("C", (1, 5, 3), "(2, 5, 3)"),
        ("D", (3,), "(4,)"),
        ("initial_state", (2, 3, 4), "(2, 4, 3)"),
    ],
    ids=str,
)
def test_a_wrong_shape_is_an_error_that_names_it(name: str, shape: tuple[int, ...], expected: str) -> None:
    with raises(ValueError, f"{name} must have shape", expected, f"got {shape}"):
        scan.selective(**zeros(**{name: shape}))


def test_wrong_dtypes_and_documents_are_errors_that_name_them() -> None:
    with raises(TypeError, "B must be floating point", "torch.int64"):
        scan.selective(**{**zeros(), "B": torch.zeros(2, 5, 3).long()})
    with raises(ValueError, "document_ids must have shape (b,l)", "got (2, 4)"):
        scan.selective(**zeros(), document_ids=torch.zeros(2, 4).long())
    with raises(TypeError, "document_ids must be integers"):
        scan.selective(**zeros(), document_ids=torch.zeros(2, 5))


def test_help_tells_what_may_be_given() -> None:
    told = list(inspect.signature(scan.selective).parameters)
    assert told == ["x", "dt", "A", "B", "C", "D", "initial_state", "document_ids"]
