"""What notebooks 01 and 02 build is what the package computes with: the same functions, in the shapes of Mamba-2."""

import torch

from mamba2_lab import scan
from mamba2_lab.course.exercises.a_memory_that_fades import discretise
from mamba2_lab.course.exercises.one_system_three_computations import (
    convolution,
    fft_convolution,
    kernel,
    sequential,
    step,
    toeplitz,
)

b, l, h, p, n = 2, 7, 3, 4, 5


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tokens() -> tuple[torch.Tensor, ...]:
    """x, dt, A, B, C of heads that share one group."""
    dt = drawn(b, l, h, seed=2).exp() / 10
    return drawn(b, l, h, p, seed=1), dt, -drawn(h, seed=3).exp(), drawn(b, l, 1, n, seed=4), drawn(b, l, 1, n, seed=5)


def test_step_of_notebook_02_is_that_of_the_package():
    x, dt, A, B, C = tokens()
    state = drawn(b, h, p, n, seed=6)
    x_dt, log_decay = discretise(x[:, 0], dt[:, 0, :, None], A[:, None])  # (b,h,p), (b,h,1)
    y, new_state = step(x_dt, log_decay[..., None], B[:, 0, :, None], C[:, 0, :, None], state)
    expected_y, expected_state = scan.step(x[:, 0] * dt[:, 0, :, None], dt[:, 0] * A, B[:, 0], C[:, 0], state)
    torch.testing.assert_close(y, expected_y)
    torch.testing.assert_close(new_state, expected_state)


def test_sequential_of_notebook_02_is_that_of_the_package():
    x, dt, A, B, C = tokens()
    state = drawn(b, h, p, n, seed=6)
    x_dt, log_decay = discretise(x, dt[..., None], A[:, None])
    time_first = [part.transpose(0, 1) for part in (x_dt, log_decay[..., None], B[..., None, :], C[..., None, :])]
    y, final_state = sequential(*time_first, state)
    expected_y, expected_state = scan.sequential(x * dt[..., None], dt * A, B, C, state)
    torch.testing.assert_close(y.transpose(0, 1), expected_y)
    torch.testing.assert_close(final_state, expected_state)


def test_the_three_computations_of_a_fixed_rule_agree_with_the_package():
    x, log_decay = drawn(l, seed=7), -drawn(n, seed=8).exp()
    B, C = drawn(n, seed=9), drawn(n, seed=10)
    as_heads = [row.view(1, 1, n, 1).expand(1, l, n, 1) for row in (B, C)]  # each barrel a head with a state of 1
    y, _ = scan.sequential(x.view(1, l, 1, 1).expand(1, l, n, 1), log_decay.expand(1, l, n), *as_heads)
    expected = y.sum(dim=(0, 2, 3))
    weights = kernel(log_decay, B, C, l)
    for computed in (convolution(x, weights), fft_convolution(x, weights), toeplitz(weights) @ x):
        torch.testing.assert_close(computed, expected)
