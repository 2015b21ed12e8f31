"""States that turn: both ways to compute them against numpy's complex numbers, one token after another."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.oracle.mamba2 import raises, relative_error
from torch import Tensor

from mamba2_lab.layers import turning, turning_in_reals

Compute = Callable[..., tuple[Tensor, Tensor]]
both = pytest.mark.parametrize("compute", [turning, turning_in_reals])


def inputs(l: int, dtype: torch.dtype = torch.float64, b: int = 2, h: int = 3, p: int = 4, n: int = 6) -> list[Tensor]:
    shapes = (b, l, h, p), (b, l, h), (b, l, h, n // 2), (b, l, h, n), (b, l, h, n), (b, h, p, n)
    x, log_decay, turns, B, C, state = (torch.randn(shape, dtype=dtype) for shape in shapes)
    return [x, -0.1 * log_decay.abs(), turns, B, C, state]


def expected_of(
    x: Tensor, log_decay: Tensor, turns: Tensor, B: Tensor, C: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    b, l, h, p = x.shape
    numbers = [part.double().numpy() for part in (x, log_decay, turns, B, C)]
    hidden = np.zeros((b, h, p, B.shape[-1] // 2), np.complex128)
    if state is not None:
        hidden = hidden + state.double().numpy()[..., 0::2] + 1j * state.double().numpy()[..., 1::2]
    y = np.zeros((b, l, h, p))
    for t in range(l):
        x_t, decay, turn, B_t, C_t = (part[:, t] for part in numbers)
        factor = np.exp(decay[..., None]) * (np.cos(2 * np.pi * turn) + 1j * np.sin(2 * np.pi * turn))
        hidden = factor[:, :, None] * hidden + x_t[..., None] * (B_t[..., 0::2] + 1j * B_t[..., 1::2])[:, :, None]
        y[:, t] = (hidden * (C_t[..., 0::2] - 1j * C_t[..., 1::2])[:, :, None]).sum(-1).real
    pairs = np.stack([hidden.real, hidden.imag], axis=-1).reshape(b, h, p, -1)
    return torch.from_numpy(y), torch.from_numpy(pairs)


@both
@pytest.mark.parametrize("l", [0, 1, 2, 70])
@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-13), (torch.float32, 2e-6)], ids=str)
def test_a_turning_state_is_a_complex_number(compute: Compute, l: int, dtype: torch.dtype, within: float) -> None:
    *given, state = inputs(l, dtype)
    for initial in (None, state):
        y, final = compute(*given, initial)
        expected_y, expected_state = expected_of(*given, initial)
        assert y.dtype == final.dtype == dtype
        assert relative_error(y, expected_y) <= within
        assert relative_error(final, expected_state) <= within


@torch.no_grad()
def test_each_goes_on_from_the_state_of_the_other() -> None:
    *given, state = inputs(9)
    expected, _ = expected_of(*given, state)
    for first, second in ((turning, turning_in_reals), (turning_in_reals, turning)):
        y, middle = first(*(part[:, :4] for part in given), state)
        z, _ = second(*(part[:, 4:] for part in given), middle)
        assert relative_error(torch.cat([y, z], dim=1), expected) <= 1e-13


@both
def test_gradients_are_those_of_finite_differences(compute: Compute) -> None:
    given = [part.requires_grad_() for part in inputs(3, b=1, h=2, p=2, n=4)]
    assert torch.autograd.gradcheck(compute, given)


@both
def test_wrong_arguments_are_errors_that_say_what_is_expected(compute: Compute) -> None:
    x, log_decay, turns, B, C, state = inputs(5)
    with raises(ValueError, "turns must have one angle for each pair of the 6 channels of B; got 2"):
        compute(x, log_decay, turns[..., :2], B, C)
    with raises(ValueError, "C must have shape (b,l,h,n), here (2, 5, 3, 6); got (2, 4, 3, 6)"):
        compute(x, log_decay, turns, B, C[:, :4])
    with raises(TypeError, "B must be floating point; got torch.int64"):
        compute(x, log_decay, turns, B.long(), C)
