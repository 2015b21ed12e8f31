"""The trapezoidal rule: `trapezoidal` and its step against the recurrence in numpy, for one rank and for several."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.oracle.mamba2 import raises, relative_error
from torch import Tensor

from mamba2_lab import scan
from mamba2_lab.operation import plainly
from mamba2_lab.scan import Written

every_rank = pytest.mark.parametrize("r", [1, 2, 3, 4, 7])
ids_of = torch.tensor([[0] * 6 + [1] + [0] * 100, [3] * 2 + [4] * 20 + [1] * 85])


def inputs(
    r: int, l: int, dtype: torch.dtype = torch.float64, b: int = 2, h: int = 3, p: int = 4, n: int = 5
) -> tuple[list[Tensor], Written]:
    x, B, C = (torch.randn(b, l, r, h, d, dtype=dtype) for d in (p, n, n))
    log_decay, gamma, delta = -0.3 * torch.rand(b, l, h, dtype=dtype), *torch.rand(2, b, l, h, dtype=dtype)
    state, last_x, last_B = torch.randn(b, h, p, n), torch.randn(b, r, h, p), torch.randn(b, r, h, n)
    return [x, log_decay, gamma, delta, B, C], Written(*(part.to(dtype) for part in (state, last_x, last_B)))


def expected_of(given: list[Tensor], before: Written, ids: Tensor | None = None) -> tuple[Tensor, Tensor]:
    x, log_decay, gamma, delta, B, C = (part.detach().double().numpy() for part in given)
    state, last_x, last_B = (part.detach().double().numpy() for part in before)
    last, ys = np.einsum("brhp,brhn->bhpn", last_x, last_B), np.zeros(x.shape)
    for t in range(x.shape[1]):
        if ids is not None and t > 0:
            new = (ids[:, t] != ids[:, t - 1]).numpy()
            state, last = np.where(new[:, None, None, None], 0, state), np.where(new[:, None, None, None], 0, last)
        now = np.einsum("brhp,brhn->bhpn", x[:, t], B[:, t])
        alpha, g, d = (part[:, t, :, None, None] for part in (np.exp(log_decay), gamma, delta))
        state, last = alpha * state + alpha * d * last + g * now, now
        ys[:, t] = np.einsum("bhpn,brhn->brhp", state, C[:, t])
    return torch.from_numpy(ys), torch.from_numpy(np.ascontiguousarray(state))


@every_rank
@pytest.mark.parametrize("chunk_size", [1, 3, 64])
@pytest.mark.parametrize("l", [0, 1, 2, 7, 107])
def test_it_is_the_recurrence(r: int, chunk_size: int, l: int) -> None:
    given, before = inputs(r, l)
    for ids in (None, ids_of[:, :l]):
        expected = expected_of(given, before, ids)
        found = scan.trapezoidal(*given, before, chunk_size, document_ids=ids)
        with plainly():
            plain = scan.trapezoidal(*given, before, chunk_size, document_ids=ids)
        for one in (found, plain):
            assert relative_error(one[0], expected[0]) <= 1e-13
            assert relative_error(one[1], expected[1]) <= 1e-13


@every_rank
def test_in_float32_it_is_within_rounding(r: int) -> None:
    given, before = inputs(r, 500, torch.float32)
    for found, expected in zip(scan.trapezoidal(*given, before), expected_of(given, before), strict=True):
        assert found.dtype == torch.float32
        assert relative_error(found, expected) <= 1e-6


@every_rank
def test_a_step_is_one_turn_of_it(r: int) -> None:
    given, before = inputs(r, 9)
    expected, final = expected_of(given, before)
    for t in range(9):
        x, log_decay, gamma, delta, B, C = (part[:, t] for part in given)
        y, state = scan.trapezoidal_step(x, log_decay, gamma, delta, B, C, before)
        assert relative_error(y, expected[:, t]) <= 1e-13
        before = Written(state, x, B)
    assert relative_error(before.state, final) <= 1e-13


@pytest.mark.parametrize("r", [1, 3])
def test_gradients_are_those_of_finite_differences(r: int) -> None:
    given, before = inputs(r, 4, b=1, h=2, p=2, n=2)
    compute = lambda *leaves: scan.trapezoidal(*leaves[:6], Written(*leaves[6:]), 2)  # noqa: E731
    leaves = [part.requires_grad_() for part in (*given, *before)]
    assert torch.autograd.gradcheck(compute, leaves)
    with plainly():
        assert torch.autograd.gradcheck(compute, leaves)


def test_a_decay_of_minus_infinity_forgets_everything() -> None:
    for r in (1, 2):
        given, before = inputs(r, 5)
        given[1][:, 3] = -torch.inf
        y, state = scan.trapezoidal(*given, before)
        expected, final = expected_of([part[:, 3:] for part in given], Written(*map(torch.zeros_like, before)))
        assert relative_error(y[:, 3:], expected) <= 1e-13
        assert relative_error(state, final) <= 1e-13


def test_wrong_arguments_are_errors_that_say_what_is_expected() -> None:
    given, before = inputs(2, 5)
    x, log_decay, gamma, delta, B, C = given
    with raises(ValueError, "gamma must have shape (b,l,h), here (2, 5, 3); got (2, 4, 3)"):
        scan.trapezoidal(x, log_decay, gamma[:, :4], delta, B, C, before)
    with raises(ValueError, "B must have shape (b,l,r,h,n), here (2, 5, 2, 3, 5); got (2, 5, 1, 3, 5)"):
        scan.trapezoidal(x, log_decay, gamma, delta, B[:, :, :1], C, before)
    with raises(ValueError, "before.x must have shape (b,r,h,p), here (2, 2, 3, 4); got (2, 1, 3, 4)"):
        scan.trapezoidal(*given, before._replace(x=before.x[:, :1]))
    with raises(TypeError, "C must be floating point; got torch.int64"):
        scan.trapezoidal(x, log_decay, gamma, delta, B, C.long(), before)
    with raises(TypeError, "document_ids must be integers; got torch.float32"):
        scan.trapezoidal(*given, before, document_ids=torch.zeros(2, 5))
    with raises(ValueError, "chunk_size must be at least 1; got 0"):
        scan.trapezoidal(*given, before, 0)
